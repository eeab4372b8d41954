"""Models on disk: folders of our own, and checkpoints in the format published with the MoTE paper.

A model folder holds `model.safetensors` (all parameters, and tensors that belong to them such as `tuned_text`) and
`model.json`: the sizes of the model, the architecture of its visual tower (so that it is rebuilt without a download),
the CLIP whose text tower belongs to it (`backbone`, `pretrained`), class names and templates, and `widths` where
units or heads were removed. A shared folder may hold the CLIP's weights too, in a file that `backbone_file` names; it
is `pretrained` then. Where the text tower was tuned, `text.safetensors` holds its weights. A single file
`NAME.safetensors` is the same with that JSON in its metadata, under "model", and without a text tower. The files of a
folder are replaced together. The published format is described in `reference`.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from mote.files.addresses import one_line
from mote.files.preprocessing import AS_CLIP, EARLIER, Preprocessing, read_preprocessing
from mote.files.run_directory import DESCRIPTION, TEXT, WEIGHTS, check_model_files, model_files, parse_description
from mote.files.writing import replacing, replacing_together
from mote.models.description import VideoDescription, check_description
from mote.models.narrow import narrow
from mote.models.old_names import renamed
from mote.models.reference import read_reference
from mote.models.temporal import HeadSizes, TemporalHead
from mote.models.tensor_files import Tensors, check_names, check_tensors, filled, on_cpu
from mote.models.video_clip import VideoCLIP
from mote.models.visual import build_visual, describe_visual

NO_HEAD = {"num_experts": 1, "num_heads": 1, "ln_eps": 1e-5, "ffn_ratio": 4, "max_frames": 77}  # written for L = 0
UNIT = 0.02  # how far from 1 the length of a class feature, or the sum of the shares of experts, may be by rounding
TENSORS = ("tuned_text", "text", "merge_routing")  # what may lie beside the parameters


@dataclass(frozen=True)
class LoadedModel:
    """A model from disk, in evaluation mode on the CPU, and what belongs to it.

    `tuned_text`: features of the fine-tuning classes, for temporal feature modulation; where `meta` says `fitted`,
    what was fitted to videos in their place, of any length. `classes`: their names,
    where known. `meta`: the content of `model.json`; its `backbone` and `pretrained` name the CLIP with the
    text tower (None: not known). `merge_routing`: how to merge the experts (None: uniformly). `text`: features of
    the names in `meta["labels"]`, which an exported model chooses among. `text_weights`: the file for `load_text`
    where the text tower was tuned.
    """

    model: VideoCLIP
    tuned_text: Float[Tensor, "F D"] | None
    classes: list[str] | None
    meta: dict[str, Any]
    merge_routing: Float[Tensor, "L E"] | None = None
    text: Float[Tensor, "K D"] | None = None
    text_weights: Path | None = None


def save_model(
    folder: Path | str,
    model: VideoCLIP,
    meta: Mapping[str, object],
    tensors: Mapping[str, Tensor] | None = None,
    notes: Mapping[str, str] | None = None,
    text_tower: nn.Module | None = None,
) -> None:
    """Write `model.safetensors` and `model.json` into `folder`, all or nothing; or one file.

    Args:
        folder: made when missing; an older model in it is replaced. With a name in .safetensors it is one file instead.
        model: what to save, not wrapped for distributed training.
        meta: JSON values for `model.json`; needs `backbone` (a name for `load_backbone`) or `architecture` (as
            in the `meta` of a loaded model). Useful: `pretrained`, `classes`, `templates`.
        tensors: `tuned_text` (F, D), `text` (K, D) and `merge_routing` (L, E), all optional.
        notes: more text for the metadata of the safetensors file.
        text_tower: the text tower (without adapters) where it is not that of `clip`.

    Raises:
        ValueError: for unknown tensors, or when `meta` does not say how to rebuild the visual tower.
    """
    tensors = dict(tensors or {})
    if unknown := set(tensors) - set(TENSORS):
        raise ValueError(f"cannot save the tensors {', '.join(sorted(unknown))}; expected {', '.join(TENSORS)}")
    meta = {**meta, **_sizes(model), **({"widths": model.widths} if model.widths else {})}
    meta |= {"text_tuned": text_tower is not None or bool(meta.get("text_tuned"))}
    backbone = meta.get("backbone")
    described = meta.get("architecture") or describe_visual(None if backbone is None else str(backbone), model.visual)
    meta["architecture"] = described
    weights, description = model_files(folder)
    weights.parent.mkdir(parents=True, exist_ok=True)
    state = on_cpu({**model.state_dict(), **tensors})
    text = json.dumps(meta, indent=2) + "\n"  # fails before anything is written
    notes = {**(notes or {}), **({"model": text} if description is None else {})}
    if description is None:
        with replacing(weights) as temporary:
            save_file(state, temporary, notes or None)
        return
    words = None if text_tower is None else on_cpu(text_tower.state_dict())
    with replacing_together(weights.parent) as stage:
        save_file(state, stage / WEIGHTS, notes or None)
        (stage / DESCRIPTION).write_text(text, encoding="utf-8")
        if words is not None:
            save_file(words, stage / TEXT)


def load_model(folder: Path | str) -> LoadedModel:
    """Rebuild a model written by `save_model`, a folder or a file; needs no network.

    Raises:
        FileNotFoundError: when one of the two files is missing.
        ValueError: when one of them is damaged or they do not fit together; the message names the file.
    """
    check_model_files(folder)
    weights, description = model_files(folder)
    state, place = Tensors(weights), description or weights
    try:
        meta = parse_description(
            state.metadata.get("model", "{}") if description is None else description.read_text(encoding="utf-8")
        )
    except ValueError as error:
        raise ValueError(f"{place}: damaged ({error}); expected the JSON object that save_model writes") from None
    extra = state.take(TENSORS)
    check_description(VideoDescription, meta, place, len(state))
    if (backbone_file := meta.pop("backbone_file", None)) is not None:
        meta["pretrained"] = str(weights.parent / Path(backbone_file).name)
    if "preprocessing" not in meta:
        warnings.warn(f"{place}: {EARLIER}", stacklevel=2)
    model = filled(partial(_build, _read_sizes(meta)), state, weights, place)
    _check_extra(extra, meta, model, weights)
    return LoadedModel(
        model,
        extra.get("tuned_text"),
        meta.get("classes"),
        meta,
        extra.get("merge_routing"),
        extra.get("text"),
        weights.parent / TEXT if meta.get("text_tuned") else None,
    )


def _check_extra(extra: Mapping[str, Tensor], meta: Mapping[str, Any], model: VideoCLIP, path: Path) -> None:
    """Check the tensors beside the parameters: one row for each name, rows of length 1, experts in shares."""
    parts = 2 if model.expert_part == "separate" else 1
    shapes = {"merge_routing": (model.num_layers, parts * model.num_experts)}
    for name, key in (("tuned_text", "classes"), ("text", "labels")):
        found = extra.get(name, torch.empty(1))
        shapes[name] = (len(meta.get(key) or (found if found.ndim else "1")), model.embed_dim)
    if "text" in extra and not (meta.get("labels") and meta.get("templates")):
        raise ValueError(f"{path}: holds class features `text`, but there are no labels or templates they belong to")
    check_names({name for name, tensor in extra.items() if not tensor.numel()}, "without numbers", path)
    check_tensors(extra, {name: torch.empty(shapes[name], device="meta") for name in extra}, path)
    for name, tensor in extra.items():
        rows = tensor.double()
        routing = name == "merge_routing"
        if name == "tuned_text" and meta.get("fitted") and rows.isfinite().all():
            continue  # weights of a linear probe have any length
        sums = rows.unflatten(1, (parts, -1)).sum(2) if routing else rows.norm(dim=1)
        if (sums - 1).abs().max() > UNIT or (routing and rows.min() < 0):
            what, found = "sum to 1" if routing else "have length 1", f"{sums.min():.3g} to {sums.max():.3g}"
            raise ValueError(f"{path}: tensor {name}: expected rows that {what}, got {found}")


def load_text(path: Path, tower: nn.Module) -> None:
    """Fill a text tower with the tuned weights of `text.safetensors`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or of another tower.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; the model beside it was trained with this text tower")
    state = {renamed("clip", "backbone", name): tensor for name, tensor in Tensors(path).items()}
    check_tensors(state, tower.state_dict(), path)
    tower.load_state_dict(state)


def is_reference_checkpoint(path: Path | str) -> bool:
    """Whether the name is that of a pickled checkpoint (.pt or .pth), the published format."""
    return Path(path).suffix in {".pt", ".pth"}


def load_reference(path: Path | str) -> LoadedModel:
    """Load a checkpoint in the published format, experts still stacked; any sizes, any number of classes.

    Merge the experts by `merge_routing`, as in `loaded.model.fold(loaded.merge_routing)`.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is of another kind, or names or shapes do not fit the format; the message lists them.
    """
    path = Path(path)
    found = read_reference(path)
    statistics = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    sizes = Sizes(found.architecture, found.embed_dim, *statistics, found.head, {}, None)
    model = filled(partial(_build, sizes), found.state, path, path)
    meta = {"backbone": found.backbone, "pretrained": found.backbone and "openai", "architecture": found.architecture}
    meta |= {"classes": None, **_sizes(model)}
    return LoadedModel(model, found.tuned_text, None, meta, found.merge_routing)


class Sizes(NamedTuple):
    """What rebuilds a `VideoCLIP`: open_clip's config of the visual tower, D, statistics of pixels, sizes of the
    temporal head (None without one), what is left where something was removed, and pixels of its images where known.
    """

    architecture: Mapping[str, object]
    embed_dim: int
    mean: Sequence[float]
    std: Sequence[float]
    head: HeadSizes | None
    widths: Mapping[str, int]
    size: int | None
    preprocessing: Preprocessing = AS_CLIP


def _sizes(model: VideoCLIP) -> dict[str, object]:
    """The sizes of a model as `model.json` holds them."""
    statistics = {name: [float(x) for x in getattr(model, name).flatten()] for name in ("mean", "std")}
    sizes = {"embed_dim": model.embed_dim, "num_layers": model.num_layers, **statistics}
    sizes["preprocessing"] = model.preprocessing._asdict()
    return {**sizes, **(NO_HEAD if model.temporal is None else model.temporal.sizes()._asdict())}


def _read_sizes(meta: Mapping[str, Any]) -> Sizes:
    """The sizes in the content of a `model.json`."""
    meta = {"expert_part": "ffn", **meta}  # models saved before there was a choice
    head = HeadSizes(**{name: meta[name] for name in HeadSizes._fields})
    place = meta["architecture"], meta["embed_dim"], meta["mean"], meta["std"]
    narrowed = meta.get("widths") or {}
    return Sizes(*place, head if head.num_layers else None, narrowed, meta.get("size"), read_preprocessing(meta))


def _build(sizes: Sizes, device: str) -> VideoCLIP:
    """A model of these sizes, its initial weights drawn without a trace in torch's generator."""
    with torch.random.fork_rng(devices=[]), torch.device(device):
        visual = build_visual(sizes.architecture, device)
        temporal = None if sizes.head is None else TemporalHead(sizes.embed_dim, **sizes.head._asdict())
    pixels = {"mean": sizes.mean, "std": sizes.std, "preprocessing": sizes.preprocessing}
    model = VideoCLIP(visual, torch.zeros(()), temporal, embed_dim=sizes.embed_dim, **pixels)
    if sizes.widths:
        narrow(model, {name: torch.arange(width) for name, width in sizes.widths.items()})
    if sizes.size is not None and device == "meta":  # a forward pass that costs nothing
        _check_size(model.eval(), sizes.size)
    return model


@torch.no_grad()
def _check_size(model: VideoCLIP, size: int) -> None:
    """Check on a model without memory that its visual tower takes images of `size` pixels; raises ValueError."""
    try:
        given = tuple(model.visual(torch.empty(1, 3, size, size, device="meta")).shape)
    except Exception as error:
        raise ValueError(f"size {size}: the visual tower takes no such images ({one_line(error)})") from None
    if given != (1, model.embed_dim):
        raise ValueError(f"the visual tower gives features {given}, expected (1, {model.embed_dim})")

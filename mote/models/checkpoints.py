"""Models on disk: folders of our own, and checkpoints in the format published with the MoTE paper.

A model folder holds `model.safetensors` (all parameters, and tensors that belong to them such as `tuned_text`) and
`model.json`: the sizes of the model, the architecture of its visual tower (so that it is rebuilt without a download),
the CLIP whose text tower belongs to it (`backbone`, `pretrained`), class names and templates, and `widths` where
units or heads were removed. A shared folder may hold the CLIP's weights too, in a file that `backbone_file` names; it
is `pretrained` then. Where the text tower was tuned, `text.safetensors` holds its weights. A single file
`NAME.safetensors` is the same with that JSON in its metadata, under "model", and without a text tower. Each file is
written under a temporary name and renamed. The published format is described in `reference`.
"""

import hashlib
import json
import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import open_clip
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mote.files.preprocessing import AS_CLIP, EARLIER, Preprocessing, read_preprocessing
from mote.files.run_directory import DESCRIPTION, TEXT, WEIGHTS, parse_description
from mote.files.writing import replacing, write_atomic
from mote.models.narrow import narrow
from mote.models.reference import check_names, read_reference
from mote.models.temporal import HeadSizes, TemporalHead
from mote.models.tensor_files import Tensors, on_cpu
from mote.models.video_clip import VideoCLIP

NO_HEAD = {"num_experts": 1, "num_heads": 1, "ln_eps": 1e-5, "ffn_ratio": 4, "max_frames": 77}  # written for L = 0
TENSORS = ("tuned_text", "text", "merge_routing")  # what may lie beside the parameters


@dataclass(frozen=True)
class LoadedModel:
    """A model from disk, in evaluation mode on the CPU, and what belongs to it.

    `tuned_text`: features of the fine-tuning classes, for temporal feature modulation. `classes`: their names,
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
    """Write `model.safetensors` and `model.json` into `folder`, each whole or not at all; or one file.

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
    described = meta.get("architecture") or _architecture(None if backbone is None else str(backbone), model.visual)
    meta["architecture"] = described
    weights, description = _places(folder)
    weights.parent.mkdir(parents=True, exist_ok=True)
    state = on_cpu({**model.state_dict(), **tensors})
    text = json.dumps(meta, indent=2) + "\n"  # fails before anything is written
    notes = {**(notes or {}), **({"model": text} if description is None else {})}
    if text_tower is not None:
        words = on_cpu(text_tower.state_dict())
        with replacing(weights.parent / TEXT) as temporary:
            save_file(words, temporary)
    with replacing(weights) as temporary:
        save_file(state, temporary, notes or None)
    if description is not None:
        write_atomic(description, text)


def load_model(folder: Path | str) -> LoadedModel:
    """Rebuild a model written by `save_model`, a folder or a file; needs no network.

    Raises:
        FileNotFoundError: when one of the two files is missing.
        ValueError: when one of them is damaged or they do not fit together; the message names the file.
    """
    weights, description = _places(folder)
    for path in (description, weights):
        if path is not None and not path.is_file():
            hint = f"; a model folder holds {DESCRIPTION} and {WEIGHTS}" if description is not None else ""
            raise FileNotFoundError(f"{path}: not found{hint}")
    try:
        meta = parse_description(_metadata(weights) if description is None else description.read_text(encoding="utf-8"))
        sizes, architecture = _read_sizes(meta), meta["architecture"]
        if "backbone_file" in meta:
            meta["pretrained"] = str(weights.parent / Path(meta.pop("backbone_file")).name)
    except SafetensorError as error:
        raise ValueError(f"{weights}: damaged ({error}); expected safetensors written by save_model") from None
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{description or weights}: damaged ({error}); expected the JSON object that save_model writes"
        ) from None
    except KeyError as error:
        raise ValueError(
            f"{description or weights}: the key {error} is missing; expected what save_model writes"
        ) from None
    try:
        state = Tensors(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights}: damaged ({error}); expected safetensors written by save_model") from None
    if "preprocessing" not in meta:
        warnings.warn(f"{description or weights}: {EARLIER}", stacklevel=2)
    extra = {name: state[name].clone() for name in state.leave_out(TENSORS)}
    model = _rebuild(architecture, sizes, state, weights, meta.get("widths"))
    return LoadedModel(
        model,
        extra.get("tuned_text"),
        meta.get("classes"),
        meta,
        extra.get("merge_routing"),
        extra.get("text"),
        weights.parent / TEXT if meta.get("text_tuned") else None,
    )


def load_text(path: Path, tower: nn.Module) -> None:
    """Fill a text tower with the tuned weights of `text.safetensors`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or of another tower.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; the model beside it was trained with this text tower")
    try:
        tower.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        problem = " ".join(str(error).split())[:300]
        raise ValueError(f"{path}: does not hold the weights of this text tower: {problem}") from None


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
    sizes = Sizes(found.embed_dim, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD, found.head)
    model = _rebuild(found.architecture, sizes, found.state, path)
    meta = {"backbone": found.backbone, "pretrained": found.backbone and "openai", "architecture": found.architecture}
    meta |= {"classes": None, **_sizes(model)}
    return LoadedModel(model, found.tuned_text, None, meta, found.merge_routing)


def build_visual(architecture: Mapping[str, object]) -> nn.Module:
    """A visual tower with random weights from open_clip's factory, without its text tower.

    Args:
        architecture: `embed_dim`, `vision_cfg` and `quick_gelu` as in an open_clip model config.
    """
    text = {"context_length": 4, "vocab_size": 4, "width": 64, "heads": 1, "layers": 1}  # the factory wants one
    config = json.dumps({**architecture, "text_cfg": text}, sort_keys=True)
    name = "mote-" + hashlib.sha256(config.encode()).hexdigest()[:16]
    if name not in open_clip.list_models():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.json"
            path.write_text(config, encoding="utf-8")
            open_clip.add_model_config(path)
    threshold = logging.root.manager.disable
    logging.disable(logging.WARNING)  # "No pretrained weights loaded": they are, just not by the factory
    try:
        return cast(nn.Module, open_clip.create_model(name, pretrained=None).visual)
    finally:
        logging.disable(threshold)


def _places(folder: Path | str) -> tuple[Path, Path | None]:
    """Where the weights and the description lie; a single file carries its description itself."""
    folder = Path(folder)
    return (folder, None) if folder.suffix == ".safetensors" else (folder / WEIGHTS, folder / DESCRIPTION)


def _metadata(weights: Path) -> str:
    with safe_open(weights, "pt") as file:
        return (file.metadata() or {})["model"]


def _architecture(backbone: str | None, visual: nn.Module) -> dict[str, object]:
    """The config of a CLIP's visual tower, with the activation and image size that `visual` really has."""
    if backbone == "tiny":
        from mote.models.tiny import tiny_config

        config = tiny_config()
    else:
        config = open_clip.get_model_config(backbone) if backbone else None
    if config is None:
        raise ValueError(
            f"cannot describe the visual tower of backbone={backbone!r}; expected 'tiny' or an open_clip model"
        )
    vision = dict(config["vision_cfg"])
    size = getattr(visual, "image_size", vision.get("image_size", 224))
    vision["image_size"] = size if isinstance(size, int) or size[0] != size[1] else size[0]
    quick_gelu = any(type(module).__name__ == "QuickGELU" for module in visual.modules())  # some tags switch it on
    return {"embed_dim": config["embed_dim"], "vision_cfg": vision, "quick_gelu": quick_gelu}


class Sizes(NamedTuple):
    """What rebuilds a `VideoCLIP` around its visual tower; `head` is None without a temporal head."""

    embed_dim: int
    mean: Sequence[float]
    std: Sequence[float]
    head: HeadSizes | None
    preprocessing: Preprocessing = AS_CLIP


def _sizes(model: VideoCLIP) -> dict[str, object]:
    """The sizes of a model as `model.json` holds them."""
    statistics = {name: [float(x) for x in getattr(model, name).flatten()] for name in ("mean", "std")}
    sizes = {"embed_dim": model.embed_dim, "num_layers": model.num_layers, **statistics}
    sizes["preprocessing"] = model.preprocessing._asdict()
    return {**sizes, **(NO_HEAD if model.temporal is None else model.temporal.sizes()._asdict())}


def _read_sizes(meta: Mapping[str, Any]) -> Sizes:
    """The sizes in the content of a `model.json`; raises KeyError for one that is missing."""
    meta = {"expert_part": "ffn", **meta}  # models saved before there was a choice
    head = HeadSizes(**{name: meta[name] for name in HeadSizes._fields})
    preprocessing = read_preprocessing(meta)
    return Sizes(meta["embed_dim"], meta["mean"], meta["std"], head if head.num_layers else None, preprocessing)


def _rebuild(
    architecture: Mapping[str, object],
    sizes: Sizes,
    state: Mapping[str, Tensor],
    path: Path,
    widths: Mapping[str, int] | None = None,  # of a model from which something was removed
) -> VideoCLIP:
    """The model of these sizes with the parameters `state`, whose names and shapes must match exactly."""
    width, mean, std, head, preprocessing = sizes
    with torch.random.fork_rng(devices=[]):  # the initial weights are thrown away
        visual = build_visual(architecture)
        temporal = None if head is None else TemporalHead(width, **head._asdict())
        pixels = {"mean": mean, "std": std, "preprocessing": preprocessing}
        model = VideoCLIP(visual, torch.zeros(()), temporal, embed_dim=width, **pixels)
    if widths:
        narrow(model, {name: torch.arange(width) for name, width in widths.items()})
    own = model.state_dict()
    check_names(set(own) - set(state), "missing", path)
    check_names(set(state) - set(own), "unknown", path)
    shapes = {name: (tuple(state[name].shape), tuple(own[name].shape)) for name in own}
    odd = {f"{name} {found} for {expected}" for name, (found, expected) in shapes.items() if found != expected}
    check_names(odd, "of another shape", path)
    for name, tensor in own.items():
        tensor.copy_(state[name])
    return model.eval()

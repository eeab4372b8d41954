"""The checkpoint format published with the MoTE paper (Zhu et al., NeurIPS 2024), translated to our names.

A pickled dict with `model_state_dict`: `visual.*` and `logit_scale` named as by OpenAI's CLIP; and with
`fusion_model_state_dict`: `spe_cls_feature` (text features of the fine-tuning classes),
`frame_position_embeddings.weight` and `transformer.resblocks.N.{attn,ln_1,ln_2,mlp}`, where expert E of a layer is
`mlp.fc_up.E` with `mlp.fc_dn.E` and the experts are merged by softmax(`mlp.mote_fusion_weight`). Names of either
part may carry the `module.` prefix of distributed training. All sizes are read from the shapes; heads are width over
64, and the width of the text tower, which sets those of the temporal head, is taken to be D. Only tensors are
unpickled, never objects.
"""

import math
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mote.models.temporal import HeadSizes
from mote.models.tensor_files import check_names, check_numbers

# (width, patch, layers, D, pixels) of a published visual tower -> open_clip's name of the CLIP with its text tower.
OPENAI_TOWERS = {
    (768, 32, 12, 512, 224): "ViT-B-32-quickgelu",
    (768, 16, 12, 512, 224): "ViT-B-16-quickgelu",
    (1024, 14, 24, 768, 224): "ViT-L-14-quickgelu",
    (1024, 14, 24, 768, 336): "ViT-L-14-336-quickgelu",
}
SHARED = ("ln_1.weight", "ln_1.bias", "attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight")
SHARED = (*SHARED, "attn.out_proj.bias", "ln_2.weight", "ln_2.bias")


class Reference(NamedTuple):
    """A translated checkpoint.

    Attributes:
        state: parameters under the names of `VideoCLIP`.
        embed_dim: D.
        head: sizes of the temporal head; None where there is none.
        architecture: open_clip config of the visual tower.
        backbone: open_clip's name of the CLIP that has this visual tower, or None.
        tuned_text: features of the fine-tuning classes.
        merge_routing: None without a temporal head.
    """

    state: dict[str, Tensor]
    embed_dim: int
    head: HeadSizes | None
    architecture: dict[str, object]
    backbone: str | None
    tuned_text: Float[Tensor, "F D"]
    merge_routing: Float[Tensor, "L E"] | None


def read_reference(path: Path) -> Reference:
    """The checkpoint of a file, translated; half precision becomes float32.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is of another kind, or names or shapes do not fit the format.
    """
    backbone, head = _read(path)
    width, architecture, name = _visual(backbone, path)
    temporal, fusion = _temporal(head, path)
    tuned_text = head["spe_cls_feature"]
    if tuned_text.ndim != 2 or tuned_text.shape[1] != width:
        raise ValueError(f"{path}: spe_cls_feature has shape {tuple(tuned_text.shape)}; expected (classes, {width})")
    if not tuned_text.norm(dim=1).min() > 0:
        raise ValueError(f"{path}: spe_cls_feature has rows of zeros; expected the features of class names")
    if not fusion:
        return Reference({**backbone, **temporal}, width, None, architecture, name, tuned_text, None)
    num_experts, hidden, _ = temporal["temporal.blocks.0.mlp.up_weight"].shape
    heads, frames = _heads(width, "temporal width", path), len(temporal["temporal.position"])
    sizes = HeadSizes(len(fusion), num_experts, "ffn", heads, 1e-12, hidden / width, frames)
    routing = torch.stack(fusion).softmax(dim=1)
    return Reference({**backbone, **temporal}, width, sizes, architecture, name, tuned_text, routing)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The two state dicts, in float32 and without prefixes."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; expected a checkpoint in the published MoTE format")
    try:  # mapping the file leaves the optimizer's tensors, which training checkpoints carry, on disk
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch.load raises a dozen kinds, with messages of many lines
        kind = type(error).__name__
        raise ValueError(
            f"{path}: cannot be read ({kind}); expected a PyTorch file of tensors in plain dicts"
        ) from None
    parts = ("model_state_dict", "fusion_model_state_dict")
    if not isinstance(saved, dict) or not all(isinstance(saved.get(part), dict) for part in parts):
        found = ", ".join(map(str, saved)) if isinstance(saved, dict) else type(saved).__name__
        raise ValueError(f"{path}: not in the published MoTE format; expected {' and '.join(parts)}, got {found[:200]}")
    for part in parts:
        check_names({str(name) for name, t in saved[part].items() if not isinstance(t, Tensor)}, "of no value", path)
        check_names({repr(name) for name in saved[part] if not isinstance(name, str)}, "whose names are no text", path)
    tensors = [(name, t) for part in parts for name, t in saved[part].items()]
    check_names({name for name, t in tensors if t.is_sparse or t.is_meta or not t.numel()}, "without numbers", path)
    if sum(t.numel() * t.element_size() for _, t in tensors) > path.stat().st_size:
        raise ValueError(f"{path}: its tensors have more numbers than the file; expected every one stored once")
    like = torch.empty((), device="meta")
    check_numbers(dict(tensors), {name: like for name, _ in tensors}, path)
    backbone, head = (
        {name.removeprefix("module."): t.to(torch.float32, copy=True) for name, t in saved[part].items()}
        for part in parts
    )
    return backbone, head


def _visual(backbone: Mapping[str, Tensor], path: Path) -> tuple[int, dict[str, object], str | None]:
    """D and architecture of an OpenAI vision transformer, read from its shapes; open_clip's name if it has one."""
    needed = ("conv1.weight", "positional_embedding", "proj", "transformer.resblocks.0.mlp.c_fc.weight")
    check_names({f"visual.{name}" for name in needed} - set(backbone), "missing", path)
    axes = dict(zip(needed, (4, 2, 2, 2), strict=True))
    odd = {f"visual.{name}" for name, count in axes.items() if backbone[f"visual.{name}"].ndim != count}
    check_names(odd, "with another number of axes", path)
    conv, position, proj, fc = (backbone[f"visual.{name}"] for name in needed)
    width, patch, embed_dim = conv.shape[0], conv.shape[-1], proj.shape[-1]
    layers = _count(r"visual\.transformer\.resblocks\.(\d+)\.", backbone)
    side = math.isqrt(len(position) - 1)
    if side < 1 or side**2 != len(position) - 1:
        raise ValueError(f"{path}: visual.positional_embedding has {len(position)} rows; expected 1 + a square number")
    size = patch * side
    if layers > len(backbone):
        raise ValueError(f"{path}: names {layers} visual layers in {len(backbone)} tensors")
    vision = {"image_size": size, "patch_size": patch, "layers": layers, "width": width}
    vision |= {"head_width": width // _heads(width, "visual width", path), "mlp_ratio": len(fc) / width}
    name = OPENAI_TOWERS.get((width, patch, layers, embed_dim, size))
    return embed_dim, {"embed_dim": embed_dim, "vision_cfg": vision, "quick_gelu": True}, name


def _temporal(head: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Parameters of the temporal head under our names, and the fusion weights (E,) of each layer."""
    layers = _count(r"transformer\.resblocks\.(\d+)\.", head)
    experts = _count(r"transformer\.resblocks\.\d+\.mlp\.fc_up\.(\d+)\.", head)
    if max(layers, experts) > len(head):
        raise ValueError(f"{path}: names {layers} layers and {experts} experts in {len(head)} tensors")
    position = "frame_position_embeddings.weight"
    single = {"temporal.position": position} if layers else {}  # ours -> theirs
    stacked: dict[str, list[str]] = {}
    fusion = [f"transformer.resblocks.{layer}.mlp.mote_fusion_weight" for layer in range(layers)]
    for layer in range(layers):
        theirs, ours = f"transformer.resblocks.{layer}", f"temporal.blocks.{layer}"
        single |= {f"{ours}.{name}": f"{theirs}.{name}" for name in SHARED}
        for kind in ("weight", "bias"):
            for ours_part, part in (("up", "fc_up"), ("down", "fc_dn")):
                names = [f"{theirs}.mlp.{part}.{expert}.{kind}" for expert in range(max(experts, 1))]
                stacked[f"{ours}.mlp.{ours_part}_{kind}"] = names
    expected = {"spe_cls_feature", *fusion, *single.values(), *(name for names in stacked.values() for name in names)}
    check_names(expected - set(head), "missing", path)
    check_names(set(head) - expected, "unknown", path)
    check_names({name for name in fusion if head[name].numel() != experts}, f"not for {experts} experts", path)
    for names in stacked.values():
        odd = {name for name in names if head[name].shape != head[names[0]].shape}
        check_names(odd, f"of another shape than {names[0]}", path)
    if layers:
        name = stacked["temporal.blocks.0.mlp.up_weight"][0]
        check_names({name} if head[name].ndim != 2 else (), "with another number of axes", path)
        check_names({position} if head[position].ndim != 2 else (), "with another number of axes", path)
    state = {ours: head[theirs] for ours, theirs in single.items()}
    state |= {ours: torch.stack([head[name] for name in names]) for ours, names in stacked.items()}
    return state, [head[name].flatten() for name in fusion]


def _heads(width: int, what: str, path: Path) -> int:
    """OpenAI's number of attention heads for a width, at least 1."""
    heads = max(1, width // 64)
    if width % heads:
        raise ValueError(f"{path}: the {what} {width} is not a multiple of its {heads} attention heads (width // 64)")
    return heads


def _count(pattern: str, names: Iterable[str]) -> int:
    """One more than the largest number that the pattern finds at the start of a name; 0 when it finds none."""
    found = (re.match(pattern, name) for name in names)
    return max((int(match[1]) + 1 for match in found if match), default=0)

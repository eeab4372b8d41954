"""The fields of `model.json`, one class for each kind of model: their types and ranges.

A field that is not listed is let through, so that files written by another version load; one that is listed is checked
before anything is built. Sizes that number layers are held against the weights that the file has, see `Depth`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from open_clip.model import CLIPVisionCfg
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass as checked_dataclass


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError(f"names must differ, {max(names, key=names.count)!r} stands there more than once")
    return names


def _one_place(template: str) -> str:
    if template.count("{}") != 1:
        raise ValueError("expected exactly one {}, where the class name goes")
    return template


def _in_file(layers: int, info: Any) -> int:  # ValidationInfo, a protocol that beartype cannot check
    most = (info.context or {}).get("tensors", layers)
    if layers > most:
        raise ValueError(f"more layers than the {most} tensors in the file of weights")
    return layers


Size = Annotated[int, Field(ge=1, le=2**20)]
Natural = Annotated[int, Field(ge=0, lt=2**63)]
Pixels = Annotated[int, Field(ge=1, le=2048)]  # side of an image
Frames = Annotated[int, Field(ge=1, le=2**16)]
Depth = Annotated[int, Field(ge=1), AfterValidator(_in_file)]  # layers, each of which has a tensor in the file at least
Mean = Annotated[float, Field(ge=-1e3, le=1e3)]  # of pixels in [0, 1]
Std = Annotated[float, Field(ge=1e-3, le=1e3)]
Names = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1), AfterValidator(_distinct)]
Templates = Annotated[list[Annotated[str, AfterValidator(_one_place)]], Field(min_length=1)]
Triple = Field(min_length=3, max_length=3)

TYPES = ("int", "float", "str", "bool", "function-after")
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class PreprocessingDescription(BaseModel):
    """A `Preprocessing`, see `mote.files.preprocessing`."""

    model_config = STRICT

    interpolation: Literal["bicubic", "bilinear"]
    resize: Literal["shortest", "longest", "squash", "crop"]
    fill: Annotated[list[Annotated[int, Field(ge=0, le=255)]], Triple]


class Description(BaseModel):
    """What every `model.json` may say."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    seed: Natural = 0
    selected: str | None = None  # which weights of a training these are
    method: str | None = None
    counts: list[Natural] | None = None  # training samples of every class
    preprocessing: PreprocessingDescription | None = None

    def _check_counts(self, classes: list[str] | None) -> None:
        if self.counts is not None and len(self.counts) != len(classes or []):
            raise ValueError(f"counts has {len(self.counts)} numbers, classes {len(classes or [])} names")


@checked_dataclass(config=STRICT)
class Vision(CLIPVisionCfg):
    """open_clip's settings of a visual tower, with the types that it declares and bounds on what it builds."""

    image_size: tuple[Pixels, Pixels] | Pixels = 224  # type: ignore[assignment]
    patch_size: Size | None = 16  # type: ignore[assignment]  # of a ResNet None
    timm_proj: str | None = "linear"  # type: ignore[assignment]

    @field_validator("*")
    @classmethod
    def _plausible(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool) and not 1 <= value <= 2**16:
            raise ValueError(f"expected a size of 1 to {2**16}")
        return value

    @field_validator("layers")
    @classmethod
    def _few_layers(cls, value: tuple[int, ...] | int, info: Any) -> tuple[int, ...] | int:
        _in_file(sum(value) if isinstance(value, tuple) else value, info)
        return value


class Architecture(BaseModel):
    """The visual tower as in an open_clip model config."""

    model_config = STRICT

    embed_dim: Size
    vision_cfg: Vision
    quick_gelu: bool = False


class VideoDescription(Description):
    """A `VideoCLIP`, see `checkpoints`; also CLIP on still images, which has `net`, `channels` and a frame."""

    num_layers: Annotated[int, Field(ge=0), AfterValidator(_in_file)]  # 0 = no temporal head
    embed_dim: Size
    architecture: Architecture
    mean: Annotated[list[Mean], Triple]
    std: Annotated[list[Std], Triple]
    num_experts: Size
    expert_part: Literal["ffn", "up", "down", "separate"] = "ffn"
    num_heads: Size
    ln_eps: Annotated[float, Field(gt=0, le=1)]
    ffn_ratio: Annotated[float, Field(gt=0, le=1024)]
    max_frames: Frames
    widths: dict[str, Annotated[int, Field(ge=0, le=2**20)]] | None = None  # where something was removed: what is left

    task: Literal["video"] | None = None
    backbone: str | None = None  # CLIP with the text tower
    pretrained: str | None = None
    backbone_file: str | None = None
    text_tuned: bool = False

    classes: Names | None = None
    templates: Templates | None = None
    tuned_templates: Templates | None = None
    labels: Names | None = None

    frames: Frames | None = None
    size: Pixels | None = None
    sampling: Literal["segment", "dense"] = "segment"
    stride: Size = 4
    difference: Annotated[int, Field(ge=0, le=2**20)] = 0
    decoder: Literal["pyav", "decord", "decord_single"] | None = None
    modulation: bool | None = None
    modulation_k: Size | None = None
    fitted: Literal["probe", "mean"] | None = None  # how `tuned_text` was made, where it is not of names
    modulation_gamma: Annotated[float, Field(gt=0, le=1e6)] | None = None

    net: Literal["backbone", "clip"] | None = None
    channels: Literal[1, 3] | None = None

    @model_validator(mode="after")
    def _fits(self) -> "VideoDescription":
        if self.embed_dim != self.architecture.embed_dim:
            raise ValueError(f"embed_dim is {self.embed_dim}, that of architecture {self.architecture.embed_dim}")
        if self.num_layers and self.frames is not None and self.frames > self.max_frames:
            raise ValueError(f"frames is {self.frames}, but the temporal head takes {self.max_frames} (max_frames)")
        if self.fitted and self.modulation:
            raise ValueError("modulation compares features of names, but those of the classes are fitted to videos")
        self._check_counts(self.classes)
        return self


class NetSizes(BaseModel):
    """Arguments of the networks in `image_nets` and `feature_maps`."""

    model_config = STRICT

    in_channels: Literal[1, 3] = 3
    size: Pixels | None = None
    conv1: Size | None = None
    conv2: Size | None = None
    hidden: Size | list[Size] | None = None
    blocks: Depth | None = None
    inner: list[Annotated[int, Field(ge=0, le=2**20)]] | None = None
    cosine: Annotated[float, Field(gt=0, le=1e4)] | None = None
    maps: bool | None = None


class ImageDescription(Description):
    """A network for still images, see `image_checkpoints`."""

    task: Literal["image", "expression"]
    net: str
    sizes: NetSizes
    classes: Names
    mean: Annotated[list[Mean], Field(min_length=1, max_length=3)]
    std: Annotated[list[Std], Field(min_length=1, max_length=3)]
    size: Pixels
    channels: Literal[1, 3]

    @model_validator(mode="after")
    def _fits(self) -> "ImageDescription":
        if self.sizes.in_channels != self.channels:
            raise ValueError(f"channels is {self.channels}, sizes.in_channels {self.sizes.in_channels}")
        if self.sizes.size not in (None, self.size):
            raise ValueError(f"size is {self.size}, sizes.size {self.sizes.size}")
        if odd := [name for name in ("mean", "std") if len(getattr(self, name)) not in (1, self.channels)]:
            raise ValueError(f"{odd[0]} has {len(getattr(self, odd[0]))} numbers for {self.channels} channels")
        self._check_counts(self.classes)
        return self


class AutoencoderSizes(BaseModel):
    """Arguments of `ImageAutoencoder`."""

    model_config = STRICT

    size: Pixels
    channels: Literal[1, 3]
    latent: Size
    codes: Size
    width: Size


class AutoencoderDescription(Description):
    """An autoencoder, see `autoencoder`."""

    task: Literal["autoencoder"]
    kind: Literal["image"]  # there were others
    sizes: AutoencoderSizes
    method: Literal["ae", "vae", "gm", "wae_mmd"]  # type: ignore[assignment]
    conditional: bool
    classes: Names

    @model_validator(mode="after")
    def _fits(self) -> "AutoencoderDescription":
        expected = self.sizes.latent * (2 if self.method == "vae" else 1)
        if self.sizes.codes != expected:
            raise ValueError(f"sizes.codes is {self.sizes.codes}, expected {expected} for method {self.method}")
        self._check_counts(self.classes)
        return self


def check_description(kind: type[Description], meta: Mapping[str, Any], path: Path, num_tensors: int) -> None:
    """Check the content `meta` of a `model.json`, or of the metadata of the file `path`.

    Args:
        kind: its fields.
        meta: JSON values.
        path: what the message names.
        num_tensors: in the file of weights.

    Raises:
        ValueError: one line: a field that is missing or has a wrong type or value, and how many more there are.
    """
    try:
        # Through JSON, where a list can be a tuple.
        kind.model_validate_json(json.dumps(meta), context={"tensors": num_tensors})
    except ValidationError as error:
        errors = error.errors()
        first = errors[0]  # of a field with several types, the location goes on with their names
        field = ".".join(part for part in map(str, first["loc"]) if "[" not in part and part not in TYPES)
        if first["type"] == "missing":
            problem = f"the key {field!r} is missing; expected what save_model writes"
        else:
            got = f", got {str(first['input'])[:80]!r}" if field else ""
            problem = f"{f'{field}: ' if field else ''}{first['msg'].removeprefix('Value error, ')}{got}"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise ValueError(f"{path}: {' '.join(problem.split())}{more}") from None


def check_present(meta: Mapping[str, Any], keys: tuple[str, ...], path: Path | str) -> None:
    """Raise ValueError, in one line, where a `model.json` has not all of `keys`."""
    if missing := [key for key in keys if meta.get(key) is None]:
        raise ValueError(f"{path}: the key {missing[0]!r} is missing; a model needs it to be used on its own")

"""The configuration tree: strict, frozen, and validated before torch is imported.

YAML files merge left to right, then `a.b=c` overrides, then one validation. Numbers are read by the rules of YAML 1.2
(`1e-4` is a float; PyYAML's own resolver would give a string). Validation goes through JSON, so a YAML list becomes a
tuple and `true` is refused where an integer is expected. `load` raises `ConfigError`, one line per mistake.
Paths are relative to the working directory.
"""

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Unit = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]


class ConfigError(ValueError):
    """A mistake in a configuration file or override; the message has one line per mistake."""


class Section(BaseModel):
    """Base of all sections: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=True)


class ModelConfig(Section):
    """The network: CLIP towers and the temporal head on top of them."""

    clip: str = "tiny"  # "tiny", or any open_clip architecture
    pretrained: str | None = None  # open_clip tag, or a local checkpoint file; "random" for random weights
    layers: Annotated[int, Field(ge=0)] = 4  # temporal layers; 0 = mean pooling
    experts: Positive = 4  # experts per layer; 1 = plain temporal transformer
    heads: Positive | None = None  # attention heads of the temporal layers; None = text width // 64
    same_init: bool = False  # all experts start equal (the paper's ablation)
    expert_part: Literal["ffn", "up", "down", "separate"] = "ffn"  # what is routed: both layers of the FFN as one, ...
    init: str | None = None  # model folder to start the weights from
    gradient_checkpointing: bool = False


class DataConfig(Section):
    """Training videos and how clips are cut from them."""

    train: str | None = None  # manifest or class-per-folder directory
    root: str | None = None  # what relative paths in the manifest are relative to; None = its folder
    split: str | None = None  # value of the CSV manifest's split column to keep
    classes: str | None = None  # class-name file; None = the names in the manifest or the folders
    templates: str | None = None  # prompt-template file; None = the 28 of the method
    frames: Positive = 8
    size: Positive | None = None  # pixels; None = what the CLIP tower takes
    sampling: Literal["segment", "dense"] = "segment"
    stride: Positive = 4  # frames between samples when dense
    difference: Annotated[int, Field(ge=0)] = 0  # > 0: the model sees each frame minus that so many frames earlier
    crop_scale: tuple[Unit, Unit] = (0.08, 1.0)  # area of the random-resized crop
    flip: Unit = 0.5  # probability; set 0 where left and right are classes
    grayscale: Unit = 0.2  # probability
    workers: Annotated[int, Field(ge=0)] = 2
    cache_features: bool = False  # encode every training clip once, without augmentation (needs optim.clip_lr_scale=0)
    max_bad_fraction: Unit = 0.0  # undecodable training videos tolerated; they are skipped, counted and listed
    decode_timeout: Annotated[float, Field(gt=0)] | None = 60.0  # seconds until a file counts as bad; None waits


class TuningConfig(Section):
    """Which weights of the CLIP towers are tuned, and through what. The temporal head is always tuned whole."""

    vision: Literal["frozen", "lora", "full"] = "full"  # "full" learns at optim.lr * optim.clip_lr_scale
    text: Literal["frozen", "lora", "full"] = "frozen"  # tuned: class features are recomputed inside every step
    adapt: Literal["attention", "mlp", "all"] = "all"  # layers that get LoRA adapters
    rank: Positive = 16  # of the adapters
    alpha: Annotated[float, Field(gt=0)] = 16.0  # the adapters' update is scaled by alpha / rank
    lr_scale: Annotated[float, Field(gt=0)] = 1.0  # learning rate of the adapters relative to optim.lr
    text_prompts: Positive = 1  # prompts per class in a training step while text is tuned: the first of data.templates
    freeze: tuple[str, ...] = ()  # parameters that stay as they are, by pattern: "model.visual.*resblocks.[0-5].*"


class LossConfig(Section):
    """Weights of the loss terms (MoTE eq. 10) and the draws behind them."""

    merged_weight: NonNegative = 0.5
    anchor_weight: NonNegative = 0.1
    anchor: Literal["released", "paper"] = "released"
    route_temperature: Annotated[float, Field(gt=0)] = 1.0  # P(i) = softmax(i / it); .inf: uniform, 1e-3: the last only
    merge_temperatures: tuple[float, ...] = Field(
        default=(-9.6, -4.8, -2.4, -1.2, -0.6, 0.6, 1.2, 2.4, 4.8, 9.6, math.inf), min_length=1
    )


class MixingConfig(Section):
    """Mixed-sample augmentation of the training batches (mote/mixing.py); off without methods."""

    methods: tuple[Literal["mixup", "cutmix", "hmix", "gmix"], ...] = ()  # of several, one is drawn each time
    alpha: Annotated[float, Field(gt=0)] = 1.0  # lambda is drawn from Beta(alpha, alpha)
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.5  # of hmix: its box over that of cutmix
    extent: Literal["space", "spacetime", "time"] = "space"  # what the mask varies over; space: the same for all frames
    probability: Unit = 1.0  # of a sample (a batch) being mixed
    per_sample: bool = True  # draw method, lambda and box for each sample; false: once for the batch


class RDropConfig(Section):
    """R-Drop (mote/regularizers/r_drop.py): two random passes should agree. Off with weight 0."""

    weight: NonNegative = 0.0  # alpha of the paper, on the mean over samples; independent of the batch size
    temperature: Annotated[float, Field(gt=0)] = 1.0  # divides the logits inside the KL


class ImageConfig(Section):
    """The network and the pictures of task=image."""

    net: str = "resnet20"  # lenet, mlp, resnet8, resnet20, resnet32, timm:NAME, or clip: model.clip with class names
    pretrained: bool = False  # timm: download its weights
    init: str | None = None  # run or model folder of the same net to start from, such as what `mote compact` wrote
    channels: Literal[1, 3] = 3
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    pad: Annotated[int, Field(ge=0)] = 0  # > 0: pad and crop at random, in place of data.crop_scale
    mean: tuple[float, ...] = (0.5,)  # of pixels in [0, 1], one or one a channel; timm and clip have their own
    std: tuple[Annotated[float, Field(gt=0)], ...] = (0.25,)


class OptimConfig(Section):
    """AdamW, warm-up and half cosine on optimizer steps."""

    lr: Annotated[float, Field(gt=0)] = 5e-5
    clip_lr_scale: NonNegative = 0.07  # learning rate of the CLIP tower relative to lr; 0 = frozen
    weight_decay: NonNegative = 0.2
    betas: tuple[Unit, Unit] = (0.9, 0.999)
    no_decay_norm_bias: bool = False
    epochs: Positive = 30
    warmup_epochs: NonNegative = 5.0
    batch_size: Positive = 144  # clips per optimizer step, over all processes and accumulation steps
    accumulation: Positive = 1
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    sync_routing: bool = False  # the same expert draws on every process


class SparsityConfig(Section):
    """Structured sparsity by group lasso (mote/sparsity); `mote compact` then removes what is zero."""

    strength: NonNegative = 0.0  # 0 = off; under AdamW at most 1: the share of updates a group must agree on to live
    groups: tuple[Literal["units", "heads", "sublayers", "filters", "channels", "shapes"], ...] = ("units",)
    layers: dict[str, NonNegative] = Field(
        default={"*": 1.0}, min_length=1
    )  # name pattern -> factor; first match counts
    start: Unit = 0.0  # fraction of the run before the penalty
    ramp: Unit = 0.1  # fraction of the run over which it grows to full strength
    stop: Unit = 0.7  # fraction of the run after which living groups are fine-tuned and dead ones stay dead

    @model_validator(mode="after")
    def _ordered(self) -> "SparsityConfig":
        if not self.start < self.stop or not self.groups:
            raise ValueError("sparsity.start must be smaller than sparsity.stop, and sparsity.groups not empty")
        return self


class EvaluationConfig(Section):
    """What is scored and how; empty class list = the training classes (closed-set)."""

    manifest: str | None = None
    root: str | None = None
    split: str | None = None
    classes: str | None = None  # None = the classes the model was tuned on; a file = zero-shot vocabulary
    templates: str | None = None
    clips: Positive = 1
    crops: Literal[1, 3] = 1
    fusion: Literal["mean_softmax", "reference", "mean_logits"] = "mean_softmax"
    modulation: bool | None = None  # temporal feature modulation; None = on for zero-shot, off for closed-set
    modulation_k: Positive = 5
    modulation_gamma: Annotated[float, Field(gt=0)] = 0.05
    alpha: Unit = 1.0  # alpha * tuned + (1 - alpha) * original CLIP weights; the released test scripts use 0.99
    bad_videos: Literal["error", "count_wrong"] = "error"
    batch_size: Positive = 16  # videos decoded at once in a process; on a GPU, also encoded at once
    precision: Literal["fp32", "bf16", "auto"] = "fp32"  # of matrix products; auto = bf16 where the hardware has it
    cache: str | None = "auto"  # folder of frame features; auto = the user's cache, none for tiny CLIP; null = none
    every: Positive = 1  # epochs between evaluations during training
    unknown: str | None = None  # list or folder of clips of no listed class, to measure "none of these" on
    accept: Annotated[float, Field(gt=0, le=1)] = 0.95  # share of the listed clips that "none of these" must spare
    page: bool = True  # draw NAME/index.html (in training after the last epoch only)
    name: str = "eval"  # stem of the result files


class RunConfig(Section):
    """Where the run lives and what it keeps."""

    out: str | None = None
    save_every: Positive | None = None  # optimizer steps between checkpoints; None = once an epoch
    keep: Positive = 1  # checkpoints kept in last/
    select: Literal["last", "top1", "top5", "mean_class_recall"] = (
        "last"  # best/: the last epoch, or the highest metric
    )
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    cpu: bool = False  # stay on the CPU though there is a GPU


class Config(Section):
    """The whole tree. A run directory holds it as `config.yaml`."""

    seed: Annotated[int, Field(ge=0)] = 0
    task: Literal["video", "image"] = "video"
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    image: ImageConfig = ImageConfig()
    tuning: TuningConfig = TuningConfig()
    loss: LossConfig = LossConfig()
    sparsity: SparsityConfig = SparsityConfig()
    mixing: MixingConfig = MixingConfig()
    r_drop: RDropConfig = RDropConfig()
    optim: OptimConfig = OptimConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        towers = {self.tuning.vision, self.tuning.text}
        still = self.model.layers == 0 and self.optim.clip_lr_scale == 0 and "lora" not in towers
        if self.task == "image":
            self._consistent_image()
        elif still and self.data.train is not None:
            raise ValueError("model.layers=0 with optim.clip_lr_scale=0 leaves nothing to train; raise one of them")
        if self.data.cache_features and self.vision_learns:
            raise ValueError("data.cache_features needs a frozen CLIP tower; set tuning.vision=frozen")
        if self.data.cache_features and self.mixing.methods:
            raise ValueError("mixing needs pixels, which data.cache_features does not keep; switch one of them off")
        if self.task == "video" and self.r_drop.weight and (self.model.layers == 0 or self.model.experts == 1):
            raise ValueError(
                "r_drop needs passes that differ: with one expert or no temporal head no routing is drawn; "
                "set model.experts > 1, or r_drop.weight=0"
            )
        return self

    def _consistent_image(self) -> None:
        if self.data.cache_features:
            raise ValueError("data.cache_features is for task=video")
        if self.mixing.extent != "space":
            raise ValueError(f"mixing.extent={self.mixing.extent} is for clips; images need mixing.extent=space")
        if self.r_drop.weight and (self.image.dropout == 0 or self.image.net == "clip"):
            raise ValueError(
                "r_drop needs passes that differ; set image.dropout > 0 (clip has none), or r_drop.weight=0"
            )
        if {len(self.image.mean), len(self.image.std)} - {1, self.image.channels}:
            raise ValueError("image.mean and image.std need one number, or one for each of image.channels")
        if self.image.net == "clip" and self.image.channels != 3:
            raise ValueError("image.net=clip takes colour pictures; set image.channels=3")

    @property
    def vision_learns(self) -> bool:
        """Whether training changes the features of frames."""
        tuning = self.tuning.vision
        return tuning == "lora" or (tuning == "full" and self.optim.clip_lr_scale > 0)

    def idle_settings(self) -> list[str]:
        """Settings that differ from their default but have no effect in this configuration."""
        idle = self._idle_components()
        if self.task == "image":
            return idle
        if self.model.layers == 0:
            idle += [
                f"model.{k}: there is no temporal head (model.layers=0)"
                for k in _changed(self.model, "experts", "expert_part", "same_init")
            ]
        if self.model.layers == 0 or self.model.experts == 1:
            why = "there is one expert or no temporal head, so nothing is routed or merged"
            idle += [
                f"loss.{k}: {why}"
                for k in _changed(self.loss, "merged_weight", "merge_temperatures", "route_temperature")
            ]
        if not self.sparsity.strength:
            keys = _changed(self.sparsity, "groups", "layers", "start", "ramp", "stop")
            idle += [f"sparsity.{key}: sparsity.strength is 0" for key in keys]
        if "lora" not in {self.tuning.vision, self.tuning.text}:
            adapters = _changed(self.tuning, "adapt", "rank", "alpha", "lr_scale")
            idle += [f"tuning.{k}: neither tower has adapters (tuning.vision=lora)" for k in adapters]
        if self.tuning.text == "frozen":
            idle += [f"tuning.{k}: the text tower is frozen" for k in _changed(self.tuning, "text_prompts")]
        if self.tuning.text == "full" and self.optim.clip_lr_scale == 0:
            idle += ["tuning.text: its learning rate is 0 (optim.clip_lr_scale=0)"]
        if self.data.sampling == "segment":
            idle += ["data.stride: used by data.sampling=dense only" for _ in _changed(self.data, "stride")]
        if self.evaluation.unknown is None:
            idle += [
                "evaluation.accept: used with evaluation.unknown only" for _ in _changed(self.evaluation, "accept")
            ]
        return idle

    def _idle_components(self) -> list[str]:
        idle = []
        mixing = [key for key in MixingConfig.model_fields if key != "methods"]
        if not self.mixing.methods or self.mixing.probability == 0:
            idle += [f"mixing.{key}: nothing is mixed" for key in _changed(self.mixing, *mixing)]
        elif "hmix" not in self.mixing.methods:
            idle += ["mixing.ratio: used by hmix only" for _ in _changed(self.mixing, "ratio")]
        if not self.r_drop.weight:
            idle += ["r_drop.temperature: r_drop.weight is 0" for _ in _changed(self.r_drop, "temperature")]
        if self.task == "video":
            idle += [f"image.{key}: for task=image" for key in _changed(self.image, *ImageConfig.model_fields)]
            return idle
        keep = ("clip", "pretrained") if self.image.net == "clip" else ()
        model = [key for key in ModelConfig.model_fields if key not in keep]
        idle += [f"model.{key}: for task=video" for key in _changed(self.model, *model)]
        idle += [f"tuning.{key}: for task=video" for key in _changed(self.tuning, *TuningConfig.model_fields)]
        idle += [f"loss.{key}: for task=video" for key in _changed(self.loss, *LossConfig.model_fields)]
        video = ("frames", "sampling", "stride", "difference", "max_bad_fraction")
        idle += [f"data.{key}: for task=video" for key in _changed(self.data, *video)]
        if self.image.pad:
            idle += ["data.crop_scale: image.pad crops instead" for _ in _changed(self.data, "crop_scale")]
        own = ("mean", "std") if self.image.net == "clip" or self.image.net.startswith("timm:") else ()
        return idle + [f"image.{key}: {self.image.net} has its own" for key in _changed(self.image, *own)]


def _changed(section: Section, *keys: str) -> list[str]:
    defaults = type(section)()
    return [key for key in keys if getattr(section, key) != getattr(defaults, key)]


class _Loader(yaml.SafeLoader):
    """SafeLoader whose floats follow YAML 1.2 (PyYAML reads `1e-4` as a string)."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def parse_yaml(text: str) -> Any:
    """One YAML document as plain Python values."""
    return yaml.load(text, Loader=_Loader)


def load(files: Iterable[str | Path] = (), overrides: Iterable[str] = ()) -> Config:
    """Merge YAML `files` left to right, apply `a.b=c` overrides, validate once.

    Raises:
        ConfigError: missing file, bad YAML, unknown key, wrong type or value; one line per mistake.
    """
    return validate(merge(files, overrides))


def merge(files: Iterable[str | Path] = (), overrides: Iterable[str] = ()) -> dict[str, Any]:
    """What `load` validates: the settings that the files and overrides name, and no others."""
    tree: dict[str, Any] = {}
    for file in files:
        _merge(tree, _read(Path(file)))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {override!r}: expected key=value, for example optim.lr=1e-4")
        try:
            nested: Any = parse_yaml(value)
        except yaml.YAMLError:
            nested = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        _merge(tree, nested)
    return tree


def validate(tree: Mapping[str, Any]) -> Config:
    """Check a plain tree; raises ConfigError with one line per mistake."""
    try:
        return Config.model_validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(item) for item in error.errors())) from None


def dump(config: Config) -> str:
    """The resolved tree as YAML; `load` of it gives an equal object."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False)


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = parse_yaml(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, got {type(tree).__name__}")
    return tree or {}


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _explain(item: Any) -> str:
    location = [str(part) for part in item["loc"]]
    name = ".".join(location)
    if item["type"] != "extra_forbidden":
        where = f"{name}: " if name else ""
        got = f", got {item['input']!r}" if name else ""
        return f"{where}{item['msg'].removeprefix('Value error, ')}{got}"
    section: Any = Config
    for part in location[:-1]:
        section = section.model_fields[part].annotation
    close = difflib.get_close_matches(location[-1], section.model_fields, n=1)
    known = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(section.model_fields)}"
    return f"{name}: unknown key; {known}"

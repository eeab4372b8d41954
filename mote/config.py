"""The configuration tree: strict, frozen, and validated before torch is imported.

YAML files merge left to right, then `a.b=c` overrides, then one validation. Numbers are read by the rules of YAML 1.2
(`1e-4` is a float; PyYAML's own resolver would give a string). Validation goes through JSON, so a YAML list becomes a
tuple and `true` is refused where an integer is expected. `load` raises `ConfigError`, one line per mistake.
Paths are relative to the working directory.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from mote.settings import (
    AutoencoderConfig,
    DataConfig,
    EvaluationConfig,
    ImageConfig,
    ImbalanceConfig,
    LossConfig,
    MixingConfig,
    ModelConfig,
    OptimConfig,
    RDropConfig,
    RunConfig,
    Section,
    SparsityConfig,
    TuningConfig,
)


class ConfigError(ValueError):
    """A mistake in a configuration file or override; the message has one line per mistake."""


class Config(Section):
    """The whole tree. A run directory holds it as `config.yaml`."""

    seed: Annotated[int, Field(ge=0)] = 0
    task: Literal["video", "image", "expression", "autoencoder"] = "video"
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    image: ImageConfig = ImageConfig()
    imbalance: ImbalanceConfig = ImbalanceConfig()
    tuning: TuningConfig = TuningConfig()
    loss: LossConfig = LossConfig()
    sparsity: SparsityConfig = SparsityConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    mixing: MixingConfig = MixingConfig()
    r_drop: RDropConfig = RDropConfig()
    optim: OptimConfig = OptimConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if self.task == "video":
            self._consistent_video()
        elif self.task == "autoencoder":
            self._consistent_autoencoder()
        else:
            self._consistent_image()
        if self.data.cache_features and self.vision_learns:
            raise ValueError("data.cache_features needs a frozen CLIP tower; set tuning.vision=frozen")
        if self.data.cache_features and self.mixing.methods:
            raise ValueError("mixing needs pixels, which data.cache_features does not keep; switch one of them off")
        if self.data.near_keyframes and (self.data.difference or self.data.sampling == "dense"):
            raise ValueError(
                "data.near_keyframes moves frames, so it needs data.sampling=segment and data.difference=0"
            )
        return self

    def _consistent_video(self) -> None:
        imbalance, maps = self.imbalance, self.imbalance.method in ("mek", "consistency")
        still = self.model.layers == 0 and self.optim.clip_lr_scale == 0
        if still and "lora" not in {self.tuning.vision, self.tuning.text} and self.data.train is not None:
            raise ValueError("model.layers=0 with optim.clip_lr_scale=0 leaves nothing to train; raise one of them")
        drawn = self.model.layers and self.model.experts > 1 and self.loss.routing == "one"
        if self.r_drop.weight and not drawn:
            raise ValueError(
                "r_drop needs passes that differ: with one expert, no temporal head or loss.routing=all no routing is "
                "drawn; set model.experts > 1 and loss.routing=one, or r_drop.weight=0"
            )
        if head := {imbalance.method, imbalance.posthoc} & {"crt", "tau_norm"}:
            raise ValueError(f"{head.pop()} needs a linear head; a video model has class features in its place")
        if maps and imbalance.strength and self.data.cache_features:
            raise ValueError(
                f"imbalance.method={imbalance.method} compares clips with their mirror images: it needs pixels, which "
                "data.cache_features does not keep; switch it off, or set imbalance.strength=0"
            )
        if maps and imbalance.strength and not self.vision_learns and self.data.train is not None:
            raise ValueError(
                f"imbalance.method={imbalance.method}: its attention consistency teaches the CLIP tower, which does "
                "not learn here; set tuning.vision=full and optim.clip_lr_scale > 0, or imbalance.strength=0"
            )

    def _consistent_image(self) -> None:
        if self.data.cache_features:
            raise ValueError("data.cache_features is for task=video")
        clip, head = self.image.net == "clip", {self.imbalance.method, self.imbalance.posthoc} & {"crt", "tau_norm"}
        if self.task == "expression" and clip and head:
            raise ValueError(f"{head.pop()} needs a linear head; image.net=clip has class features in its place")
        if self.task == "expression" and self.imbalance.method == "crt" and self.image.init is None:
            raise ValueError("imbalance.method=crt trains the head of another run anew; name it with image.init")
        if self.imbalance.posthoc == "tau_norm" and self.imbalance.method == "ldam_drw":
            raise ValueError(
                "tau_norm: the cosine head of ldam_drw is normalised already; leave imbalance.posthoc=none"
            )
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

    def _consistent_autoencoder(self) -> None:
        settings = self.autoencoder
        if self.data.cache_features:
            raise ValueError("data.cache_features is for task=video")
        if self.mixing.methods or self.r_drop.weight:
            raise ValueError("mixing and r_drop are for classifiers; task=autoencoder has no classes to predict")
        if self.run.select != "last":
            raise ValueError(f"run.select={self.run.select} is for classifiers; leave run.select=last")
        codes = self.optim.batch_size // self.optim.accumulation
        if settings.method == "gm" and codes <= settings.latent:
            raise ValueError(
                f"the covariance of a latent of {settings.latent} dimensions needs more codes than that at once; got "
                f"{codes} (optim.batch_size / optim.accumulation); raise optim.batch_size or lower autoencoder.latent"
            )

    @property
    def vision_learns(self) -> bool:
        """Whether training changes the features of frames."""
        tuning = self.tuning.vision
        return tuning == "lora" or (tuning == "full" and self.optim.clip_lr_scale > 0)


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

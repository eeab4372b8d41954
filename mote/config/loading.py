"""Reading a configuration: YAML files merged left to right, then `a.b=c` overrides, then one validation.

Values are read by the rules of YAML 1.2, see `yaml_text`. Validation goes through JSON, so a YAML list becomes a tuple
and `true` is refused where an integer is expected. Paths are relative to the working directory.
"""

import difflib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mote.config.sections import OptimConfig, Section
from mote.config.tree import Config
from mote.config.yaml_text import YamlError, parse_yaml, to_yaml

Tree: TypeAlias = dict[str, object]  # settings as plain values: section -> {key: value}, and keys of no section
# Names in run directories that were written before these settings were renamed.
OLD_KEYS = {("model", "clip"): "backbone", ("optim", "clip_lr_scale"): "backbone_lr_scale"}  # (section, key) -> new key
OLD_VALUES = {("image", "net", "clip"): "backbone"}  # (section, key, value) -> new value
HINTS = {  # kind of error, type of what was given -> what to do
    ("bool_type", str): "; write true or false",
    ("string_type", int): "; put a text that looks like a number in quotes",
    ("string_type", float): "; put a text that looks like a number in quotes",
    ("string_type", bool): "; put a text that looks like true or false in quotes",
}
# What every written section `data` has had since the first version.
EARLIER_DATA = {"train", "frames", "size", "sampling", "crop_scale", "flip", "grayscale", "workers", "decode_timeout"}


class ConfigError(ValueError):
    """A mistake in a configuration file or override; the message has one line per mistake."""


def load(files: Iterable[str | Path] = (), overrides: Iterable[str] = ()) -> Config:
    """The configuration of YAML `files`, merged left to right, with `a.b=c` overrides, validated once.

    Where a later file or the overrides make `optim.epochs` so few that the warm-up of an earlier one (or the default)
    does not fit, the warm-up of a training is cut to half of the epochs, with a warning.

    Raises:
        ConfigError: missing file, bad YAML, unknown key, wrong type or value; one line per mistake.
    """
    sources = _sources(files, overrides)
    return validate(_with_warm_up_that_fits(_merged(sources), sources))


def merge(files: Iterable[str | Path] = (), overrides: Iterable[str] = ()) -> Tree:
    """The settings that the files and overrides name, not validated.

    The file of a run directory, `config.yaml`, may have the settings' old names.

    Raises:
        ConfigError: missing file, bad YAML, an override without `=`.
    """
    return _merged(_sources(files, overrides))


def _sources(files: Iterable[str | Path], overrides: Iterable[str]) -> list[Tree]:
    """The settings of each file, and last those of all overrides."""
    read = [read_run_tree(Path(file)) if Path(file).name == "config.yaml" else read_tree(Path(file)) for file in files]
    return [*read, _merged([_override(override) for override in overrides])]


def _override(override: str) -> Tree:
    key, equals, value = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise ConfigError(f"override {_short(override)}: expected key=value, for example optim.lr=1e-4")
    if not value.strip():
        raise ConfigError(f"override {_short(override)}: nothing stands after the =; write null for no value")
    try:
        nested = parse_yaml(value, override=True)
    except YamlError as error:
        raise ConfigError(f"override {_short(override)}: {error}") from None
    for part in reversed(parts):
        nested = {part: nested}
    assert isinstance(nested, dict)
    return nested


def _merged(trees: Sequence[Tree]) -> Tree:
    tree: Tree = {}
    for other in trees:
        _merge(tree, other)
    return tree


def _with_warm_up_that_fits(tree: Tree, sources: Sequence[Tree]) -> Tree:
    """`tree`, with the warm-up cut where it was written before the epochs it has to fit into."""

    def last(key: str) -> int:
        """Number of the source that names the setting last; -1 for the default."""
        optims = [source.get("optim") for source in sources]
        return max((i for i, optim in enumerate(optims) if isinstance(optim, dict) and key in optim), default=-1)

    optim, data = tree.get("optim"), tree.get("data")
    trains = isinstance(data, dict) and data.get("train") is not None
    if not trains or not isinstance(optim, dict) or last("warmup_epochs") >= last("epochs"):
        return tree
    epochs, warm_up = optim["epochs"], optim.get("warmup_epochs", OptimConfig().warmup_epochs)
    numbers = type(epochs) is int and type(warm_up) in (int, float)
    if not numbers or not 1 <= epochs <= warm_up:
        return tree
    warnings.warn(
        f"optim.warmup_epochs={warm_up:g} does not fit into optim.epochs={epochs}: cut to {epochs / 2:g}", stacklevel=3
    )
    return {**tree, "optim": {**optim, "warmup_epochs": epochs / 2}}


def validate(tree: Mapping[str, object]) -> Config:
    """The configuration of a plain tree; raises ConfigError with one line per setting that is wrong."""
    try:
        return Config.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        first = {item["loc"][:2]: item for item in reversed(error.errors())}  # of a tuple, only its first mistake
        raise ConfigError("\n".join(_explain(item) for item in reversed(first.values()))) from None
    except (TypeError, ValueError, RecursionError) as error:  # a tree that is not of plain values
        raise ConfigError(f"settings must be plain values: {error}") from None


def with_todays_names(tree: Mapping[str, object]) -> Tree:
    """`tree`, which may have been written by an older version, with the names and meanings that settings have now.

    A whole section `data` without `interpolation` is of a run from before there was a choice of preprocessing: frames
    were then cut to the central square and resized bilinearly, which it keeps.
    """

    def renamed(section: str, keys: object) -> object:
        if not isinstance(keys, Mapping):
            return keys
        return {
            OLD_KEYS.get((section, key), key): OLD_VALUES.get((section, key, value), value)
            if isinstance(value, str)
            else value
            for key, value in keys.items()
        }

    today: Tree = {section: renamed(section, keys) for section, keys in tree.items()}
    data = today.get("data")
    if isinstance(data, dict) and "interpolation" not in data and data.keys() >= EARLIER_DATA:
        today["data"] = {**data, "interpolation": "bilinear", "resize": "crop"}
    return today


def read_run_tree(path: Path) -> Tree:
    """The settings in the `config.yaml` of a run directory, with today's names, not validated; raises ConfigError."""
    return with_todays_names(read_tree(path))


def dump(config: Config) -> str:
    """All settings as YAML; `load` of it gives an equal object."""
    return to_yaml(config.model_dump())


def read_tree(path: Path) -> Tree:
    """The settings in a YAML file as they stand there, not validated; raises ConfigError."""
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid YAML: not a text in UTF-8 (byte {error.start})") from None
    except YamlError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: cannot read the configuration: {reason}") from None
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, got {type(tree).__name__}")
    return tree or {}


def _merge(into: Tree, other: Mapping[str, object]) -> None:
    """Write `other` into `into`: sections key by key, anything else whole."""
    for key, value in other.items():
        present = into.get(key)
        if isinstance(value, Mapping) and isinstance(present, dict):
            _merge(present, value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _explain(item: ErrorDetails) -> str:
    """One mistake in a line: where it is, what was expected, what was given."""
    unknown = item["type"] == "extra_forbidden"  # else [key] is pydantic's word for the key of a mapping
    location = [str(part) for part in item["loc"] if unknown or part != "[key]"]
    name = ".".join(repr(part)[1:-1] for part in location)
    if not unknown:
        given = item["input"]
        where, got = f"{name}: " if name else "", f", got {_short(given)}" if name else ""
        if isinstance(given, dict) and item["type"] == "value_error":  # what is wrong with a section as a whole
            got = ""
        return f"{where}{item['msg'].removeprefix('Value error, ')}{got}{HINTS.get((item['type'], type(given)), '')}"
    from mote.config.explain import close_keys, with_last_name  # needed in this case only

    section: type[Section] = Config
    for part in location[:-1]:
        inner = section.model_fields[part].annotation
        assert isinstance(inner, type) and issubclass(inner, Section)
        section = inner
    if renamed := OLD_KEYS.get((location[0], location[-1])):
        return f"{name}: unknown key; did you mean '{renamed}'? The setting was renamed"
    if close := difflib.get_close_matches(location[-1], section.model_fields, n=1):
        return f"{name}: unknown key; did you mean '{close[0]}'?"
    inner_keys = item["input"] if isinstance(item["input"], dict) else [location[-1]]  # those of an unknown section
    found = [setting.key for key in inner_keys for setting in with_last_name(str(key))]
    if keys := found[:3] or close_keys(name):
        return f"{name}: unknown key; did you mean {' or '.join(keys)}?"
    return f"{name}: unknown key; known keys: {', '.join(section.model_fields)}"


def _short(value: object) -> str:
    """`repr`, without the middle where it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:70]}...{text[-20:]}"

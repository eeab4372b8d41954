"""Reading a configuration: YAML files merged left to right, then `a.b=c` overrides, then one validation.

Numbers are read by the rules of YAML 1.2 (`1e-4` is a float; PyYAML's own resolver would give a string). Validation
goes through JSON, so a YAML list becomes a tuple and `true` is refused where an integer is expected. Paths are relative
to the working directory.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mote.config.sections import Section
from mote.config.tree import Config

Tree: TypeAlias = dict[str, object]  # settings as plain values: section -> {key: value}, and keys of no section
# Names in run directories that were written before these settings were renamed.
OLD_KEYS = {("model", "clip"): "backbone", ("optim", "clip_lr_scale"): "backbone_lr_scale"}  # (section, key) -> new key
OLD_VALUES = {("image", "net", "clip"): "backbone"}  # (section, key, value) -> new value


class ConfigError(ValueError):
    """A mistake in a configuration file or override; the message has one line per mistake."""


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


def parse_yaml(text: str) -> object:
    """One YAML document as plain Python values; raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)


def load(files: Iterable[str | Path] = (), overrides: Iterable[str] = ()) -> Config:
    """The configuration of YAML `files`, merged left to right, with `a.b=c` overrides, validated once.

    Raises:
        ConfigError: missing file, bad YAML, unknown key, wrong type or value; one line per mistake.
    """
    return validate(merge(files, overrides))


def merge(files: Iterable[str | Path] = (), overrides: Iterable[str] = ()) -> Tree:
    """The settings that the files and overrides name, not validated: what `load` validates.

    The file of a run directory, `config.yaml`, may have the settings' old names.

    Raises:
        ConfigError: missing file, bad YAML, an override without `=`.
    """
    tree: Tree = {}
    for file in files:
        read = read_run_tree if Path(file).name == "config.yaml" else read_tree
        _merge(tree, read(Path(file)))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {override!r}: expected key=value, for example optim.lr=1e-4")
        try:
            nested = parse_yaml(value)
        except yaml.YAMLError:
            nested = value
        first, *inner = key.split(".")
        for part in reversed(inner):
            nested = {part: nested}
        _merge(tree, {first: nested})
    return tree


def validate(tree: Mapping[str, object]) -> Config:
    """The configuration of a plain tree; raises ConfigError with one line per mistake."""
    try:
        return Config.model_validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(item) for item in error.errors())) from None


def with_todays_names(tree: Mapping[str, object]) -> Tree:
    """`tree`, which may have been written by an older version, with the names that settings have now."""

    def renamed(section: str, keys: object) -> object:
        if not isinstance(keys, Mapping):
            return keys
        return {
            OLD_KEYS.get((section, key), key): OLD_VALUES.get((section, key, value), value)
            if isinstance(value, str)
            else value
            for key, value in keys.items()
        }

    return {section: renamed(section, keys) for section, keys in tree.items()}


def read_run_tree(path: Path) -> Tree:
    """The settings in the `config.yaml` of a run directory, with today's names, not validated; raises ConfigError."""
    return with_todays_names(read_tree(path))


def dump(config: Config) -> str:
    """All settings as YAML; `load` of it gives an equal object."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False)


def read_tree(path: Path) -> Tree:
    """The settings in a YAML file as they stand there, not validated; raises ConfigError."""
    try:
        tree = parse_yaml(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
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
    location = [str(part) for part in item["loc"]]
    name = ".".join(location)
    if item["type"] != "extra_forbidden":
        where = f"{name}: " if name else ""
        got = f", got {item['input']!r}" if name else ""
        return f"{where}{item['msg'].removeprefix('Value error, ')}{got}"
    section: type[Section] = Config
    for part in location[:-1]:
        inner = section.model_fields[part].annotation
        assert isinstance(inner, type) and issubclass(inner, Section)
        section = inner
    if renamed := OLD_KEYS.get((location[0], location[-1])):
        return f"{name}: unknown key; did you mean '{renamed}'? The setting was renamed"
    close = difflib.get_close_matches(location[-1], section.model_fields, n=1)
    known = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(section.model_fields)}"
    return f"{name}: unknown key; {known}"

"""Settings: strict, frozen, read before torch."""

from mote.config.loading import ConfigError, dump, load, merge, read_run_tree, validate, with_todays_names
from mote.config.tree import Config
from mote.config.yaml_text import YamlError, parse_yaml, to_yaml

__all__ = [
    "Config",
    "ConfigError",
    "YamlError",
    "dump",
    "load",
    "merge",
    "parse_yaml",
    "read_run_tree",
    "to_yaml",
    "validate",
    "with_todays_names",
]

"""Settings: strict, frozen, read before torch."""

from mote.config.loading import ConfigError, dump, load, merge, parse_yaml, read_run_tree, validate, with_todays_names
from mote.config.tree import Config

__all__ = [
    "Config",
    "ConfigError",
    "dump",
    "load",
    "merge",
    "parse_yaml",
    "read_run_tree",
    "validate",
    "with_todays_names",
]

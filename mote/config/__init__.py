"""Settings: strict, frozen, read before torch."""

from mote.config.loading import ConfigError, dump, load, merge, parse_yaml, validate
from mote.config.tree import Config

__all__ = ["Config", "ConfigError", "dump", "load", "merge", "parse_yaml", "validate"]

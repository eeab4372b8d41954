"""What every verb shares: how it is declared, and how its configuration is read."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mote.config import Config

Verbs = Any  # what `add_subparsers` returns; argparse keeps its type private


def add_verb(verbs: Verbs, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    """Declare a verb: `run` takes the arguments and returns the exit code."""
    parser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(verb=run)
    return parser


def load_config(arguments: Sequence[str], base: Sequence[Path] = ()) -> "Config":
    """The configuration of files, run directories (their config.yaml, run.out set to them) and a.b=c overrides."""
    from mote.config import load

    files, overrides = list(base), []
    for argument in arguments:
        if "=" in argument:
            overrides.append(argument)
        elif Path(argument).is_dir():
            files.append(Path(argument) / "config.yaml")
            overrides.append(f"run.out={json.dumps(argument)}")
        else:
            files.append(Path(argument))
    config = load(files, overrides)
    for line in config.idle_settings():
        print(f"mote: warning: {line}", file=sys.stderr)
    return config

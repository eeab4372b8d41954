"""What every verb shares: how it is declared, and how its configuration is read."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mote.files.run_directory import CONFIG, settings_file

if TYPE_CHECKING:
    from mote.config import Config

MODEL_HELP = (
    "run directory, exported .safetensors, authors' checkpoint (.pt), `tiny`, open_clip name:tag, "
    "or organisation/name on the Hugging Face Hub"
)


@runtime_checkable
class Verbs(Protocol):
    """What `argparse.ArgumentParser.add_subparsers` returns, whose type is private."""

    def add_parser(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser:
        """A parser for one verb."""
        ...


def add_verb(verbs: Verbs, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    """The parser of a new verb; `run` takes its arguments and returns the exit code."""
    parser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(verb=run)
    return parser


def load_config(arguments: Sequence[str], base: str | Path | None = None) -> "Config":
    """The configuration of files, run directories (their config.yaml, run.out set to them) and a.b=c overrides.

    base: run directory (or its `best/`) whose settings come first, where it is one.
    """
    from mote.config import load
    from mote.config.unused import questionable, unused

    files, overrides = _sorted_out(arguments)
    first = None if base is None else settings_file(base)
    config = load(files if first is None else [first, *files], overrides)
    for line in [*unused(config), *questionable(config)]:
        print(f"mote: warning: {line}", file=sys.stderr)
    return config


def named_settings(arguments: Sequence[str]) -> set[str]:
    """`section.key` of every setting that the files and overrides among the arguments name."""
    from mote.config import merge

    tree = merge(*_sorted_out(arguments))
    return {f"{section}.{key}" for section, keys in tree.items() if isinstance(keys, dict) for key in keys}


def _sorted_out(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """(files, overrides)."""
    files, overrides = [], []
    for argument in arguments:
        if "=" in argument:
            overrides.append(argument)
        elif Path(argument).is_dir():
            files.append(Path(argument) / CONFIG)
            overrides.append(f"run.out={json.dumps(argument)}")
        else:
            files.append(Path(argument))
    return files, overrides


def class_names(arguments: argparse.Namespace) -> list[str] | None:
    """The names that `--labels` or `--classes` give; None where neither is given."""
    from mote.datasets.lists.manifest import read_class_names

    if arguments.classes:
        return read_class_names(arguments.classes)
    return [name.strip() for name in arguments.labels.split(",")] if arguments.labels else None

"""What every verb shares: how it is declared, and how its configuration is read."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from mote.commands.meant import settings_file_error
from mote.commands.parsing import Formatter, Parser, epilog
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

    def add_parser(self, name: str, *, help: str, **options: Any) -> Any:
        """A parser for one verb."""
        ...


def add_verb(
    verbs: Verbs,
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
    *,
    writes: str,
    examples: Sequence[str],
) -> Parser:
    """The parser of a new verb.

    Args:
        verbs: where it is declared: the verbs of `mote`, or those of `mote data`.
        name: its name.
        run: takes the parsed arguments and returns the exit code.
        text: what it does, in a line.
        writes: which files it leaves where.
        examples: commands as a user types them, the simplest first.
    """
    described = {"description": text, "epilog": epilog(writes, examples), "formatter_class": Formatter}
    parser: Parser = verbs.add_parser(name, help=text, **described)
    parser.summary, parser.writes, parser.examples = text, writes, examples
    shown = argparse.SUPPRESS  # as `mote --traceback VERB`, where it is listed
    parser.add_argument("--traceback", action="store_true", default=shown, help=shown)
    parser.set_defaults(verb=run, parser=parser)
    return parser


def load_config(arguments: Sequence[str], base: str | Path | None = None, *, warn: bool = True) -> "Config":
    """The configuration of files, run directories (their config.yaml, run.out set to them) and a.b=c overrides.

    base: run directory (or its `best/`) whose settings come first, where it is one. warn: of settings that have no
    effect in a training; in an evaluation the model decides, see `mote.inference.contract.check_named`.
    """
    from mote.config import load
    from mote.config.unused import questionable, unused

    files, overrides = _sorted_out(arguments)
    first = None if base is None else settings_file(base)
    config = load(files if first is None else [first, *files], overrides)
    for line in [*(unused(config) if warn else []), *questionable(config)]:
        print(f"mote: warning: {line}", file=sys.stderr)
    return config


def own_config(base: str | Path) -> "Config":
    """The configuration that belongs to a model: that of a run directory (or its `best/`), else the defaults."""
    from mote.config import Config, load

    file = settings_file(base)
    return Config() if file is None else load([file])


def named_settings(arguments: Sequence[str]) -> set[str]:
    """`section.key` of every setting that the files and overrides among the arguments name."""
    from mote.config import merge

    tree = merge(*_sorted_out(arguments))
    return {f"{section}.{key}" for section, keys in tree.items() if isinstance(keys, dict) for key in keys}


def _sorted_out(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """(files, overrides).

    Raises:
        ConfigError: an argument that is neither, such as a video or a folder of clips.
    """
    files, overrides = [], []
    for argument in arguments:
        if "=" in argument:
            overrides.append(argument)
        elif wrong := settings_file_error(argument):
            from mote.config import ConfigError

            raise ConfigError(wrong)
        elif Path(argument).is_dir():
            files.append(Path(argument) / CONFIG)
            overrides.append(f"run.out={json.dumps(argument, ensure_ascii=False)}")
        else:
            files.append(Path(argument))
    return files, overrides


def is_told_elsewhere(error: Exception) -> bool:
    """Whether another process of the same launch tells the user of this error, which it has as well."""
    from mote.config import ConfigError
    from mote.parallel.launch import LaunchError, is_first

    everywhere = isinstance(error, ConfigError | LaunchError) and not is_first()
    return everywhere or getattr(error, "is_told", False)


def import_for(model: str, backbone: str | None = None) -> None:
    """Import what a model needs of open_clip, and no more where that can be told; before anything imports all of it."""
    from mote.inference.finding import is_plain_model

    if is_plain_model(model, backbone):
        from mote.models.plain_import import import_plain

        import_plain()


def class_names(arguments: argparse.Namespace) -> list[str] | None:
    """The names that `--labels` or `--classes` give; None where neither is given. Folder names become words.

    Raises:
        ValueError: an empty name, two that are one, or a class file that cannot be used.
    """
    from mote.datasets.lists.class_files import has_folder_names, read_class_names
    from mote.files.names import check_names, in_words, made_words

    if arguments.classes is None and arguments.labels is None:
        return None
    if arguments.classes is None:
        names = [name.strip() for name in arguments.labels.split(",")]
        check_names(names, "--labels")
        return names
    names = read_class_names(arguments.classes)
    if not has_folder_names(arguments.classes):
        return names
    words = list(map(in_words, names))
    for line in made_words(names, words):
        print(f"mote: {line}", file=sys.stderr)
    return words

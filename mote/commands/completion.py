"""What the shell completes: verbs, options, settings with their values, protocols, recipes, files; without torch.

Switched on for bash and zsh by `eval "$(register-python-argcomplete mote)"`, see https://kislyuk.github.io/argcomplete.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from mote.commands.parsing import Parser

Completer = Callable[..., Iterable[str]]


def complete(parser: Parser) -> None:
    """Answer the shell and exit, where it is the shell that asks."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete

    for verb in _all_verbs(parser):
        for action in verb._actions:
            names = {action.dest, *action.option_strings}
            if found := next((completer for name, completer in COMPLETERS.items() if name in names), None):
                action.completer = found  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options="long")


def _all_verbs(parser: Parser) -> Iterable[Parser]:
    for verb in parser.verbs.values():
        yield verb
        yield from _all_verbs(verb)


def settings(prefix: str, **_: object) -> list[str]:
    """`optim.lr=`, or after the = the values that a setting takes; recipes, run directories and other files."""
    from mote.config.explain import settings

    key, equals, value = prefix.partition("=")
    if not equals:
        keys = [f"{setting.key}=" for setting in settings()]
        recipes = [str(file) for file in sorted(Path("configs").rglob("*.yaml"))]
        return [*keys, *recipes, *files(prefix)]
    for setting in settings():
        if setting.key == key:
            choices = _choices(setting.type, setting.range)
            return [f"{key}={choice}" for choice in [*choices, *(files(value) if "path" in setting.type else [])]]
    return []


def _choices(kind: str, values: str) -> list[str]:
    """The values of a setting that can be counted."""
    null = ["null"] if kind.endswith(" or null") else []
    if kind.startswith("true or false"):
        return ["true", "false", *null]
    return [*values.split(", "), *null] if kind.startswith("choice") else null


def files(prefix: str, **_: object) -> list[str]:
    """Files and folders that begin so; folders end in a slash, hidden ones need their dot."""
    folder, slash, begin = prefix.rpartition("/")
    place = Path(f"{folder}{slash}" or ".")
    try:
        found = sorted(place.iterdir())
    except OSError:
        return []
    shown = [file for file in found if file.name.startswith(begin) and (begin or not file.name.startswith("."))]
    return [f"{folder}{slash}{file.name}{'/' if file.is_dir() else ''}" for file in shown]


def names(prefix: str, **_: object) -> list[str]:
    """Sections and keys, for `mote config --explain`."""
    from mote.config.explain import sections, settings

    return [*sections(), *(setting.key for setting in settings())]


def protocols(prefix: str, **_: object) -> list[str]:
    """Protocols, as NAME@VERSION."""
    from mote.protocols.table import PROTOCOLS

    return [protocol.identifier for protocol in PROTOCOLS.values()]


def models(prefix: str, **_: object) -> list[str]:
    """`tiny`, and run directories, model folders and files."""
    return ["tiny", *files(prefix)]


def layouts(prefix: str, **_: object) -> list[str]:
    """Layouts of `mote data prepare`."""
    from mote.datasets.prepare.layouts import FACES, VIDEOS

    return [*VIDEOS, *FACES]


COMPLETERS: dict[str, Completer] = {  # name of an argument or option -> what it completes to
    "config": settings,
    "model": models,
    "run": models,
    "layout": layouts,
    "--explain": names,
    "--protocol": protocols,
}

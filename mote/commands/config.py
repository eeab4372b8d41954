"""`mote config`."""

import argparse
import shutil

from mote.commands.verbs import Verbs, add_verb, load_config


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    config = add_verb(
        verbs,
        "config",
        _run,
        "print the resolved configuration, or explain settings",
        writes="nothing",
        examples=(
            "mote config --explain optim.lr",
            "mote config --explain optim",
            "mote config configs/ucf101.yaml optim.lr=1e-4",
        ),
    )
    config.add_argument("config", nargs="*", help="YAML files and a.b=c overrides")
    config.add_argument(
        "--explain",
        nargs="*",
        metavar="NAME",
        help="what settings mean, with type, range and default: a section (optim), a key (optim.lr), or all",
    )


def _run(arguments: argparse.Namespace) -> int:
    if arguments.explain is not None:
        from mote.config.explain import in_words

        names = [*arguments.config, *arguments.explain]
        print(in_words(names, min(shutil.get_terminal_size().columns, 120)))
        return 0
    from mote.config import dump

    print(dump(load_config(arguments.config)), end="")
    return 0

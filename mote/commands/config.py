"""`mote config`."""

import argparse

from mote.commands.verbs import Verbs, add_verb, load_config


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    config = add_verb(verbs, "config", _run, "print the resolved configuration")
    config.add_argument("config", nargs="*", help="YAML files and a.b=c overrides")


def _run(arguments: argparse.Namespace) -> int:
    from mote.config import dump

    print(dump(load_config(arguments.config)), end="")
    return 0

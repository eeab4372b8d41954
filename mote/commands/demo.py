"""`mote demo`."""

import argparse
from pathlib import Path

from mote.commands.verbs import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    demo = add_verb(
        verbs, "demo", run, "make a synthetic video world, train three models on it, evaluate, write a report page"
    )
    demo.add_argument("--out", default="runs/demo", help="folder for everything the demo writes (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="seed of the training runs (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    from mote.demo import demo

    demo(Path(arguments.out), arguments.seed)
    return 0

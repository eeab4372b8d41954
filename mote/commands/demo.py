"""`mote demo`."""

import argparse
from pathlib import Path

from mote.commands.verbs import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    demo = add_verb(
        verbs,
        "demo",
        _run,
        "make a synthetic video world, train three models on it, evaluate, write a report page",
        writes="--out: index.html (begin there), results.json, table.txt, the clips and the runs",
        examples=(
            "mote demo",
            "mote demo faces --out runs/faces",
        ),
    )
    demo.add_argument(
        "world", nargs="?", default="shapes", choices=("shapes", "faces"), help="faces: expressions of unequal number"
    )
    demo.add_argument("--out", help="folder for everything the demo writes (default: runs/demo, runs/demo-faces)")
    demo.add_argument("--seed", type=int, default=0, help="seed of the training runs (default: %(default)s)")


def _run(arguments: argparse.Namespace) -> int:
    if arguments.world == "faces":
        from mote.demos.faces import faces_demo

        faces_demo(Path(arguments.out or "runs/demo-faces"), arguments.seed)
        return 0
    from mote.demos.videos import demo

    demo(Path(arguments.out or "runs/demo"), arguments.seed)
    return 0

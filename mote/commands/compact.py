"""`mote compact`."""

import argparse

from mote.commands.verbs import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    compact = add_verb(
        verbs,
        "compact",
        _run,
        "remove what training with `sparsity` made zero: a smaller, equal network",
        writes="the new folder: the smaller model (best/ for a run), and compact.json with sizes, times, difference",
        examples=("mote compact runs/sparse --out runs/compact",),
    )
    compact.add_argument("model", help="run directory, model folder, or authors' checkpoint (.pt)")
    compact.add_argument("--out", required=True, help="new folder for the smaller model")


def _run(arguments: argparse.Namespace) -> int:
    from mote.sparsity.compacting import compact_model

    compact_model(arguments.model, arguments.out)
    return 0

"""`mote compact`."""

import argparse

from mote.commands.verbs import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    compact = add_verb(
        verbs, "compact", _run, "remove what training with `sparsity` made zero: a smaller, equal network"
    )
    compact.add_argument("model", help="run directory, model folder, or authors' checkpoint (.pt)")
    compact.add_argument("--out", required=True, help="new folder for the smaller model")


def _run(arguments: argparse.Namespace) -> int:
    from mote.files.writing import refuse_filled
    from mote.inference.finding import check_given

    refuse_filled(arguments.out)
    check_given(arguments.model)
    from mote.sparsity.compacting import compact_model

    compact_model(arguments.model, arguments.out)
    return 0

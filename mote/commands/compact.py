"""`mote compact`."""

import argparse

from mote.commands.verbs import Verbs, add_verb, own_config


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
    from mote.files.writing import refuse_filled
    from mote.inference.finding import check_given

    refuse_filled(arguments.out)
    check_given(arguments.model)
    from mote.sparsity.compacting import compact_model

    compact_model(arguments.model, arguments.out, lambda: _advice(arguments.model))
    return 0


def _advice(model: str) -> str:
    """How the network gets zeros, after what its run has tried."""
    tried = own_config(model).sparsity
    if tried.strength == 0:
        return "train it with sparsity.strength > 0"
    return (
        f"it was trained with sparsity.strength={tried.strength:g}, which made none of its {', '.join(tried.groups)} "
        "zero; raise sparsity.strength, train for more epochs, or choose other sparsity.groups"
    )

"""`mote fit`."""

import argparse

from mote.commands.verbs import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    fit = add_verb(
        verbs,
        "fit",
        _run,
        "learn classes from a few labelled videos that mote encode has been through",
        writes="the new model folder, and fit.json in it with the cross-validated numbers",
        examples=("mote fit features labels.csv --out my_classes",),
    )
    fit.add_argument("folder", help="video features: what mote encode wrote with --out")
    fit.add_argument("labels", help=".csv with columns path, label and, optionally, group (what examples share)")
    fit.add_argument("--out", required=True, help="new model folder, which mote predict and mote eval take")
    fit.add_argument(
        "--method",
        choices=("probe", "mean"),
        default="probe",
        help="logistic regression or nearest class mean (default: %(default)s)",
    )
    fit.add_argument("--folds", type=int, default=5, help="of the cross-validation over groups (default: %(default)s)")
    fit.add_argument("--model", help="where the model lies now, if it was moved since")


def _run(arguments: argparse.Namespace) -> int:
    from mote.files.extras import check_analysis
    from mote.files.writing import refuse_filled
    from mote.prediction.asked import check_features

    check_analysis("mote fit")
    refuse_filled(arguments.out)
    check_features(arguments.folder, arguments.model)
    from mote.prediction.labels import read_labels  # needs pyarrow, an extra, of which check_features speaks

    read_labels(arguments.labels)
    from mote.prediction.fit import Request, fit

    request = Request(
        arguments.folder,
        arguments.labels,
        arguments.out,
        method=arguments.method,
        folds=arguments.folds,
        model=arguments.model,
    )
    return fit(request)

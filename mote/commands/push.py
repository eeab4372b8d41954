"""`mote push`."""

import argparse

from mote.commands.verbs import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    push = add_verb(
        verbs,
        "push",
        _run,
        "share a trained model with a model card, on the Hugging Face Hub or in a folder",
        writes="the repository or folder: the model, its settings and results, and README.md, a model card",
        examples=(
            "mote push runs/a ./shared --license apache-2.0",
            "mote push runs/a organisation/name --private",
        ),
    )
    push.add_argument("run", help="run directory or model folder")
    push.add_argument("target", help="repository id organisation/name, or a new folder such as ./shared")
    push.add_argument("--private", action="store_true", help="make a new repository private")
    push.add_argument("--license", help="license for the card, such as apache-2.0 (default: left for you to fill in)")


def _run(arguments: argparse.Namespace) -> int:
    from mote.inference.finding import check_given

    check_given(arguments.run)
    from mote.inference.sharing import push

    print(push(arguments.run, arguments.target, private=arguments.private, license=arguments.license))
    return 0

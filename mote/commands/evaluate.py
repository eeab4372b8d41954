"""`mote eval`."""

import argparse
from pathlib import Path

from mote.commands.verbs import Verbs, add_verb, load_config


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    evaluate = add_verb(verbs, "eval", run, "score a model on a list of videos, closed-set or zero-shot")
    evaluate.add_argument("model", help="run directory, authors' checkpoint (.pt), `tiny`, or open_clip name:tag")
    evaluate.add_argument("config", nargs="*", help="YAML files and a.b=c overrides on top of the run's own config")
    evaluate.add_argument("--out", help="folder for the results (default: MODEL/evaluations, or ./evaluations)")
    evaluate.add_argument("--no-cache", action="store_true", help="neither use nor keep frame features")
    evaluate.add_argument("--clip", help="name:tag of the text tower, for an authors' checkpoint")


def run(arguments: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    own = Path(arguments.model) / "config.yaml"
    overrides = ["evaluation.cache=null"] if arguments.no_cache else []
    config = load_config([*arguments.config, *overrides], [own] if own.is_file() else [])
    from mote.scoring import evaluate_model

    inside = Path(arguments.model) / "evaluations" if own.is_file() else Path("evaluations")
    evaluate_model(arguments.model, config, Path(arguments.out or inside), clip=arguments.clip)
    return 0

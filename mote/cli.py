"""The `mote` command. Heavy imports stay inside the verbs, so `mote --help` answers at once.

A user's mistake is one line on stderr and exit code 2; `--traceback` shows where it came from.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mote import __version__

if TYPE_CHECKING:
    from mote.config import Config


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one verb and exit: 0 done, 1 done but some files were bad, 2 the user's mistake."""
    arguments = _parser().parse_args(argv)
    try:
        code = arguments.verb(arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        own = type(error).__module__.startswith("mote.")  # errors of our own are always about the user's files
        if arguments.traceback or not (own or isinstance(error, (ValueError, ArithmeticError, OSError, RuntimeError))):
            raise
        # A plain RuntimeError may be ours (no network, say) or come from far below, where the traceback may be needed.
        hint = " (mote --traceback shows where)" if type(error) is RuntimeError else ""
        print(f"mote: error: {error}{hint}", file=sys.stderr)
        code = 2
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mote", description="Image-text models for video: train, evaluate, predict.")
    parser.add_argument("--version", action="version", version=f"mote {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show the full traceback of an error")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(name: str, verb: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(verb=verb)
        return sub

    demo = add("demo", _demo, "make a synthetic video world, train three models on it, evaluate, write a report page")
    demo.add_argument("--out", default="runs/demo", help="folder for everything the demo writes (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="seed of the training runs (default: %(default)s)")

    train = add("train", _train, "train from YAML files (merged left to right) and a.b=c overrides")
    train.add_argument("config", nargs="*", help="YAML files, overrides, or a run directory with --resume")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the run directory")

    evaluate = add("eval", _evaluate, "score a model on a list of videos, closed-set or zero-shot")
    evaluate.add_argument("model", help="run directory, authors' checkpoint (.pt), `tiny`, or open_clip name:tag")
    evaluate.add_argument("config", nargs="*", help="YAML files and a.b=c overrides on top of the run's own config")
    evaluate.add_argument("--out", help="folder for the results (default: MODEL/evaluations, or ./evaluations)")
    evaluate.add_argument("--clip", help="name:tag of the text tower, for an authors' checkpoint")

    predict = add("predict", _predict, "name your own videos")
    predict.add_argument("model", help="run directory, authors' checkpoint (.pt), `tiny`, or open_clip name:tag")
    predict.add_argument("videos", nargs="+", help="video files, or folders that are searched for them")
    names = predict.add_mutually_exclusive_group()
    names.add_argument("--labels", help="comma-separated names to choose among (default: the model's own classes)")
    names.add_argument("--classes", help="file of names, one per line or id,name csv")
    predict.add_argument("--templates", help="prompt-template file, one {} per line")
    predict.add_argument("--clip", help="name:tag of the text tower, for an authors' checkpoint")
    predict.add_argument("--clips", type=int, default=1, help="temporal clips per video (default: %(default)s)")
    predict.add_argument("--crops", type=int, default=1, choices=(1, 3), help="spatial crops (default: %(default)s)")
    predict.add_argument("--top", type=int, default=5, help="names printed per video (default: %(default)s)")
    predict.add_argument("--csv", help="write all scores here, one line per video")
    predict.add_argument("--json", help="write all scores here")

    config = add("config", _config, "print the resolved configuration")
    config.add_argument("config", nargs="*", help="YAML files and a.b=c overrides")
    return parser


def _load(arguments: Sequence[str], base: Sequence[Path] = ()) -> "Config":
    """The configuration of files, run directories (their config.yaml, run.out set to them) and overrides."""
    from mote.config import load

    files, overrides = list(base), []
    for argument in arguments:
        if "=" in argument:
            overrides.append(argument)
        elif Path(argument).is_dir():
            files.append(Path(argument) / "config.yaml")
            overrides.append(f"run.out={json.dumps(argument)}")
        else:
            files.append(Path(argument))
    config = load(files, overrides)
    for line in config.idle_settings():
        print(f"mote: warning: {line}", file=sys.stderr)
    return config


def _config(arguments: argparse.Namespace) -> int:
    from mote.config import dump

    print(dump(_load(arguments.config)), end="")
    return 0


def _train(arguments: argparse.Namespace) -> int:
    config = _load(arguments.config)
    from mote.runs import train

    train(config, resume=arguments.resume)
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    own = Path(arguments.model) / "config.yaml"
    config = _load(arguments.config, [own] if own.is_file() else [])
    from mote.runs import evaluate_model

    inside = Path(arguments.model) / "evaluations" if own.is_file() else Path("evaluations")
    evaluate_model(arguments.model, config, Path(arguments.out or inside), clip=arguments.clip)
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from mote.predict import predict

    labels = [name.strip() for name in arguments.labels.split(",")] if arguments.labels else None
    return predict(
        arguments.model,
        arguments.videos,
        labels=labels,
        classes=arguments.classes,
        templates=arguments.templates,
        clip=arguments.clip,
        clips=arguments.clips,
        crops=arguments.crops,
        top=arguments.top,
        csv_file=arguments.csv,
        json_file=arguments.json,
    )


def _demo(arguments: argparse.Namespace) -> int:
    from mote.demo import demo

    demo(Path(arguments.out), arguments.seed)
    return 0

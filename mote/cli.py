"""The `mote` command. Heavy imports stay inside the verbs, so `mote --help` answers at once.

A user's mistake is one line on stderr and exit code 2; `--traceback` shows where it came from.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mote import __version__

if TYPE_CHECKING:
    from mote.config import Config


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one verb and exit: 0 done, 1 done but some files were bad, 2 the user's mistake."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and hasattr(arguments, "config") and not any(item.startswith("-") for item in rest):
        arguments.config += rest  # overrides that stand behind an option, which argparse does not collect
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        code = arguments.verb(arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
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

    compare = add("compare", _compare, "compare two results on the same videos: paired bootstrap, McNemar, per class")
    compare.add_argument("a", help="result file NAME.json, with NAME.csv beside it")
    compare.add_argument("b", help="the other result file")
    compare.add_argument("--json", help="write the whole comparison here")
    _data_parser(add("data", _no_verb, "prepare, verify and compare lists of videos"))

    config = add("config", _config, "print the resolved configuration")
    config.add_argument("config", nargs="*", help="YAML files and a.b=c overrides")
    return parser


def _data_parser(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    prepare = verbs.add_parser("prepare", help="official split files -> manifests and a class file, all or nothing")
    prepare.add_argument("layout", help="ucf101, hmdb51, kinetics400, kinetics600, kinetics700, ssv2, or lists")
    prepare.add_argument("--videos", required=True, help="folder of the videos")
    prepare.add_argument("--splits", required=True, help="folder of the official split files")
    prepare.add_argument("--out", required=True, help="new folder for the manifests")
    prepare.add_argument("--classes", help="class file to bind labels by (default: ours, where there is one)")
    prepare.add_argument("--missing", choices=("error", "list"), default="error", help="videos that are not there")
    prepare.add_argument("--only", help="comma-separated splits, such as val,test1")
    prepare.set_defaults(verb=_data_prepare)
    verify = verbs.add_parser("verify", help="decode first, middle and last frame of every file of a list")
    verify.add_argument("manifest")
    verify.add_argument("--root", help="what relative paths start from (default: the list's folder)")
    verify.add_argument("--classes", help="class file, for lists with names as labels")
    verify.add_argument("--workers", type=int, default=2)
    verify.add_argument("--timeout", type=float, default=60.0, help="seconds for one file (default: %(default)s)")
    verify.add_argument("--out", help="write `file<TAB>cause` lines of the unreadable ones here")
    verify.set_defaults(verb=_data_verify)
    overlap = verbs.add_parser("overlap", help="class names of B that occur in A, literally or nearly")
    overlap.add_argument("a", help="class file, such as that of the training set")
    overlap.add_argument("b", help="class file, such as that of the zero-shot test set")
    overlap.set_defaults(verb=_data_overlap)


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


def _compare(arguments: argparse.Namespace) -> int:
    from mote.evaluation.compare import compare, comparison_table, read_result
    from mote.evaluation.results import write_atomic
    from mote.reporting.page import text_table

    a, b = read_result(Path(arguments.a)), read_result(Path(arguments.b))
    report: dict[str, Any] = compare(a.document, b.document, a.predictions, b.predictions)
    for line in report["warnings"]:
        print(f"mote: warning: {line}", file=sys.stderr)
    print(text_table(comparison_table(report)))
    if arguments.json:
        write_atomic(Path(arguments.json), json.dumps(report, indent=1) + "\n")
    return 0


def _no_verb(arguments: argparse.Namespace) -> int:
    raise AssertionError(f"argparse demands a verb: {arguments}")


def _data_prepare(arguments: argparse.Namespace) -> int:
    from mote.datasets.manifest import read_class_ids, read_class_names
    from mote.datasets.prepare import prepare, summary
    from mote.models.clip import data_file

    shipped = {"ucf101": "classes/ucf101.csv", "hmdb51": "classes/hmdb51.csv", "kinetics400": "classes/kinetics400.txt"}
    file = arguments.classes or (data_file(shipped[arguments.layout]) if arguments.layout in shipped else None)
    names = read_class_names(file) if file else []
    classes = list(zip(read_class_ids(file) or names, names, strict=True)) if file else None
    report = prepare(
        arguments.layout,
        videos=arguments.videos,
        splits=arguments.splits,
        out=arguments.out,
        missing=arguments.missing,
        classes=classes,
        only=arguments.only.split(",") if arguments.only else None,
    )
    print(summary(report))
    return 0


def _data_verify(arguments: argparse.Namespace) -> int:
    from mote.build import class_names, records
    from mote.datasets.manifest import ManifestError
    from mote.datasets.verify import verify, write_unreadable

    try:
        names = class_names(arguments.classes, arguments.manifest)
    except ManifestError:
        if arguments.classes:
            raise
        names = None  # a list of numbers needs no names
    listed = records(arguments.manifest, arguments.root, names, arguments.classes, None)
    report = verify(listed, arguments.workers, timeout=arguments.timeout)
    for path, cause in report.unreadable:
        print(f"{path}: {cause}")
    print(f"{report.num_files - len(report.unreadable)} of {report.num_files} files can be read", file=sys.stderr)
    if arguments.out:
        write_unreadable(Path(arguments.out), report)
    return int(bool(report.unreadable))


def _data_overlap(arguments: argparse.Namespace) -> int:
    from mote.datasets.manifest import read_class_names
    from mote.datasets.overlap import overlap

    matches = overlap(read_class_names(arguments.a), read_class_names(arguments.b))
    for match in matches:
        print(f"{match.b_name}\t{match.a_name}\t{match.kind}")
    print(f"{len(matches)} class names of {arguments.b} occur in {arguments.a}", file=sys.stderr)
    return 0

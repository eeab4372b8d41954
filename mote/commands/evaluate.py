"""`mote eval`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mote.commands.verbs import MODEL_HELP, Verbs, add_verb, import_for, load_config, named_settings, own_config
from mote.files.extras import check_analysis
from mote.files.run_directory import config_file

if TYPE_CHECKING:
    from mote.inference.asked import Entry


TIMELINE = ("every", "smooth", "threshold")  # options that --window brings


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    evaluate = add_verb(
        verbs,
        "eval",
        _run,
        "score a model on a list of videos, or by a protocol; check a result",
        writes="NAME.json, .csv and NAME/index.html in RUN/evaluations, ./evaluations or --out (NAME: evaluation.name)",
        examples=(
            "mote eval runs/a evaluation.manifest=val.csv",
            "mote eval runs/a evaluation.manifest=new.csv evaluation.classes=new.txt evaluation.name=zero_shot",
            "mote eval ViT-B-16-quickgelu:openai --protocol ucf101-zs@1 --lists lists/ucf101",
            "mote eval --protocols",
            "mote eval --verify runs/a/evaluations/eval.json",
        ),
    )
    evaluate.add_argument("model", nargs="?", help=MODEL_HELP)
    evaluate.add_argument(
        "config",
        nargs="*",
        help="YAML files and a.b=c overrides on top of the run's own config; "
        "before them, for a protocol of folds, the run directories of the other folds",
    )
    evaluate.add_argument("--out", help="folder for the results (default: MODEL/evaluations, or ./evaluations)")
    evaluate.add_argument("--no-page", action="store_true", help="numbers only (evaluation.page=false)")
    evaluate.add_argument("--no-cache", action="store_true", help="neither use nor keep frame features")
    evaluate.add_argument("--backbone", help="name:tag of the text tower, for an authors' checkpoint")
    evaluate.add_argument("--union-labels", metavar="CLASSES", help="class file whose names compete as well")
    timelines = evaluate.add_argument_group("segments of long videos (a list with columns path, start, end, label)")
    timelines.add_argument("--window", help="length of the windows that are scored, such as 2s or 500ms")
    timelines.add_argument("--every", help="from one window to the next (default: half a window)")
    timelines.add_argument("--smooth", help="moving average of the scores over so much time, such as 3s")
    timelines.add_argument("--threshold", help="no segment where the best name is less probable; or a result file")
    protocol = evaluate.add_argument_group("by a protocol")
    protocol.add_argument("--protocol", help="name or name@version; its settings replace those of the run")
    protocol.add_argument("--lists", help="folder of its lists, or the list files with commas between them")
    protocol.add_argument("--root", help="what relative paths in the lists start from (default: as prepared)")
    protocol.add_argument("--subset", help="which videos the lists hold, where a protocol leaves that open")
    other = evaluate.add_argument_group("without a model").add_mutually_exclusive_group()
    other.add_argument("--protocols", action="store_true", help="list the protocols with their hashes")
    other.add_argument("--verify", metavar="RESULT", help="check the hashes and numbers of a result file")


def _run(arguments: argparse.Namespace) -> int:
    if arguments.protocols:
        return _list_protocols()
    if arguments.verify is not None:
        return _verify(Path(arguments.verify), arguments.model)
    if arguments.model is None:
        raise ValueError("give a model: a run directory, an authors' checkpoint (.pt), `tiny`, or open_clip name:tag")
    switches = {"evaluation.page=false": arguments.no_page, "evaluation.cache=null": arguments.no_cache}
    switched = [key for key, given in switches.items() if given]
    is_run = config_file(arguments.model) is not None
    out = Path(arguments.model) / "evaluations" if is_run else Path("evaluations")
    if arguments.window is None and (extra := [name for name in TIMELINE if getattr(arguments, name) is not None]):
        raise ValueError(f"--{extra[0]} is for timelines; say with --window how long their windows are")
    if arguments.window is not None and (arguments.protocol is not None or arguments.union_labels is not None):
        raise ValueError("--window goes with a list of segments, not with a protocol or further labels")
    if arguments.protocol is not None:
        return _by_protocol(arguments, out, switched)
    if extra := [name for name in ("lists", "root", "subset") if getattr(arguments, name) is not None]:
        raise ValueError(f"--{extra[0]} belongs to a protocol; name it with --protocol")
    entry = _entry(arguments.model, arguments.backbone, arguments.config, switched)
    if arguments.window is not None:
        return _timelines(entry, arguments, Path(arguments.out or out))
    _evaluate(entry, Path(arguments.out or out), arguments.union_labels)
    return 0


def _entry(model: str, backbone: str | None, settings: list[str], switched: list[str]) -> "Entry":
    """A model and what it is to be scored under."""
    from mote.inference.asked import Entry, Source
    from mote.inference.finding import check_model

    config, own = load_config([*settings, *switched], model, warn=False), own_config(model)
    if check_model(model, backbone=backbone) == "autoencoder":
        check_analysis("the evaluation of an autoencoder")
    return Entry(Source(model, backbone), config, frozenset(named_settings(settings)), own)


def _by_protocol(arguments: argparse.Namespace, out: Path, switched: list[str]) -> int:
    """Score one model by a protocol, or a run for each list of a protocol of folds."""
    from mote.protocols.lists import check_settings, checked_lists
    from mote.protocols.table import protocol_named

    protocol = protocol_named(arguments.protocol).declared(arguments.subset)
    if arguments.lists is None:
        raise ValueError(f"{protocol.identifier} needs --lists, the folder with {', '.join(protocol.lists)}")
    folds, models, settings = protocol.subsets == "folds", [arguments.model], []
    for item in arguments.config:
        (models if "=" not in item and Path(item).is_dir() else settings).append(item)
    if folds and (arguments.backbone is not None or arguments.union_labels is not None):
        raise ValueError(
            f"{protocol.identifier} scores runs on their own classes; leave out --backbone and --union-labels"
        )
    if len(models) > 1 and not folds:
        raise ValueError(f"{protocol.identifier} scores one model, got {' '.join(models)}; several are for folds")
    named, entries = named_settings(settings), []
    for model in models:
        entries.append(_entry(model, arguments.backbone, settings, switched))
        check_settings(protocol, named, entries[-1].config)
    name = entries[0].config.evaluation.name if "evaluation.name" in named else None
    out = Path(arguments.out or ("evaluations" if folds else out))
    lists = arguments.lists, arguments.root
    found = checked_lists(protocol, *lists, entries[0].config)
    from mote.protocols.carry_out import evaluate_protocol

    evaluate_protocol(entries, protocol, *lists, out, union=arguments.union_labels, name=name, found=found)
    return 0


def _evaluate(entry: "Entry", out: Path, union: str | None) -> None:
    from mote.datasets.lists.class_files import read_class_names
    from mote.evaluation.listings import check_evaluation

    check_evaluation(entry.config.evaluation)
    if union is not None:
        read_class_names(union)
    import_for(*entry.source)
    from mote.datasets.cache.feature_cache import usage_line
    from mote.evaluation.evaluate import evaluate
    from mote.evaluation.page import page_path
    from mote.inference.classifier import VideoClassifier
    from mote.inference.contract import as_asked, check_named
    from mote.inference.features import cache_folder
    from mote.inference.loading import load
    from mote.parallel.accelerator import make_accelerator
    from mote.reporting.headline import headline, report

    source, config, named, own = entry
    accelerator = make_accelerator("fp32", cpu=config.run.cpu)
    found = load(source.model, backbone=source.backbone, device=accelerator.device)
    if isinstance(found, VideoClassifier):
        found = as_asked(found, config, named)
    check_named(found, config, own, named)
    summary = evaluate(found, config, accelerator, out, union)
    if not accelerator.is_main_process:
        return
    print(f"{out / config.evaluation.name}.json: {headline(summary)}")
    if (page := page_path(out, config.evaluation.name)).is_file():
        print(f"{page}: the same with figures")
    report(summary)
    if isinstance(found, VideoClassifier) and (folder := cache_folder(config.evaluation.cache, found)) is not None:
        print(usage_line(folder))


def _timelines(entry: "Entry", arguments: argparse.Namespace, out: Path) -> int:
    from mote.inference.threshold import check_threshold
    from mote.prediction.windows import cutting

    cut = cutting(arguments.window, arguments.every, arguments.smooth)
    if arguments.threshold is not None:
        check_threshold(arguments.threshold)
    if (listed := entry.config.evaluation.manifest) is not None and not Path(listed).exists():
        raise FileNotFoundError(f"{listed}: there is no such list of segments")
    import_for(*entry.source)
    from mote.inference.contract import as_asked, check_named
    from mote.inference.loading import load_video
    from mote.prediction.evaluate_timelines import evaluate_timelines, for_timelines

    source, config, named, own = entry
    classifier = as_asked(load_video(source.model, backbone=source.backbone), config, named)
    check_named(classifier, config, own, named)
    summary = evaluate_timelines(classifier, for_timelines(config, named), cut, out, arguments.threshold)
    numbers = ", ".join(
        f"{name} at tIoU {threshold:g}: {100 * value:.1f} %"
        for key, name in (("f1", "F1"), ("map", "mAP"))
        for threshold, value in zip(summary["tiou"], summary[key], strict=True)
    )
    print(f"{out / config.evaluation.name}.json: {summary['videos']} videos, {numbers}")
    return 0


def _list_protocols() -> int:
    from mote.protocols.table import PROTOCOLS
    from mote.reporting.page import text_table

    rows = []
    for protocol in PROTOCOLS.values():
        views = f"{protocol.clips}x{protocol.crops}"
        rows.append(
            {
                "protocol": protocol.identifier,
                "data": protocol.dataset.partition(",")[0],
                "lists": " ".join(protocol.lists),
                "frames": str(protocol.frames or "the model's"),
                "views": views,
                "fusion": protocol.fusion,
                "modulation": "on" if protocol.modulation else "off",
                "alpha": f"{protocol.alpha:g}",
                "classes": protocol.subsets,
                "hash": protocol.digest(),
            }
        )
    print(text_table(rows))
    return 0


def _verify(result: Path, model: str | None) -> int:
    from mote.protocols.verification import verify_result

    checks = verify_result(result, model)
    for what, difference, _ in checks:
        print(f"{what}: {difference or 'as stated'}")
    wrong = sum(bool(check.difference) for check in checks)
    left = dict.fromkeys(check.unchecked for check in checks if check.unchecked)
    more = f"; not checked, for no table of predictions holds it: {'; '.join(left)}" if left else ""
    print(f"{result}: {len(checks) - wrong} of {len(checks)} checks passed{more}")
    return int(wrong > 0)

"""What `mote eval` does: score a classifier on listed videos, and write down what came out and from what."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mote import build
from mote.classifier import Classifier
from mote.config import Config
from mote.datasets.agreement import in_words, shared_videos
from mote.datasets.manifest import ManifestError, Record
from mote.datasets.overlap import overlap
from mote.evaluation.closed_set import Scores, summarize
from mote.evaluation.imbalance import imbalance_summary
from mote.evaluation.metrics import rank_classes
from mote.evaluation.open_set import open_set_report
from mote.evaluation.results import provenance, sha256_file, sha256_lines, sha256_tensors, write_results
from mote.evaluation.statistics import accuracy_without, half_class_accuracy, union_report
from mote.features import cache_folder, usage
from mote.loading import load
from mote.models.precision import resolve_precision
from mote.reporting.page import percent
from mote.result_page import draw_page, page_path
from mote.scores import score_videos
from mote.training.distributed import Accelerator, make_accelerator, on_main
from mote.unknown import unknown_records
from mote.vocabulary import added_classes, order_warning, own_classes

MOST_CLASSES = 100  # of which a result says what each gives to each other


def headline(summary: Mapping[str, Any]) -> str:
    """One line of a result: accuracies in percent with their 95 % intervals, and how many were scored."""
    top1, top5 = percent(summary["top1"], summary["top1_interval"]), percent(summary["top5"], summary["top5_interval"])
    recall = percent(summary["mean_class_recall"], summary.get("mean_class_recall_interval"))
    items = summary.get("items", "videos")
    counts = f"{summary['scored']} of {summary['listed']} {items} scored, {summary['num_classes']} classes"
    return f"top-1 {top1}, top-{summary['top5_k']} {top5}, mean class recall {recall} ({counts})"


def report(summary: Mapping[str, Any]) -> None:
    """Print what a result says beside its headline, and its warnings (on stderr)."""
    if known := summary.get("overlap"):
        named = len(known["excluded_classes"])
        line = f"{named} of {summary['num_classes']} class names occur among the classes of tuning"
        if named and (kept := known["without"]):
            line += f"; without their videos: top-1 {percent(kept['top1'], kept['top1_interval'])}"
            line += f" ({kept['listed']} videos)"
        print(f"  {line}")
    if union := summary.get("union"):
        share = percent(union["fell_on_other"], union["fell_on_other_interval"])
        print(f"  {union['num_other']} classes added: {share} % of the predictions fell on them")
    for line in summary["warnings"]:
        print(f"mote: warning: {line}", file=sys.stderr)


def evaluate_model(
    model: str, config: Config, out: Path, clip: str | None = None, union: str | None = None
) -> dict[str, Any]:
    """Score any model (see `mote.loading.load`) on `config.evaluation`; returns the summary that was written."""
    accelerator = make_accelerator("fp32", cpu=config.run.cpu)
    if config.task in ("image", "expression"):
        from mote.image_runs import evaluate_folder

        summary = evaluate_folder(Path(model), config, accelerator, out)
        if accelerator.is_main_process:
            print(f"{out / config.evaluation.name}.json: {headline(summary)}")
            if (page := page_path(out, config.evaluation.name)).is_file():
                print(f"{page}: the same with pictures")
        return summary
    if config.task == "autoencoder":
        from mote import autoencoder_runs

        summary = autoencoder_runs.evaluate_folder(Path(model), config, accelerator, out)
        if accelerator.is_main_process:
            print(f"{out / config.evaluation.name}.json: {autoencoder_runs.headline(summary)}")
        return summary
    classifier = load(model, clip=clip, device=accelerator.device)
    summary = evaluate(classifier, config, accelerator, out, source={"model": model, "clip": clip}, union=union)
    if accelerator.is_main_process:
        print(f"{out / config.evaluation.name}.json: {headline(summary)}")
        if (page := page_path(out, config.evaluation.name)).is_file():
            print(f"{page}: the same with pictures")
        report(summary)
        folder = cache_folder(config.evaluation.cache, classifier)
        if folder is not None:
            print(usage(folder))
    return summary


def evaluate(
    classifier: Classifier,
    config: Config,
    accelerator: Accelerator,
    out: Path | None,
    *,
    source: Mapping[str, str | None] | None = None,
    union: str | None = None,
    protocol: Mapping[str, Any] | None = None,
    halves: bool = False,
    page: bool = True,
) -> dict[str, Any]:
    """Score `classifier` on the listed videos; write NAME.json, NAME.csv, NAME/index.html to `out`, or nothing.

    Without `evaluation.classes` the classes are those the model was tuned on, else those of the manifest.

    Args:
        classifier: what is scored; templates and alpha of the configuration are applied here.
        config: what is scored on, and how.
        accelerator: the processes that share the work.
        out: folder of the result files.
        source: what `classifier` was loaded from, `model` and `clip`; None = it is being trained. With it, videos that
            are also in the training list are warned of.
        union: class file whose names compete as well; those that the vocabulary has already (up to case and spaces) are
            merged. Temporal feature modulation compares the whole union with the classes of tuning.
        protocol: what the result says about the protocol that it obeys.
        halves: measure the accuracy over ten random halves of the classes too (see `statistics`).
        page: draw the page, where `evaluation.page` wants it too.

    Raises:
        ValueError: no manifest, or one that does not fit the classes.
        DecodeError: an undecodable video, unless `evaluation.bad_videos=count_wrong`.
    """
    settings = config.evaluation
    if settings.manifest is None:
        raise ValueError("evaluation.manifest is not set; give a list of videos: evaluation.manifest=test.txt")
    own = own_classes(classifier, settings.classes, settings.manifest)
    records = build.records(settings.manifest, settings.root, own, settings.classes, settings.split)
    labels = [*own, *added_classes(own, union)]
    if settings.templates is not None:
        classifier = classifier.with_templates(build.templates(settings.templates))
    if settings.alpha < 1:
        classifier = classifier.interpolated(settings.alpha)
    classifier = _adjusted(classifier, config, labels)
    unknown = unknown_records(settings.unknown, records, labels) if settings.unknown is not None else []
    scores = score_videos(classifier, records, labels, settings, config.data, accelerator)
    summary = summarize(scores, labels) | _parts(scores, own, classifier.classes, union)
    if "counts" in classifier.meta and classifier.is_tuned_on(labels) and len(labels) <= MOST_CLASSES:
        summary |= imbalance_summary(scores, labels, classifier.meta["counts"])
        summary["method"] = {"method": classifier.meta.get("method"), "posthoc": config.imbalance.posthoc}
    if protocol is not None:
        summary["protocol"] = protocol
    own_scores = scores.probabilities[:, None, : len(own)]  # halves are of the vocabulary without what a union adds
    halved = half_class_accuracy(own_scores, scores.label, scores.valid) if halves else None
    if halved:
        summary["halves"] = halved
    summary["warnings"] = order_warning(own, classifier.classes)
    if source is not None:
        summary["warnings"] += on_main(accelerator, lambda: training_warning(config, records))
    if unknown:
        others = score_videos(classifier, unknown, labels, settings, config.data, accelerator)
        summary["open_set"] = open_set_report(scores, others, [str(r.path) for r in unknown], settings.accept)
    if out is None:
        return summary
    hashes = {
        "manifest": hash_manifest(settings.manifest, records),
        "classes": sha256_lines(labels),
        "templates": sha256_lines(classifier.templates),
        "weights": sha256_tensors(classifier.model.state_dict()),
    }
    if settings.unknown is not None:
        hashes["unknown"] = hash_manifest(settings.unknown, unknown)
    inputs = {**(source or {"model": config.run.out, "clip": None}), "union": union, "folder": os.getcwd()}
    if inputs["model"] is not None and Path(inputs["model"]).exists():  # else it is the name of an architecture
        inputs["model"] = os.path.abspath(inputs["model"])
    origin = provenance(config=config.model_dump(), hashes=hashes, seed=config.seed) | {"inputs": inputs}
    origin["precision"] = resolve_precision(settings.precision, classifier.device)  # what "auto" was
    columns = half_predictions(scores, halved["per_subset"], labels) if halved else {}

    def write() -> None:
        write_results(
            out,
            settings.name,
            summary,
            records=records,
            classes=labels,
            scores=scores,
            provenance=origin,
            columns=columns,
        )
        draw_page(out, classifier, labels, settings, config.data, records, wanted=page and settings.page)

    on_main(accelerator, write)
    return summary


def _adjusted(classifier: Classifier, config: Config, labels: Sequence[str]) -> Classifier:
    """The classifier as `imbalance.posthoc` wants it used.

    Raises:
        ValueError: other classes than those of tuning, or a fusion of views that reads the logits as cosines.
    """
    posthoc = config.imbalance.posthoc
    if posthoc == "none":
        return classifier
    if not classifier.is_tuned_on(labels):
        raise ValueError(
            f"imbalance.posthoc={posthoc} is for the classes that the model was tuned on; leave it at none"
        )
    if config.evaluation.fusion == "reference":
        raise ValueError(
            f"imbalance.posthoc={posthoc} corrects logits, evaluation.fusion=reference fuses cosines; take mean_softmax"
        )
    return classifier.adjusted(config.imbalance.posthoc_tau)


def half_predictions(scores: Scores, halves: Sequence[Mapping], classes: Sequence[str]) -> dict[str, list[str]]:
    """Columns half0..half9 of the table of predictions: the best class of that half, "" for clips of the others."""
    columns = {}
    for half in halves:
        members = np.array(half["classes"])
        best = members[rank_classes(scores.probabilities[:, members], 1)[:, 0]]
        chosen = np.isin(scores.label, members) & scores.valid
        columns[f"half{half['seed']}"] = [classes[k] if yes else "" for k, yes in zip(best, chosen, strict=True)]
    return columns


def hash_manifest(manifest: str, records: Sequence[Record]) -> str:
    """SHA-256 of a list: of its file, or where it is a folder, of `path label` lines with paths below the folder."""
    if Path(manifest).is_file():
        return sha256_file(manifest)
    return sha256_lines([f"{record.path.relative_to(manifest).as_posix()} {record.label}" for record in records])


def _parts(scores: Scores, own: Sequence[str], tuned: Sequence[str] | None, union: str | None) -> dict[str, Any]:
    """`overlap` where the classes are not those of tuning: accuracy without names that tuning has seen; and `union`."""
    parts: dict[str, Any] = {}
    if tuned is not None and {*tuned} != {*own}:
        matches = overlap(tuned, own)
        excluded = [own.index(match.b_name) for match in matches]
        parts["overlap"] = accuracy_without(scores.probabilities, scores.label, excluded, scores.valid)
        parts["overlap"]["names"] = [match._asdict() for match in matches]
    if union is not None:
        parts["union"] = union_report(scores.probabilities, scores.label, len(own), scores.valid)
    return parts


def training_warning(config: Config, records: Sequence[Record]) -> list[str]:
    """That `records` have videos of the list the model was trained on, where that list is still there."""
    data = config.data
    if data.train is None or not Path(data.train).exists():
        return []
    try:
        names = build.class_names(data.classes, data.train)
        pairs = shared_videos(build.records(data.train, data.root, names, data.classes, data.split), records)
    except ManifestError:  # it is no longer the list of the training: nothing can be said
        return []
    return [f"{len(pairs)} videos are also in the training list {data.train}: {in_words(pairs)}"] if pairs else []

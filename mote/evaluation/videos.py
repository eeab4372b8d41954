"""What `mote eval` does: score a classifier on listed videos, and write down what came out and from what."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mote.config import Config
from mote.datasets.lists import reading
from mote.datasets.lists.agreement import in_words, shared_videos
from mote.datasets.lists.manifest import ManifestError, Record
from mote.datasets.lists.overlap import overlap
from mote.datasets.lists.reading import hash_manifest
from mote.evaluation.page import draw_page
from mote.evaluation.results import write_results
from mote.evaluation.unknown import unknown_records
from mote.evaluation.video_scores import score_videos
from mote.evaluation.vocabulary import added_classes, order_warning, own_classes
from mote.files.hashes import sha256_lines, sha256_tensors
from mote.files.provenance import provenance
from mote.inference.classifier import Classifier
from mote.metrics.accuracy import rank_classes
from mote.metrics.imbalance import imbalance_summary
from mote.metrics.open_set import open_set_report
from mote.metrics.scores import Scores, summarize
from mote.metrics.statistics import accuracy_without, half_class_accuracy, union_report
from mote.parallel.accelerator import Accelerator, on_main
from mote.parallel.precision import resolve_precision


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
        source: what `classifier` was loaded from, `model` and `backbone`; None = it is being trained. With it, videos
            that are also in the training list are warned of.
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
    records = reading.records(settings.manifest, settings.root, own, settings.classes, settings.split)
    labels = [*own, *added_classes(own, union)]
    if settings.templates is not None:
        classifier = classifier.with_templates(reading.templates(settings.templates))
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
    inputs = {**(source or {"model": config.run.out, "backbone": None}), "union": union, "folder": os.getcwd()}
    if inputs["model"] is not None and Path(inputs["model"]).exists():  # else it is the name of an architecture
        inputs["model"] = os.path.abspath(inputs["model"])
    origin = provenance(config=config.model_dump(), hashes=hashes, seed=config.seed) | {"inputs": inputs}
    origin["decoder"] = config.data.decoder
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


def training_warning(config: Config, records: Sequence[Record]) -> list[str]:
    """That `records` have videos of the list the model was trained on, where that list is still there."""
    data = config.data
    if data.train is None or not Path(data.train).exists():
        return []
    try:
        names = reading.class_names(data.classes, data.train)
        pairs = shared_videos(reading.records(data.train, data.root, names, data.classes, data.split), records)
    except ManifestError:  # it is no longer the list of the training: nothing can be said
        return []
    return [f"{len(pairs)} videos are also in the training list {data.train}: {in_words(pairs)}"] if pairs else []


MOST_CLASSES = 100  # of which a result says what each gives to each other


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

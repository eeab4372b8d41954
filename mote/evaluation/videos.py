"""What `mote eval` does: score a classifier on listed videos, and write down what came out and from what."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mote.config import Config
from mote.datasets.lists.agreement import in_words, shared_videos
from mote.datasets.lists.manifest import ManifestError, Record
from mote.datasets.lists.overlap import overlap
from mote.datasets.lists.reading import Listing, templates
from mote.evaluation.listings import evaluation_listing, training_ids, training_listing
from mote.evaluation.page import draw_page
from mote.evaluation.results import write_results
from mote.evaluation.unknown import unknown_records
from mote.evaluation.video_scores import score_videos
from mote.evaluation.vocabulary import added_classes, order_warning, own_classes, words_warning
from mote.files.provenance import provenance
from mote.inference.asked import Source
from mote.inference.classifier import VideoClassifier
from mote.inference.contract import as_asked, settled
from mote.metrics.accuracy import rank_classes
from mote.metrics.imbalance import imbalance_summary
from mote.metrics.open_set import open_set_report
from mote.metrics.result_files import Summary
from mote.metrics.scores import Scores, summarize
from mote.metrics.statistics import accuracy_without, half_class_accuracy, union_report
from mote.parallel.accelerator import Accelerator, on_main
from mote.parallel.precision import resolve_precision


def evaluate(
    classifier: VideoClassifier,
    config: Config,
    accelerator: Accelerator,
    out: Path | None,
    *,
    union: str | None = None,
    protocol: Mapping[str, Any] | None = None,
    halves: bool = False,
    page: bool = True,
) -> Summary:
    """Score `classifier` on the listed videos; write NAME.json, NAME.csv, NAME/index.html to `out`, or nothing.

    Without `evaluation.classes` the classes are those the model was tuned on, else those of the manifest.

    Args:
        classifier: what is scored; templates and alpha of the configuration are applied here. Where it was loaded (see
            `source`), videos that are also in the training list are warned of.
        config, accelerator, out: what is scored on and how, the processes that share the work, folder of the results.
        union: class file whose names compete as well, see `added_classes`. Temporal feature modulation compares the
            whole union with the classes of tuning.
        protocol: what the result says about the protocol that it obeys.
        halves: measure the accuracy over ten random halves of the classes too (see `statistics`).
        page: draw the page, where `evaluation.page` wants it too.

    Raises:
        ValueError: no manifest, or one that does not fit the classes.
        DecodeError: an undecodable video, unless `evaluation.bad_videos=count_wrong`.
    """
    settings, listing = config.evaluation, evaluation_listing(config.evaluation)
    own = own_classes(classifier, listing, new=protocol is not None)
    records = listing.records(own, folders=training_ids(config.data, own))
    class_names = [*own, *added_classes(own, union)]
    classifier = _as_asked(classifier, config, class_names)
    config = settled(config, classifier)
    unknown = unknown_records(settings.unknown, records, class_names) if settings.unknown is not None else []
    scores = score_videos(classifier, records, class_names, settings, config.data, accelerator)
    summary = summarize(scores, class_names) | _parts(scores, own, classifier.classes, union, protocol)
    summary |= _unequal_classes(classifier, scores, class_names, config.imbalance.posthoc)
    summary |= {"halves": _halves(scores, len(own))} if halves else {}
    trained_on = on_main(accelerator, lambda: training_warning(config, records)) if classifier.source else []
    summary["warnings"] = order_warning(own, classifier.classes) + trained_on + words_warning(own, listing, classifier)
    if unknown:
        others = score_videos(classifier, unknown, class_names, settings, config.data, accelerator)
        summary["open_set"] = open_set_report(scores, others, [str(r.path) for r in unknown], settings.accept)
    if out is None:
        return summary
    hashes = {"manifest": listing.sha256(records), **classifier.hashes(class_names)}
    hashes |= {"unknown": Listing(settings.unknown).sha256(unknown)} if settings.unknown is not None else {}
    columns = half_predictions(scores, summary["halves"]["per_subset"], class_names) if halves else {}

    def write() -> None:
        lines = {"records": records, "classes": class_names, "scores": scores, "columns": columns}
        origin = origin_of(classifier, config, hashes, union)
        write_results(out, settings.name, summary, provenance=origin, **lines)
        if page and settings.page:
            draw_page(out, classifier, class_names, settings, config.data, records)

    on_main(accelerator, write)
    return summary


def _unequal_classes(classifier: VideoClassifier, scores: Scores, class_names: Sequence[str], posthoc: str) -> Summary:
    """Numbers of unequal classes, where the training counts of these classes are known; none for very many classes."""
    counts = classifier.meta.get("counts")
    if counts is None or not classifier.is_tuned_on(class_names) or len(class_names) > MOST_CLASSES:
        return {}
    method = {"method": classifier.meta.get("method"), "posthoc": posthoc}
    return imbalance_summary(scores, class_names, counts) | {"method": method}


def _as_asked(classifier: VideoClassifier, config: Config, class_names: Sequence[str]) -> VideoClassifier:
    """The classifier with the clips, templates, interpolation and correction that `config` asks for."""
    classifier = as_asked(classifier, config)
    settings, posthoc = config.evaluation, config.imbalance.posthoc
    if settings.templates is not None:
        classifier = classifier.with_templates(templates(settings.templates))
    if settings.alpha < 1:
        classifier = classifier.interpolated(settings.alpha)
    if posthoc != "none" and settings.fusion == "reference":
        raise ValueError(
            f"imbalance.posthoc={posthoc} corrects logits, evaluation.fusion=reference fuses cosines; take mean_softmax"
        )
    return classifier.corrected(config.imbalance, class_names)


def origin_of(classifier: VideoClassifier, config: Config, hashes: Mapping[str, str], union: str | None = None) -> dict:
    """Provenance of a result: settings, hashes, versions, and where the model was loaded from."""
    source = classifier.source or Source(config.run.out or "")
    inputs = {"model": source.model or None, "backbone": source.backbone, "union": union, "folder": os.getcwd()}
    if source.model and Path(source.model).exists():  # else it is the name of an architecture
        inputs["model"] = os.path.abspath(source.model)
    origin = provenance(config=config.model_dump(), hashes=hashes, seed=config.seed) | {"inputs": inputs}
    origin["decoder"] = config.data.decoder
    return origin | {"precision": resolve_precision(config.evaluation.precision, classifier.device)}  # what "auto" was


def _halves(scores: Scores, own: int) -> Summary:
    """Accuracy over ten random halves of the first `own` classes: the vocabulary without what a union adds."""
    return half_class_accuracy(scores.probabilities[:, None, :own], scores.label, scores.valid)


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
        listing = training_listing(data)
        pairs = shared_videos(listing.records(listing.names()), records)
    except ManifestError:  # it is no longer the list of the training: nothing can be said
        return []
    return [f"{len(pairs)} videos are also in the training list {data.train}: {in_words(pairs)}"] if pairs else []


MOST_CLASSES = 100  # of which a result says what each gives to each other


def _parts(
    scores: Scores, own: Sequence[str], tuned: Sequence[str] | None, union: str | None, protocol: Mapping | None
) -> Summary:
    """Parts of a summary: `union`, `protocol`, and `overlap`, the accuracy without class names of tuning."""
    parts: Summary = {}
    if tuned is not None and {*tuned} != {*own}:
        matches = overlap(tuned, own)
        excluded = [own.index(match.b_name) for match in matches]
        parts["overlap"] = accuracy_without(scores.probabilities, scores.label, excluded, scores.valid)
        parts["overlap"]["names"] = [match._asdict() for match in matches]
    if union is not None:
        parts["union"] = union_report(scores.probabilities, scores.label, len(own), scores.valid)
    return parts if protocol is None else parts | {"protocol": protocol}

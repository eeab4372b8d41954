"""What `mote eval` does: score a classifier on listed videos, and write down what came out and from what."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mote import build
from mote.classifier import Classifier, load
from mote.config import Config
from mote.datasets.manifest import Record
from mote.evaluation.closed_set import summarize
from mote.evaluation.open_set import open_set_report
from mote.evaluation.results import provenance, sha256_file, sha256_lines, sha256_tensors, write_results
from mote.reporting.page import percent
from mote.result_page import draw_page, page_path
from mote.scores import score_videos
from mote.training.distributed import Accelerator, make_accelerator, on_main
from mote.unknown import unknown_records


def headline(summary: Mapping[str, Any]) -> str:
    """One line of a result: accuracies in percent with their 95 % intervals, and how many videos were scored."""
    top1, top5 = percent(summary["top1"], summary["top1_interval"]), percent(summary["top5"], summary["top5_interval"])
    recall = percent(summary["mean_class_recall"], summary.get("mean_class_recall_interval"))
    counts = f"{summary['scored']} of {summary['listed']} videos scored, {summary['num_classes']} classes"
    return f"top-1 {top1}, top-{summary['top5_k']} {top5}, mean class recall {recall} ({counts})"


def evaluate_model(model: str, config: Config, out: Path, clip: str | None = None) -> dict[str, Any]:
    """Score any model (see `mote.classifier.load`) on `config.evaluation`; returns the summary that was written."""
    accelerator = make_accelerator("fp32", cpu=config.run.cpu)
    classifier = load(model, clip=clip, device=accelerator.device)
    summary = evaluate(classifier, config, accelerator, out)
    if accelerator.is_main_process:
        print(f"{out / config.evaluation.name}.json: {headline(summary)}")
        if (page := page_path(out, config.evaluation.name)).is_file():
            print(f"{page}: the same with pictures")
    return summary


def evaluate(
    classifier: Classifier, config: Config, accelerator: Accelerator, out: Path, page: bool = True
) -> dict[str, Any]:
    """Score `classifier` on the listed videos and write `out/NAME.json`, `out/NAME.csv` and `out/NAME/index.html`.

    Without `evaluation.classes` the classes are those the model was tuned on, else those of the manifest. The page is
    drawn where both `page` and `evaluation.page` say so.

    Raises:
        ValueError: no manifest, or one that does not fit the classes.
        DecodeError: an undecodable video, unless `evaluation.bad_videos=count_wrong`.
    """
    settings = config.evaluation
    if settings.manifest is None:
        raise ValueError("evaluation.manifest is not set; give a list of videos: evaluation.manifest=test.txt")
    labels = classifier.classes
    if settings.classes is not None or labels is None:
        labels = build.class_names(settings.classes, settings.manifest)
    records = build.records(settings.manifest, settings.root, labels, settings.classes, settings.split)
    if settings.templates is not None:
        classifier.templates = build.templates(settings.templates)
    if settings.alpha < 1:
        classifier = classifier.interpolated(settings.alpha)
    unknown = unknown_records(settings.unknown, records, labels) if settings.unknown is not None else []
    scores = score_videos(classifier, records, labels, settings, config.data, accelerator)
    summary = summarize(scores, labels)
    if unknown:
        others = score_videos(classifier, unknown, labels, settings, config.data, accelerator)
        summary["open_set"] = open_set_report(scores, others, [str(r.path) for r in unknown], settings.accept)
    hashes = {
        "manifest": _hash_manifest(settings.manifest, records),
        "classes": sha256_lines(labels),
        "templates": sha256_lines(classifier.templates),
        "weights": sha256_tensors(classifier.model.state_dict()),
    }
    if settings.unknown is not None:
        hashes["unknown"] = _hash_manifest(settings.unknown, unknown)
    origin = provenance(config=config.model_dump(), hashes=hashes, seed=config.seed)
    on_main(
        accelerator,
        lambda: write_results(
            out, settings.name, summary, records=records, classes=labels, scores=scores, provenance=origin
        ),
    )
    views = build.evaluation_dataset(
        records, settings, config.data, frames=classifier.frames, size=classifier.size, difference=classifier.difference
    )
    on_main(accelerator, lambda: draw_page(out, classifier, labels, settings, views, wanted=page and settings.page))
    return summary


def _hash_manifest(manifest: str, records: Sequence[Record]) -> str:
    if Path(manifest).is_file():
        return sha256_file(manifest)
    return sha256_lines([f"{record.path} {record.label}" for record in records])

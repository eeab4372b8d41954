"""What `mote eval` does: score a classifier on listed videos, and write down what came out and from what."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mote import build
from mote.classifier import Classifier, load
from mote.config import Config
from mote.datasets.manifest import Record
from mote.evaluation.closed_set import Scores, summarize
from mote.evaluation.results import provenance, sha256_file, sha256_lines, sha256_tensors, write_results
from mote.reporting.page import percent
from mote.scores import score_videos
from mote.training.distributed import Accelerator, make_accelerator, on_main


def headline(summary: Mapping[str, Any]) -> str:
    """One line of a result: accuracies in percent with their 95 % intervals, and how many videos were scored."""
    top1, top5 = percent(summary["top1"], summary["top1_interval"]), percent(summary["top5"], summary["top5_interval"])
    recall = percent(summary["mean_class_recall"])
    counts = f"{summary['scored']} of {summary['listed']} videos scored, {summary['num_classes']} classes"
    return f"top-1 {top1}, top-{summary['top5_k']} {top5}, mean class recall {recall} ({counts})"


def evaluate_model(model: str, config: Config, out: Path, clip: str | None = None) -> dict[str, Any]:
    """Score any model (see `mote.classifier.load`) on `config.evaluation`; returns the summary that was written."""
    accelerator = make_accelerator("fp32", cpu=config.run.cpu)
    if config.task == "image":
        from mote.image_runs import evaluate_folder

        summary = evaluate_folder(Path(model), config, accelerator, out)
        if accelerator.is_main_process:
            print(f"{out / config.evaluation.name}.json: {headline(summary)}")
        return summary
    classifier = load(model, clip=clip, device=accelerator.device)
    summary = evaluate(classifier, config, accelerator, out)
    if accelerator.is_main_process:
        print(f"{out / config.evaluation.name}.json: {headline(summary)}")
    return summary


def evaluate(classifier: Classifier, config: Config, accelerator: Accelerator, out: Path) -> dict[str, Any]:
    """Score `classifier` on the listed videos and write `out/NAME.json` and `out/NAME.csv`.

    Without `evaluation.classes` the classes are those the model was tuned on, else those of the manifest.

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
    scores = score_videos(classifier, records, labels, settings, config.data, accelerator)
    hashes = {
        "templates": sha256_lines(classifier.templates),
        "weights": sha256_tensors(classifier.model.state_dict()),
    }
    return write_summary(scores, records, labels, hashes, config, accelerator, out)


def write_summary(
    scores: Scores,
    records: Sequence[Record],
    labels: Sequence[str],
    hashes: dict[str, str],
    config: Config,
    accelerator: Accelerator,
    out: Path,
) -> dict[str, Any]:
    """Count, and write `out/NAME.json` and `out/NAME.csv` from the main process; hashes: of weights and the like."""
    settings = config.evaluation
    summary = summarize(scores, labels)
    listed = {"manifest": _hash_manifest(settings.manifest or "", records), "classes": sha256_lines(labels)}
    origin = provenance(config=config.model_dump(), hashes=listed | hashes, seed=config.seed)
    on_main(
        accelerator,
        lambda: write_results(
            out, settings.name, summary, records=records, classes=labels, scores=scores, provenance=origin
        ),
    )
    return summary


def _hash_manifest(manifest: str, records: Sequence[Record]) -> str:
    if Path(manifest).is_file():
        return sha256_file(manifest)
    return sha256_lines([f"{record.path} {record.label}" for record in records])

"""`mote predict`: name the videos of files and folders; a bad file is reported, skipped, and told by the exit code."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mote.classifier import load
from mote.datasets.decode import DecodeError
from mote.datasets.manifest import VIDEO_SUFFIXES, read_class_names, video_files
from mote.evaluation.results import versions, write_atomic


@dataclass
class Prediction:
    """Scores of one video, most probable first, or why there are none."""

    path: Path
    scores: dict[str, float]
    error: str | None = None


def find_videos(places: Sequence[str | Path]) -> list[Path]:
    """Files as given; folders searched for video suffixes, sorted.

    Raises:
        FileNotFoundError: a place that does not exist, or a folder without videos.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if not place.exists():
            raise FileNotFoundError(f"{place}: no such video file or folder")
        inside = video_files(place) if place.is_dir() else [place]
        if not inside:
            raise FileNotFoundError(f"{place}: no video in this folder; looked for {' '.join(sorted(VIDEO_SUFFIXES))}")
        found += inside
    return found


def predict(
    model: str,
    places: Sequence[str],
    *,
    labels: list[str] | None = None,
    classes: str | None = None,
    templates: str | None = None,
    clip: str | None = None,
    clips: int = 1,
    crops: int = 1,
    top: int = 5,
    csv_file: str | None = None,
    json_file: str | None = None,
) -> int:
    """Print the `top` names of every video, write all scores to the files asked for; 0, or 1 when a file was bad.

    Raises:
        ValueError, FileNotFoundError: unknown model, no labels, or no such video.
    """
    videos = find_videos(places)
    classifier = load(model, clip=clip, templates=templates)
    names = classifier.labels_or_own(read_class_names(classes) if classes else labels)
    predictions = []
    for path in (bar := tqdm(videos, unit="video", disable=None if len(videos) > 1 else True)):
        try:
            scores = classifier.classify_video(path, names, clips=clips, crops=crops)
            predictions.append(Prediction(path, scores))
            best = ", ".join(f"{name} {score:.3f}" for name, score in list(scores.items())[:top])
            bar.write(f"{path}: {best}")
        except DecodeError as error:
            predictions.append(Prediction(path, {}, str(error)))
            bar.write(f"mote: skipped: {error}", file=sys.stderr)
    if csv_file:
        write_atomic(Path(csv_file), _as_csv(predictions, names))
    if json_file:
        settings = {"model": model, "labels": names, "clips": clips, "crops": crops, "versions": versions()}
        write_atomic(Path(json_file), json.dumps({**settings, "videos": [_as_json(p) for p in predictions]}, indent=1))
    bad = sum(p.error is not None for p in predictions)
    if bad:
        print(f"mote: {bad} of {len(videos)} videos could not be decoded", file=sys.stderr)
    return int(bad > 0)


def _as_json(prediction: Prediction) -> dict:
    path = str(prediction.path)
    return (
        {"path": path, "error": prediction.error} if prediction.error else {"path": path, "scores": prediction.scores}
    )


def _as_csv(predictions: Sequence[Prediction], names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "predicted", *names, "error"])
    for p in predictions:
        scores = [f"{p.scores[name]:.6f}" for name in names] if p.scores else [""] * len(names)
        writer.writerow([p.path, next(iter(p.scores), ""), *scores, p.error or ""])
    return text.getvalue()

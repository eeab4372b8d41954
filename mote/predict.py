"""`mote predict`: name videos, or images with a network for them; a bad file is reported and told by the exit code."""

import csv
import io
import json
import sys
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mote.datasets.decode_errors import DecodeError
from mote.datasets.images import BadImageError
from mote.datasets.manifest import IMAGE_SUFFIXES, VIDEO_SUFFIXES, read_class_names, video_files
from mote.evaluation.results import sha256_lines, sha256_tensors, versions, write_atomic
from mote.loading import load
from mote.predict_images import image_config, load_predictor
from mote.unknown import read_threshold

NONE = "none of these"


@dataclass
class Prediction:
    """Scores of one video, most probable first, or why there are none; `name` is what it is called, None for none."""

    path: Path
    scores: dict[str, float]
    error: str | None = None
    name: str | None = None


def find_videos(places: Sequence[str | Path], kind: str = "video", suffixes: Set[str] = VIDEO_SUFFIXES) -> list[Path]:
    """Files as given; folders searched for their suffixes, sorted; `kind` is what the files are called.

    Raises:
        FileNotFoundError: a place that does not exist, or a folder without such files.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if not place.exists():
            raise FileNotFoundError(f"{place}: no such {kind} file or folder")
        inside = video_files(place, suffixes) if place.is_dir() else [place]
        if not inside:
            raise FileNotFoundError(f"{place}: no {kind} in this folder; looked for {' '.join(sorted(suffixes))}")
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
    threshold: str | None = None,
    csv_file: str | None = None,
    json_file: str | None = None,
) -> int:
    """Print the `top` names of every video, write all scores to the files asked for; 0, or 1 when a file was bad.

    threshold: a probability or a result file that holds one (see `unknown.read_threshold`); a video whose best name
    does not reach it is answered "none of these".

    Raises:
        ValueError, FileNotFoundError: unknown model, no labels, no such video, a threshold of something else.
    """
    given = read_class_names(classes) if classes else labels
    if (config := image_config(model)) is not None:
        kind, files = "image", find_videos(places, "image", IMAGE_SUFFIXES)
        predictor = load_predictor(model, config, given)
        names, hashes, scores_of = predictor.classes, predictor.hashes, predictor.scores
    else:
        kind, files = "video", find_videos(places)
        classifier = load(model, clip=clip, templates=templates)
        names = classifier.labels_or_own(given)

        def hashes() -> dict[str, str]:
            tensors, templates = classifier.model.state_dict(), classifier.templates
            lists = {"classes": sha256_lines(names), "templates": sha256_lines(templates)}
            return {"weights": sha256_tensors(tensors), **lists}

        def scores_of(path: Path) -> dict[str, float]:
            return classifier.classify_video(path, names, clips=clips, crops=crops)

    least = read_threshold(threshold, hashes, clips=clips, crops=crops) if threshold is not None else 0.0
    predictions = []
    for path in (bar := tqdm(files, unit=kind, disable=None if len(files) > 1 else True)):
        try:
            scores = scores_of(path)
            name, highest = next(iter(scores.items()))
            found = highest >= least
            predictions.append(Prediction(path, scores, name=name if found else None))
            best = ", ".join(f"{name} {score:.3f}" for name, score in list(scores.items())[:top])
            bar.write(f"{path}: {best}" if found else f"{path}: {NONE} ({best})")
        except (DecodeError, BadImageError) as error:
            predictions.append(Prediction(path, {}, str(error)))
            bar.write(f"mote: skipped: {error}", file=sys.stderr)
    if csv_file:
        write_atomic(Path(csv_file), _as_csv(predictions, names))
    if json_file:
        settings = {"model": model, "labels": names, "clips": clips, "crops": crops, "versions": versions()}
        settings |= {"threshold": least} if threshold is not None else {}
        write_atomic(
            Path(json_file), json.dumps({**settings, f"{kind}s": [_as_json(p) for p in predictions]}, indent=1)
        )
    bad = sum(p.error is not None for p in predictions)
    if bad:
        print(f"mote: {bad} of {len(files)} {kind}s could not be decoded", file=sys.stderr)
    return int(bad > 0)


def _as_json(prediction: Prediction) -> dict:
    if prediction.error:
        return {"path": str(prediction.path), "error": prediction.error}
    return {"path": str(prediction.path), "predicted": prediction.name, "scores": prediction.scores}


def _as_csv(predictions: Sequence[Prediction], names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "predicted", *names, "error"])
    for p in predictions:
        scores = [f"{p.scores[name]:.6f}" for name in names] if p.scores else [""] * len(names)
        writer.writerow([p.path, p.name or (NONE if p.scores else ""), *scores, p.error or ""])
    return text.getvalue()

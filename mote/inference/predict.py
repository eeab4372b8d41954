"""`mote predict`: name videos, or images with a network for them; a bad file is reported and told by the exit code."""

import csv
import io
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from mote.config import load as load_config
from mote.config.sections import ImbalanceConfig
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.decoding.frame_folder import find_clips
from mote.datasets.face_crop import NoFaceError, check_installed
from mote.datasets.images import BadImageError
from mote.datasets.lists.manifest import IMAGE_SUFFIXES, VIDEO_SUFFIXES, read_class_names, video_files
from mote.files.hashes import sha256_lines, sha256_tensors
from mote.files.provenance import versions
from mote.files.run_directory import config_file
from mote.files.writing import write_atomic
from mote.inference.classifier import Classifier
from mote.inference.images import image_config, load_predictor
from mote.inference.loading import load
from mote.inference.threshold import read_threshold

NONE = "none of these"


@dataclass
class Prediction:
    """Scores of one video, most probable first, or why there are none; `name` is what it is called, None for none."""

    path: Path
    scores: dict[str, float]
    error: str | None = None
    name: str | None = None


def find_files(places: Sequence[str | Path], kind: str = "video") -> list[Path]:
    """Files as given; folders searched for files of the `kind`, video or image, or for clips as folders of frames.

    Raises:
        FileNotFoundError: a place that does not exist, or a folder without such files.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if not place.exists():
            raise FileNotFoundError(f"{place}: no such {kind} file or folder")
        search = find_clips if kind == "video" else partial(video_files, suffixes=IMAGE_SUFFIXES)
        inside = search(place) if place.is_dir() else [place]
        if not inside:
            suffixes = VIDEO_SUFFIXES if kind == "video" else IMAGE_SUFFIXES
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
    backbone: str | None = None,
    clips: int = 1,
    crops: int = 1,
    top: int = 5,
    threshold: str | None = None,
    faces: bool = False,
    csv_file: str | None = None,
    json_file: str | None = None,
) -> int:
    """Print the `top` names of every video, write all scores to the files asked for; 0, or 1 when a file was bad.

    threshold: a probability or a result file that holds one (see `unknown.read_threshold`); a video whose best name
    does not reach it is answered "none of these".
    faces: look at the largest face alone; a file without one is bad.

    Raises:
        ValueError, FileNotFoundError: unknown model, no labels, no such video, a threshold of something else.
    """
    if faces:
        check_installed()
    given = read_class_names(classes) if classes else labels
    if (config := image_config(model)) is not None:
        kind, files = "image", find_files(places, "image")
        predictor = load_predictor(model, config, given, faces)
        names, hashes, scores_of = predictor.classes, predictor.hashes, predictor.scores
    else:
        kind, files = "video", find_files(places)
        classifier = load(model, backbone=backbone, templates=templates)
        names = classifier.labels_or_own(given)
        classifier = _corrected(classifier, model, names)

        def hashes() -> dict[str, str]:
            tensors, templates = classifier.model.state_dict(), classifier.templates
            lists = {"classes": sha256_lines(names), "templates": sha256_lines(templates)}
            return {"weights": sha256_tensors(tensors), **lists}

        def scores_of(path: Path) -> dict[str, float]:
            return classifier.classify_video(path, names, clips=clips, crops=crops, faces=faces)

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
        except (DecodeError, BadImageError, NoFaceError) as error:
            predictions.append(Prediction(path, {}, str(error)))
            bar.write(f"mote: skipped: {error}", file=sys.stderr)
    if csv_file:
        write_atomic(Path(csv_file), _as_csv(predictions, names))
    if json_file:
        settings = {"model": model, "labels": names, "clips": clips, "crops": crops, "versions": versions()}
        settings |= {"faces": True} if faces else {}
        settings |= {"threshold": least} if threshold is not None else {}
        write_atomic(
            Path(json_file), json.dumps({**settings, f"{kind}s": [_as_json(p) for p in predictions]}, indent=1)
        )
    bad = sum(p.error is not None for p in predictions)
    if bad:
        print(f"mote: {bad} of {len(files)} {kind}s could not be {'used' if faces else 'decoded'}", file=sys.stderr)
    return int(bad > 0)


def posthoc(model: str) -> ImbalanceConfig | None:
    """The correction after training that the configuration of a run asks for; None for none, or where there is none."""
    file = config_file(model)
    settings = load_config([file]).imbalance if file is not None else ImbalanceConfig()
    return None if settings.posthoc == "none" else settings


def _corrected(classifier: Classifier, model: str, names: Sequence[str]) -> Classifier:
    """The classifier corrected as its run is evaluated; what is not a class of the run cannot be."""
    if (settings := posthoc(model)) is None:
        return classifier
    if not classifier.is_tuned_on(names):
        warnings.warn(f"imbalance.posthoc={settings.posthoc} is for the run's own classes: not applied", stacklevel=2)
        return classifier
    return classifier.adjusted(settings.posthoc_tau)


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

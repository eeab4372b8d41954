"""`mote predict`: name videos, or images with a network for them; a bad file is reported and told by the exit code."""

import csv
import io
import json
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mote.config import load as load_config
from mote.config.sections import ImbalanceConfig
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.face_crop import NoFaceError, check_installed
from mote.datasets.images import BadImageError
from mote.datasets.lists.folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES, find_clips, say_left_out, search
from mote.files.provenance import versions
from mote.files.run_directory import settings_file
from mote.files.writing import write_together
from mote.inference.classifier import VideoClassifier
from mote.inference.loading import load
from mote.inference.model import ONE_VIEW, Model, Namer, Views
from mote.inference.threshold import read_threshold

NONE = "none of these"


@dataclass
class Prediction:
    """Scores of one file, most probable first, or why there are none. `name`: the answer; None where no class is."""

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
            what = "this link leads to nothing" if place.is_symlink() else f"no such {kind} file or folder"
            raise FileNotFoundError(f"{place}: {what}")
        inside = [place] if not place.is_dir() else find_clips(place) if kind == "video" else _images(place)
        if not inside:
            suffixes = VIDEO_SUFFIXES if kind == "video" else IMAGE_SUFFIXES
            raise FileNotFoundError(f"{place}: no {kind} in this folder; looked for {' '.join(sorted(suffixes))}")
        found += inside
    return found


def _images(folder: Path) -> list[Path]:
    files, left_out = search(folder, IMAGE_SUFFIXES)
    say_left_out(folder, left_out, "images")
    return files


@dataclass(frozen=True)
class Request:
    """What `mote predict` is asked for.

    Args:
        model: see `mote.load`; it must name files.
        places: files, or folders that are searched for them.
        class_names: names to choose among; None = the model's own.
        templates, backbone: see `mote.load`.
        views: how often each file is looked at; images have one view.
        top: names printed for each file.
        threshold: a probability, or a result file that holds one (see `read_threshold`); a file whose best name does
            not reach it is answered "none of these".
        csv_file, json_file: where all scores are written.
    """

    model: str
    places: Sequence[str]
    class_names: list[str] | None = None
    templates: str | None = None
    backbone: str | None = None
    views: Views = ONE_VIEW
    top: int = 5
    threshold: str | None = None
    csv_file: str | None = None
    json_file: str | None = None


def predict(request: Request) -> int:
    """Print the best names of every file and write all scores; the exit code: 0, or 1 when a file was bad.

    Raises:
        ValueError, FileNotFoundError: unknown model, no class names, no such file, a threshold of something else.
    """
    views, written = request.views, [Path(file) for file in (request.csv_file, request.json_file) if file]
    if views.faces:
        check_installed()
    if folders := [file for file in written if file.is_dir()]:
        raise ValueError(f"{folders[0]}: is a folder; --csv and --json take the name of a file")
    if len({os.path.abspath(file) for file in written}) < len(written):
        raise ValueError(f"{written[0]}: --csv and --json name the same file; give each its own")
    model = load(request.model, backbone=request.backbone, templates=request.templates)
    if not isinstance(model, Namer):
        raise ValueError(f"{request.model}: an autoencoder names nothing; use mote sample or mote eval")
    if model.kind == "image" and (views.clips, views.crops) != (1, 1):
        raise ValueError(f"--clips and --crops are for videos; {request.model} holds a network for still images")
    files = find_files(request.places, model.kind)
    names = model.chosen(request.class_names)
    if request.csv_file and (taken := {"path", "predicted", "error"} & {*names}):
        raise ValueError(f"--csv: a class is called {taken.pop()!r}, as a column of the table is; write --json instead")
    model = corrected(model, names)
    least = 0.0
    if request.threshold is not None:
        least = read_threshold(request.threshold, lambda: model.hashes(names), clips=views.clips, crops=views.crops)
    predictions = []
    for path in (bar := tqdm(files, unit=model.kind, disable=None if len(files) > 1 else True)):
        try:
            scores = model.scores(path, names, views)
            name, highest = next(iter(scores.items()))
            found = highest >= least
            predictions.append(Prediction(path, scores, name=name if found else None))
            best = ", ".join(f"{name} {score:.3f}" for name, score in list(scores.items())[: request.top])
            bar.write(f"{path}: {best}" if found else f"{path}: {NONE} ({best})")
        except (DecodeError, BadImageError, NoFaceError) as error:
            predictions.append(Prediction(path, {}, str(error)))
            bar.write(f"mote: skipped: {error}", file=sys.stderr)
    contents: dict[Path, str | bytes] = {}
    if request.csv_file:
        contents[Path(request.csv_file)] = _as_csv(predictions, names)
    if request.json_file:
        settings = {"model": request.model, "labels": names, "clips": views.clips, "crops": views.crops}
        settings |= {"versions": versions()} | ({"faces": True} if views.faces else {})
        settings |= {"recipe": model.recipe} if isinstance(model, VideoClassifier) else {}
        settings |= {"threshold": least} if request.threshold is not None else {}
        document = {**settings, f"{model.kind}s": [_as_json(p) for p in predictions]}
        contents[Path(request.json_file)] = json.dumps(document, indent=1)
    if contents:
        write_together(contents)
    bad = sum(p.error is not None for p in predictions)
    if bad:
        what = "used" if views.faces else "decoded"
        print(f"mote: {bad} of {len(files)} {model.kind}s could not be {what}", file=sys.stderr)
    return int(bad > 0)


def posthoc(model: Model) -> ImbalanceConfig:
    """The correction after training that the configuration of the model's run asks for."""
    file = settings_file(model.source.model) if model.source is not None else None
    return ImbalanceConfig() if file is None else load_config([file]).imbalance


def corrected(model: Namer, class_names: Sequence[str]) -> Namer:
    """The model corrected as its run is evaluated; other class names than its own cannot be, which a warning says."""
    settings = posthoc(model)
    if settings.posthoc != "none" and [*class_names] != model.classes:
        warnings.warn(f"imbalance.posthoc={settings.posthoc} is for the run's own classes: not applied", stacklevel=2)
        return model
    return model.corrected(settings, class_names)


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

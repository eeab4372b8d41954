"""Open set: clips of no listed class, how well a model tells them apart, and the threshold of "none of these".

Score of a clip: its highest probability (maximum softmax, Hendrycks & Gimpel, ICLR 2017; over the classes of a CLIP,
Ming et al., NeurIPS 2022). The threshold keeps the stated share of the clips that do belong to the vocabulary, so it
means something only for the same weights, names, prompts and views: `read_threshold` checks that they are the same.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from mote import build
from mote.datasets.manifest import ManifestError, Record, manifest_classes, video_files
from mote.evaluation.closed_set import Scores
from mote.evaluation.statistics import auroc, auroc_interval, open_set

SAME_HASHES = {"weights": "weights", "classes": "names to choose among", "templates": "prompt templates"}


def unknown_records(unknown: str, known: Sequence[Record], labels: Sequence[str]) -> list[Record]:
    """The clips of `unknown`: a list as any other, whose labels do not matter, or a folder, searched for videos.

    Raises:
        ValueError: no such list, none in it, or a clip of it is listed in `known` or spelled out as one of `labels`.
    """
    try:
        names = manifest_classes(unknown)
    except ManifestError:
        names = None  # a list of numbers, or a folder without subfolders
    if listed := sorted(set(names or ()) & set(labels)):
        raise ValueError(f"{unknown}: {listed[0]!r} is a class to choose among; list only clips of no such class")
    if Path(unknown).is_dir():
        records = [Record(file, 0) for file in video_files(unknown)]
        if not records:
            raise ValueError(f"{unknown}: no video in this folder")
    else:
        records = build.records(unknown, None, names, None, None)
    places = {os.path.abspath(record.path) for record in known}
    for record in records:
        if os.path.abspath(record.path) in places:
            raise ValueError(f"{unknown}: {record.path} is also in evaluation.manifest; it cannot be of no class")
    # The label is only there to be carried along: any class will do, and numbers of another list may not fit.
    return [record._replace(label=0) for record in records]


def measure(known: Scores, unknown: Scores, records: Sequence[Record], accept: float) -> dict[str, Any]:
    """The "open_set" part of a result: keys of `statistics.open_set`, and those named here.

    accept: share in (0, 1] of the known clips that the threshold keeps. listed, undecodable: of the unknown clips
    `records`; those not decoded have no score. other_scores: AUROC and interval of two more scores, the margin between
    the two highest probabilities and the negative entropy. Where nothing could be decoded, only listed, undecodable.
    """
    lost = [str(record.path) for record, valid in zip(records, unknown.valid, strict=True) if not valid]
    report: dict[str, Any] = {"accept": accept, "listed": len(records), "undecodable": lost}
    inside, outside = known.probabilities[known.valid], unknown.probabilities[unknown.valid]
    if not len(inside) or not len(outside):
        return report
    report |= open_set(inside.max(axis=1), outside.max(axis=1), rejected=1 - accept)
    report["other_scores"] = {}
    for name, score in (("margin", margin), ("negative_entropy", negative_entropy)):
        area = auroc(score(inside), score(outside))
        interval = list(auroc_interval(area, len(inside), len(outside)))
        report["other_scores"][name] = {"auroc": area, "auroc_interval": interval}
    return report


def margin(probabilities: Float64[np.ndarray, "N K"]) -> Float64[np.ndarray, "N"]:
    """The highest probability minus the second; with one class, that class's."""
    best = np.sort(probabilities, axis=1)[:, ::-1]
    return best[:, 0] - best[:, 1] if best.shape[1] > 1 else best[:, 0]


def negative_entropy(probabilities: Float64[np.ndarray, "N K"]) -> Float64[np.ndarray, "N"]:
    """sum p log p in nats: 0 for a sure prediction, -log K for an even one."""
    return (probabilities * np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))).sum(axis=1)


def read_threshold(text: str, hashes: Callable[[], Mapping[str, str]], *, clips: int, crops: int) -> float:
    """The threshold that `--threshold` means: a probability, or the one stored in a result file.

    hashes: of what will be predicted with: weights, classes, templates; asked for where there is a result to compare
    them with. clips, crops: the views.
    Raises ValueError when it is neither, or when the result is of other weights, names, prompts or views.
    """
    try:
        value = float(text)
    except ValueError:
        return _stored_threshold(Path(text), hashes, clips, crops)
    if not 0 <= value <= 1:
        raise ValueError(f"--threshold {text}: expected a probability in 0..1, or a result file of `mote eval`")
    return value


def _stored_threshold(path: Path, hashes: Callable[[], Mapping[str, str]], clips: int, crops: int) -> float:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        origin, known = document["provenance"], document["open_set"]
        settings, theirs = origin["config"]["evaluation"], origin["hashes"]
        value = float(known["threshold"])
    except FileNotFoundError:
        raise ValueError(f"--threshold {path}: not a number, and there is no such result file") from None
    except (OSError, ValueError, TypeError, KeyError):
        raise ValueError(
            f"{path}: no threshold in it; expected a result of `mote eval ... evaluation.unknown=CLIPS`"
        ) from None
    ours = hashes()
    for key, words in SAME_HASHES.items():
        if theirs.get(key) != ours[key]:
            raise ValueError(f"{path}: its threshold was set with other {words}; use the same, or give a number")
    for key, value_here in (("clips", clips), ("crops", crops), ("fusion", "mean_softmax"), ("modulation", None)):
        if settings[key] != value_here:
            raise ValueError(
                f"{path}: its threshold was set with evaluation.{key}={settings[key]}, this is {value_here};"
                " use the same, or give a number"
            )
    return value

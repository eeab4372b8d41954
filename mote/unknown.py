"""Clips of no listed class: where they come from, and the threshold of "none of these" that was measured on them.

The threshold keeps the stated share of the clips that do belong to the vocabulary (see `mote.evaluation.open_set`), so
it means something only for the same weights, names, prompts and views: `read_threshold` checks that they are the same.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mote import build
from mote.datasets.frame_folder import find_clips
from mote.datasets.manifest import ManifestError, Record, manifest_classes

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
        records = [Record(file, 0) for file in find_clips(Path(unknown))]
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

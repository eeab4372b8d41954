"""Labels of encoded videos: a .csv with the columns path, label and, optionally, group, one video a line.

A path is a video as `mote encode` was given it, or leads to the same file from the folder of the list. A group is
whatever examples may share that is not their class, such as the recording they were cut from or the person they show:
examples of one group never lie on both sides of a cross-validation. Without the column each path is its own group.
"""

import csv
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from mote.datasets.lists.text import ManifestError, not_empty
from mote.files.names import plain
from mote.prediction.encodings import FeaturePlan
from mote.prediction.folder import base_folder, recorded_inputs
from mote.prediction.nearest import open_index
from mote.prediction.parts import from_text


class Line(NamedTuple):
    """A line of the list; `where` is its file:line."""

    where: str
    path: str
    label: str
    group: str


class Examples(NamedTuple):
    """Labelled features of length 1; the classes are sorted, labels number them, groups are numbered from 0."""

    features: Float32[np.ndarray, "N D"]
    labels: Int64[np.ndarray, "N"]
    groups: Int64[np.ndarray, "N"]
    classes: list[str]


def read_labels(path: Path | str) -> list[Line]:
    """The lines of a list; raises ManifestError, naming the line, for one that cannot be used as it stands."""
    path = Path(path)
    if not path.is_file():
        raise ManifestError(f"{path}: there is no such file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(_lines(path, csv.reader(file, skipinitialspace=True)))
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a text file in UTF-8 ({error.reason}); convert it") from error
    except csv.Error as error:
        raise ManifestError(f"{path}: not a .csv file: {error}") from error
    seen: dict[str, Line] = {}
    for line in lines:
        if (other := seen.setdefault(line.path, line)) is not line:
            raise ManifestError(f"{line.where}: {line.path} stands there already, in {other.where}; remove one")
    return not_empty(path, lines)


def _lines(path: Path, reader: Iterator[list[str]]) -> Iterator[Line]:
    header = [plain(column).casefold() for column in next(reader, [])]
    for column in ("path", "label"):
        if header.count(column) != 1:
            got = ",".join(header)
            raise ManifestError(f"{path}:1: expected a header with columns path,label[,group], got {got!r}")
    for number, row in enumerate(reader, 2):
        if not row:
            continue
        cells = dict(zip(header, row, strict=False))
        path_, label = cells.get("path", ""), plain(cells.get("label", ""))
        group = plain(cells.get("group", path_))
        if len(row) != len(header) or not (path_.strip() and label and group):
            raise ManifestError(
                f"{path}:{number}: expected {len(header)} cells ({','.join(header)}), none of them empty"
            )
        yield Line(f"{path}:{number}", path_, label, group)


def read_examples(out: Path, plan: FeaturePlan, labels: Path) -> Examples:
    """The features in the folder `out` of the videos that the list `labels` names.

    Raises:
        ManifestError: a list that cannot be used.
        ValueError: features of something else than videos, or of too few: fewer than two classes, a class with one
            example, a labelled video without features.
        PartError: a damaged part.
    """
    if plan.level != "video":
        raise ValueError(f"{out}: holds features of {plan.level}s; encode with --level video to fit classes of videos")
    lines = read_labels(labels)
    counts = Counter(line.label for line in lines)
    if len(counts) < 2:
        raise ValueError(f"{labels}: all examples are of one class, {lines[0].label!r}; at least two are needed")
    if single := [line for line in lines if counts[line.label] == 1]:
        more = f" (and {len(single) - 1} more classes)" if len(single) > 1 else ""
        raise ValueError(f"{single[0].where}: the only example of {single[0].label!r}; a class needs two{more}")
    index = open_index(out, plan)
    base, names = base_folder(out), list(map(from_text, index.pieces["path"].to_pylist()))
    ranks = {_place(name, base): rank for rank, name in enumerate(names)} | {name: i for i, name in enumerate(names)}
    chosen = [ranks.get(line.path, ranks.get(_place(line.path, labels.parent))) for line in lines]
    if lost := [line for line, rank in zip(lines, chosen, strict=True) if rank is None]:
        listed = map(from_text, recorded_inputs(out).to_pylist())
        failed = _place(lost[0].path, labels.parent) in {_place(name, base) for name in listed}
        why = "could not be encoded" if failed else f"is not in {out}; encode it first"
        more = f" ({len(lost)} labelled videos have no features)" if len(lost) > 1 else ""
        raise ValueError(f"{lost[0].where}: {lost[0].path} {why}{more}")
    twice = Counter(rank for rank in chosen if rank is not None).most_common(1)[0]
    if twice[1] > 1:
        raise ValueError(f"{labels}: {names[twice[0]]} stands there {twice[1]} times, in other words; leave it once")
    features = np.zeros((len(names), plan.dim), np.float32)
    for block in index.blocks():
        features[block.ranks[block.ranks >= 0]] = block.features[block.ranks >= 0]
    classes = sorted(counts)
    numbers = np.array([classes.index(line.label) for line in lines], np.int64)
    groups = np.unique([line.group for line in lines], return_inverse=True)[1].astype(np.int64)
    return Examples(features[np.array(chosen, np.int64)], numbers, groups, classes)


def _place(name: str, base: Path) -> str:
    """One spelling of an input: an address as it is, a path from the root."""
    return name if "://" in name else os.path.realpath(os.path.join(base, name))

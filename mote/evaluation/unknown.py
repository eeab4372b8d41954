"""Clips of no listed class: where they come from, and the threshold of "none of these" that was measured on them.

The threshold keeps the stated share of the clips that do belong to the vocabulary (see `mote.metrics.open_set`), so
it means something only for the same weights, names, prompts and views: `read_threshold` checks that they are the same.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from mote.datasets.lists.folders import find_clips
from mote.datasets.lists.manifest import ManifestError, Record, manifest_classes
from mote.datasets.lists.reading import Listing
from mote.files.names import letters


def unknown_records(unknown: str, known: Sequence[Record], labels: Sequence[str]) -> list[Record]:
    """The clips of `unknown`: a list as any other, whose labels do not matter, or a folder, searched for videos.

    Raises:
        ValueError: no such list, none in it, or a clip of it is listed in `known` or spelled out as one of `labels`.
    """
    try:
        names = manifest_classes(unknown)
    except ManifestError:
        names = None  # a list of numbers, or a folder without subfolders
    known_names = set(map(letters, labels))
    if listed := sorted(name for name in names or () if letters(name) in known_names):
        raise ValueError(f"{unknown}: {listed[0]!r} is a class to choose among; list only clips of no such class")
    if Path(unknown).is_dir():
        records = [Record(file, 0) for file in find_clips(Path(unknown))]
        if not records:
            raise ValueError(f"{unknown}: no video in this folder")
    else:
        records = Listing(unknown).records(names)
    places = {os.path.abspath(record.path) for record in known}
    for record in records:
        if os.path.abspath(record.path) in places:
            raise ValueError(f"{unknown}: {record.path} is also in evaluation.manifest; it cannot be of no class")
    # The label is only there to be carried along: any class will do, and numbers of another list may not fit.
    return [record._replace(label=0) for record in records]

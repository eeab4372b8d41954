"""What preparing a dataset reports of it: counts by list and class, and what is not on disk."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

from mote.datasets.lists.manifest import ManifestError
from mote.datasets.prepare.official import listed

Missing = Literal["error", "list"]  # a published file that is not on disk is an error, or is left out and listed


class Statistics(TypedDict):
    """One list: numbers of its files on disk (`videos` or `files`), in all and by class.

    imbalance: largest over smallest count that is not 0.
    """

    videos: NotRequired[int]
    files: NotRequired[int]
    missing: int
    per_class: dict[str, int]
    empty_classes: list[str]
    imbalance: float


# Files of the list `of` that have the content of a file in the list `and`: how many, and at most ten pairs (and, of).
Duplicates = TypedDict("Duplicates", {"of": str, "and": str, "files": int, "examples": list[tuple[str, str]]})


class Report(TypedDict):
    """What both kinds of dataset report; `videos`: the folder where relative paths start."""

    layout: str
    videos: str
    classes: list[str]
    lists: dict[str, Statistics]
    missing: list[str]
    notes: list[str]


class VideosReport(Report):
    """Report of `videos.prepare`; `splits`: where the split files were."""

    splits: str


class FacesReport(Report):
    """Report of `expression_lists.prepare_faces`.

    `labels`: where the label files were; `validation`: share and seed of the draw, None without one.
    """

    labels: str
    validation: dict[str, float] | None
    duplicates: list[Duplicates]


def statistics(
    kind: Literal["videos", "files"], names: Iterable[str], missing: int, classes: Sequence[str]
) -> Statistics:
    """Counts of a list by the class names of its files; `missing`: number of files that are not on disk."""
    counts = Counter(names)
    number = counts.total()
    total: Statistics = {
        "missing": missing,
        "per_class": {name: counts[name] for name in classes},
        "empty_classes": [name for name in classes if not counts[name]],
        "imbalance": max(counts.values()) / min(counts.values()),
    }
    return {"videos": number, **total} if kind == "videos" else {"files": number, **total}


def refuse_missing(root: Path, kind: str, absent: Sequence[str], total: int) -> None:
    """Raise ManifestError where any of the `total` published files (`kind`: videos, files) is not below `root`."""
    if absent:
        advice = "complete them, or ask for missing=list, which leaves them out and lists them"
        raise ManifestError(f"{root}: {len(absent)} of {total} {kind} are missing: {listed(absent)}; {advice}")

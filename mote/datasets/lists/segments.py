"""Lists of labelled segments of videos: a .csv with the columns path, start, end and label, one segment a line.

`start` and `end` are seconds from the first frame of the video. A video in which nothing is to be found has one line
with an empty start, end and label, so that what is found in it counts as wrong.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mote.datasets.lists.text import ManifestError, is_integer
from mote.files.names import plain, shown

COLUMNS = ("path", "start", "end", "label")


class SegmentLists(NamedTuple):
    """The videos of a list in the order in which they are first named, and (video, start, end, class name) of each
    segment, `video` a place in `videos`."""

    videos: list[Path]
    segments: list[tuple[int, float, float, str]]


def read_segments(path: Path | str, names: Sequence[str], root: Path | str | None = None) -> SegmentLists:
    """The segments of a list; labels are names of classes, or their numbers from 0.

    Args:
        path: the list.
        names: of the classes.
        root: where relative paths start; None: the folder of the list.

    Raises:
        ManifestError: a list that cannot be used as it stands, with the line.
    """
    path = Path(path)
    if not path.is_file() or path.suffix.lower() != ".csv":
        raise ManifestError(f"{path}: expected a .csv file with the columns {', '.join(COLUMNS)}")
    base, numbers = Path(root) if root is not None else path.parent, {plain(name): name for name in names}
    places: dict[Path, int] = {}
    segments: list[tuple[int, float, float, str]] = []
    empty: dict[int, str] = {}  # videos without segments, and the lines that say so
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            header = [plain(column).casefold() for column in next(reader, [])]
            if sorted(column for column in header if column in COLUMNS) != sorted(COLUMNS):
                raise ManifestError(
                    f"{path}:1: expected a header with columns {', '.join(COLUMNS)}, got {','.join(header)!r}"
                )
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if len(row) != len(header) or not row[header.index("path")].strip():
                    raise ManifestError(f"{where}: expected {len(header)} cells ({','.join(header)}), with a path")
                cells = dict(zip(header, row, strict=True))
                video = places.setdefault(base / cells["path"], len(places))
                if not any(cells[column].strip() for column in COLUMNS[1:]):
                    empty[video] = where
                else:
                    segments.append((video, *_segment(cells, where, names, numbers)))
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a text file in UTF-8 ({error.reason}); convert it") from error
    except csv.Error as error:
        raise ManifestError(f"{path}: not a .csv file: {error}") from error
    if not segments:
        raise ManifestError(f"{path}: it lists no segment")
    if both := sorted(empty.keys() & {segment[0] for segment in segments}):
        raise ManifestError(f"{empty[both[0]]}: says that nothing is in a video of which segments are listed")
    return SegmentLists([*places], segments)


def _segment(
    cells: dict[str, str], where: str, names: Sequence[str], numbers: dict[str, str]
) -> tuple[float, float, str]:
    """(start, end, class name) of a line."""
    try:
        start, end = float(cells["start"]), float(cells["end"])
    except ValueError:
        start, end = math.nan, math.nan
    if not 0 <= start < end < math.inf:
        raise ManifestError(
            f"{where}: expected seconds with 0 <= start < end, got start {cells['start']!r}, end {cells['end']!r}"
        )
    label = plain(cells["label"])
    if label in numbers:
        return start, end, numbers[label]
    if is_integer(label) and 0 <= int(label) < len(names):
        return start, end, names[int(label)]
    raise ManifestError(f"{where}: label {shown(label)} is not a known class name; check the class list")

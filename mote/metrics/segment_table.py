"""The table of an evaluation of timelines (NAME.csv), and the numbers of its result once more from that table.

Lines are the listed and the found segments of each video in the order of the list; a video with neither has one that
says so, so that the bootstrap draws the same videos again. Numbers are written such that reading gives them back.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path

from mote.metrics.result_files import ResultError, Summary, read_text
from mote.metrics.segments import Detection, Listed, segment_report
from mote.metrics.table_parts import short

COLUMNS = ("path", "kind", "start", "end", "name", "score")
EXACT = 1e-12  # of two sums of the same numbers
Line = tuple[object, ...]


def segment_lines(videos: Sequence[object], listed: Sequence[Listed], found: Sequence[Detection]) -> Iterator[Line]:
    """Lines with the cells of COLUMNS; `videos`: what is written for the path of each."""
    of: dict[int, list[Line]] = {number: [] for number in range(len(videos))}
    for s in listed:
        of[s.video].append((videos[s.video], "listed", s.start, s.end, s.label, ""))
    for s in found:
        of[s.video].append((videos[s.video], "found", s.start, s.end, s.label, s.score))
    for number, lines in of.items():
        yield from lines or [(videos[number], "nothing", "", "", "", "")]


def segment_differences(result: Summary, path: Path, seed: int) -> list[str]:
    """What the table in a file contradicts in a result, as `key: 3 in the table, 4 in the result`.

    Raises:
        ResultError: it is no such table.
    """
    rows = csv.reader(StringIO(read_text(path), newline=""), strict=True)
    if tuple(next(rows, ())) != COLUMNS:
        raise ResultError(f"{path}: expected the columns {', '.join(COLUMNS)}, as mote eval --window writes them")
    places: dict[str, int] = {}
    listed, found = list[Listed](), list[Detection]()
    for row in rows:
        video, kind, start, end, name, score = row if len(row) == len(COLUMNS) else ("", "", "", "", "", "")
        number = places.setdefault(video, len(places))
        try:
            if kind == "listed":
                listed.append(Listed(number, float(start), float(end), name))
            elif kind == "found":
                found.append(Detection(number, float(start), float(end), name, float(score)))
            elif kind != "nothing":
                raise ValueError
        except ValueError:
            raise ResultError(f"{path}:{rows.line_num}: damaged line; evaluate again") from None
    try:
        again = segment_report(listed, found, len(places), seed=seed)
    except ValueError as error:
        raise ResultError(f"{path}: {error}") from error
    return [
        f"{key}: {short(value)} in the table, {short(result.get(key))} in the result"
        for key, value in again.items()
        if not _equal(value, result.get(key))
    ]


def _equal(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, (int, float)):
        return abs(one - other) <= EXACT
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other

"""Timelines in a folder of parts (see `parts`): a row for each window; segments are made of them as they are collected.

Kept are the scores of windows, after smoothing: segments follow from windows, and not the other way round.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from mote.prediction.arrow import pa, pc
from mote.prediction.merging import Scored, Segment, joined
from mote.prediction.outputs import VideoTimeline
from mote.prediction.parts import as_text, from_text

_TEXT, _NUMBER = pa.string(), pa.float64()
SEGMENTS = pa.schema(
    [("path", _TEXT), ("start", _NUMBER), ("end", _NUMBER), ("name", _TEXT), ("score", _NUMBER), ("error", _TEXT)]
)


@dataclass(frozen=True, eq=False)
class WindowRow:
    """A window of a video as `parts.Plan` takes it, or (`window` None) why a video has none."""

    path: str | Path
    window: Scored | None
    names: Sequence[str]
    threshold: float
    error: str | None = None

    @property
    def start(self) -> float | None:
        """Seconds from the first frame."""
        return None if self.window is None else self.window.start

    @property
    def end(self) -> float | None:
        """Seconds from the first frame."""
        return None if self.window is None else self.window.end

    @property
    def scores(self) -> dict[str, float]:
        """Most probable first, made when it is asked for: long videos have many windows."""
        if self.window is None:
            return {}
        order: list[int] = np.argsort(-self.window.scores, kind="stable").tolist()
        values: list[float] = self.window.scores.tolist()
        return {self.names[k]: values[k] for k in order}

    @property
    def name(self) -> str | None:
        """The best name, None below the threshold."""
        if self.window is None:
            return None
        best = int(np.argmax(self.window.scores))
        return self.names[best] if self.window.scores[best] >= self.threshold else None


def window_rows(file: str | Path, found: VideoTimeline, names: Sequence[str], threshold: float) -> Iterator[WindowRow]:
    """The rows of a video, the input `file`."""
    if found.error is not None:
        yield WindowRow(file, None, names, threshold, found.error)
    yield from (WindowRow(file, window, names, threshold) for window in found.windows)


def timelines_in(table: pa.Table) -> Iterator[VideoTimeline]:
    """The videos of a table of rows, with their segments: those that `merging.merged` makes of the same windows."""
    column = {name: table[name].combine_chunks() for name in ("path", "start", "end", "predicted", "scores", "error")}
    best = _highest(column["scores"]).tolist()
    listed = [column[name].to_pylist() for name in ("path", "error", "start", "end", "predicted")]
    for path, rows in groupby(zip(*listed, best, strict=True), key=lambda row: row[0]):
        first, *others = rows
        if first[1] is not None:
            yield VideoTimeline(from_text(path), from_text(first[1]))
            continue
        segments = joined(Segment(start, end, name, score) for _, _, start, end, name, score in (first, *others))
        named = [one._replace(name=one.name and from_text(one.name)) for one in segments]
        yield VideoTimeline(from_text(path), segments=named)


def segment_table(timelines: Sequence[VideoTimeline]) -> pa.Table:
    """Their segments as columns, texts as `as_text` makes them; a video that failed has one row."""
    rows: list[tuple[str | float | None, ...]] = []
    for found in timelines:
        path = as_text(found.path)
        if found.error is not None:
            rows.append((path, None, None, None, None, as_text(found.error)))
        rows += [(path, s.start, s.end, s.name and as_text(s.name), s.score, None) for s in found.segments]
    columns = zip(*rows, strict=True) if rows else ((),) * len(SEGMENTS)
    return pa.table(
        [pa.array(cells, kind) for cells, kind in zip(columns, SEGMENTS.types, strict=True)], schema=SEGMENTS
    )


def _highest(scores: pa.Array) -> np.ndarray:
    """The highest score of each row, NaN where there are none."""
    sizes = pc.fill_null(pc.list_value_length(scores), 0).to_numpy()
    found = np.full(len(sizes), np.nan)
    filled = sizes > 0
    if filled.any():
        starts = (np.cumsum(sizes) - sizes)[filled]
        found[filled] = np.maximum.reduceat(scores.flatten().to_numpy(), starts)
    return found

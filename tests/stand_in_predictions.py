"""A model that needs no torch: scores that are a function of the input's name; and a process that writes them.

python stand_in_predictions.py OUT LIST PART SECONDS KIND   # a list of names, its part i/n, seconds an input
"""

import hashlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mote.prediction.merging import Scored, merged
from mote.prediction.outputs import VideoTimeline
from mote.prediction.parts import Pace, Plan
from mote.prediction.share import parse_share
from mote.prediction.timeline_parts import WindowRow, window_rows
from mote.prediction.write import write_parts

NAMES = ["red star", 'a "quoted", name', "grün", "blue ball"]


@dataclass
class Row:
    """What `mote.inference.model.Prediction` holds."""

    path: str | Path
    scores: dict[str, float]
    error: str | None = None
    name: str | None = None
    start: float | None = None
    end: float | None = None


def plan(**changes) -> Plan:
    given = {"settings": {"hashes": {"weights": "0" * 64}, "clips": 1}, "class_names": NAMES}
    return Plan(**{**given, **changes})


def row(one: str | Path, names: list[str] | None = None) -> Row:
    """One input in ten fails."""
    names = names or NAMES
    digest = hashlib.sha256(str(one).encode("utf-8", "surrogateescape")).digest()
    if digest[0] % 10 == 0:
        return Row(one, {}, f"{one}: no video, or a damaged one")
    total = sum(digest[: len(names)])
    ordered = sorted(zip(names, digest, strict=False), key=lambda pair: -pair[1])
    best = ordered[0][0] if digest[1] % 5 else None
    return Row(one, {name: value / total for name, value in ordered}, name=best)


def predictions_of(inputs: list[str | Path], seconds: float = 0.0) -> Iterator[Row]:
    for one in inputs:
        if seconds:
            time.sleep(seconds)
        yield row(one)


def timeline(one: str | Path) -> VideoTimeline:
    """Windows of 2 s, one every 0.5 s, up to twenty; one input in ten fails."""
    if (error := row(one).error) is not None:
        return VideoTimeline(str(one), error)
    digest = hashlib.sha256(str(one).encode("utf-8", "surrogateescape")).digest()
    rng = np.random.default_rng(list(digest))
    windows = [Scored(k / 2, k / 2 + 2, rng.dirichlet(np.ones(len(NAMES)))) for k in range(1 + digest[1] % 20)]
    segments = list(merged(windows, NAMES, threshold=THRESHOLD, step=0.5))
    return VideoTimeline(str(one), windows=windows, segments=segments)


def timelines_of(inputs: list[str | Path], seconds: float = 0.0) -> Iterator[WindowRow]:
    for one in inputs:
        for window in window_rows(one, timeline(one), NAMES, THRESHOLD):
            if seconds:
                time.sleep(seconds / 10)
            yield window


THRESHOLD = 0.4
KINDS = {"clips": (predictions_of, plan()), "timelines": (timelines_of, plan(timed=True))}


if __name__ == "__main__":
    out, listed, part, seconds, kind = sys.argv[1:]
    rows_of, plan_ = KINDS[kind]
    names = Path(listed).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    pace = Pace(rows=7, seconds=0.1)
    write_parts(lambda inputs: rows_of(inputs, float(seconds)), names, out, plan_, share=parse_share(part), pace=pace)

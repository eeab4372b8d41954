"""A model that needs no torch: scores that are a function of the input's name; and a process that writes them.

python stand_in_predictions.py OUT LIST PART SECONDS    # a list of names, its part i/n, seconds an input
"""

import hashlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mote.prediction.parts import Pace, Plan
from mote.prediction.share import parse_share
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


if __name__ == "__main__":
    out, listed, part, seconds = sys.argv[1:]
    names = Path(listed).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    pace = Pace(rows=7, seconds=0.1)
    write_parts(
        lambda inputs: predictions_of(inputs, float(seconds)), names, out, plan(), share=parse_share(part), pace=pace
    )

"""What the models of a demonstration answer, read back from the results of their evaluations."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mote.datasets.decoding.decode import read_frames
from mote.datasets.decoding.errors import DecodeError
from mote.metrics.statistics import mcnemar
from mote.reporting.clip_cards import Answer, ClipCard
from mote.reporting.evaluation_page import read_predictions

Predictions = list[dict[str, str]]
LEVEL = 0.05  # p from which on a difference may be chance


def read_answers(files: Mapping[str, Path]) -> dict[str, Predictions]:
    """Predictions of each model by name, from its table NAME.csv; all are of one list."""
    return {name: read_predictions(file) for name, file in files.items()}


def cards_of(answers: Mapping[str, Predictions], places: Sequence[int], note: str) -> list[ClipCard]:
    """The clips at `places` of the list, with what every model says of them."""
    first = next(iter(answers.values()))
    return [
        ClipCard(
            _frames(first[place]["path"]),
            first[place]["label"],
            note,
            [_answer(name, rows[place]) for name, rows in answers.items()],
        )
        for place in places
    ]


def spread(rows: Predictions, start: int, step: int) -> list[int]:
    """Places of two clips of a list, at fixed distances, so that nobody chooses them.

    Of 2 `step` equal parts of the list they stand in the middle of number `start` (from 0) and number `start + step`.
    """
    places = [(2 * part + 1) * len(rows) // (4 * step) for part in (start, start + step)]
    return [*dict.fromkeys(places)]


def first_of_each(rows: Predictions) -> list[int]:
    """Place of the first clip of every class, in the order of the list."""
    places: dict[str, int] = {}
    for place, row in enumerate(rows):
        places.setdefault(row["label"], place)
    return [*places.values()]


def difference(one: Sequence[Predictions], other: Sequence[Predictions]) -> tuple[float, float, int]:
    """(points that `one` is right more often, p of McNemar's exact test, clips) over lists of the same clips."""
    pairs = [
        (a["correct"] == "1", b["correct"] == "1")
        for mine, theirs in zip(one, other, strict=True)
        for a, b in zip(mine, theirs, strict=True)
    ]
    only_one, only_other = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    return 100 * (only_one - only_other) / len(pairs), mcnemar(only_other, only_one), len(pairs)


def _frames(path: str) -> np.ndarray | None:
    try:
        return read_frames(path, range)
    except (DecodeError, OSError):
        return None


def _answer(name: str, row: Mapping[str, str]) -> Answer:
    return Answer(name, row["predicted"], float(row["probability"] or math.nan))

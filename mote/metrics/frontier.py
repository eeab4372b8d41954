"""The frontier between specialisation and generalisation: one model under many settings, and which of them are best.

A setting is a point: closed-set top-1 against the harmonic mean of zero-shot top-1 over data sets (as in Zhu et al.,
NeurIPS 2024, Table 4). It is on the frontier (Pareto-optimal) when no other is at least as good in both and better in
one.
"""

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, TypeAlias

from mote.metrics.accuracy import harmonic_interval, harmonic_mean

Row: TypeAlias = Mapping[str, Any]  # a point, see `frontier_row`; its values are numbers, text, pairs and a dict


def frontier_row(
    name: str,
    sweep: str,
    value: int | float | None,
    closed: Mapping[str, Any],
    zero_shot: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """One point of the plane, as plain values ready for JSON.

    Args:
        name: name of the setting in tables and figures.
        sweep: what is varied: "model" (nothing), "alpha", "gate" or "expert".
        value: its value; None where it is not a number.
        closed: `top1` and `top1_interval` (None: not known) on the classes of tuning, in [0, 1].
        zero_shot: the same for each zero-shot data set, at least one.
    """
    sets = list(zero_shot.values())
    top1, limits = [part["top1"] for part in sets], [part["top1_interval"] for part in sets]
    general = harmonic_mean(top1)
    return {
        "name": name,
        "sweep": sweep,
        "value": value,
        "closed_set": closed["top1"],
        "closed_set_interval": closed["top1_interval"],
        "zero_shot": general,
        "zero_shot_interval": None if None in limits else harmonic_interval(top1, limits),
        "zero_shot_sets": {key: part["top1"] for key, part in zero_shot.items()},
        "harmonic_mean": harmonic_mean([closed["top1"], general]),
    }


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each (x, y), larger being better, is dominated by no other; equal points are on the frontier together."""
    optimal, best_right = [False] * len(points), float("-inf")
    columns: dict[float, list[int]] = {}
    for index, (x, _) in enumerate(points):
        columns.setdefault(x, []).append(index)
    for x in sorted(columns, reverse=True):  # from the right: a point must be higher than all points right of it
        highest = max(points[index][1] for index in columns[x])
        for index in columns[x]:
            optimal[index] = points[index][1] == highest > best_right
        best_right = max(best_right, highest)
    return optimal


def with_pareto(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows with `pareto`, whether they are on the frontier of all of them."""
    optimal = pareto([(row["closed_set"], row["zero_shot"]) for row in rows])
    return [{**row, "pareto": flag} for row, flag in zip(rows, optimal, strict=True)]


def frontier_csv(rows: Sequence[Row]) -> str:
    """Rows of `with_pareto` as CSV, fractions in full precision; a column zero_shot:NAME for each data set."""
    names = list(rows[0]["zero_shot_sets"])
    plain = ("name", "sweep", "value", "closed_set", "zero_shot", "harmonic_mean")
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    limits = ("closed_set_low", "closed_set_high", "zero_shot_low", "zero_shot_high")
    writer.writerow([*plain, "pareto", *limits, *(f"zero_shot:{name}" for name in names)])
    for row in rows:
        intervals = [*(row["closed_set_interval"] or ("", "")), *(row["zero_shot_interval"] or ("", ""))]
        cells = ["" if row[key] is None else row[key] for key in plain]
        writer.writerow([*cells, int(row["pareto"]), *intervals, *(row["zero_shot_sets"][name] for name in names)])
    return text.getvalue()

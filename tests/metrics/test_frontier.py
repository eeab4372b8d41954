"""The Pareto set against its definition, and the rows and the table of the frontier."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mote.metrics.frontier import frontier_csv, frontier_row, pareto, with_pareto

coarse = st.integers(0, 5).map(float)  # ties and equal points are common


@given(st.lists(st.tuples(coarse, coarse), max_size=12))
def test_pareto_set_is_that_of_the_definition(points):
    def dominated(a):
        return any(b[0] >= a[0] and b[1] >= a[1] and (b[0] > a[0] or b[1] > a[1]) for b in points)

    assert pareto(points) == [not dominated(a) for a in points]


def part(top1, interval=None):
    return {"top1": top1, "top1_interval": interval}


def test_rows_join_data_sets_by_the_harmonic_mean():
    row = frontier_row(
        "a", "alpha", 0.5, part(0.8, [0.7, 0.9]), {"x": part(0.5, [0.4, 0.6]), "y": part(0.25, [0.2, 0.3])}
    )
    assert row["zero_shot"] == pytest.approx(1 / 3) and row["harmonic_mean"] == pytest.approx(2 / (1 / 0.8 + 3))
    low, high = row["zero_shot_interval"]
    assert low < row["zero_shot"] < high
    assert frontier_row("a", "alpha", 0.5, part(0.8), {"x": part(0.5)})["zero_shot_interval"] is None


def test_the_table_holds_every_point():
    rows = with_pareto(
        [
            frontier_row("model", "model", None, part(0.8, [0.7, 0.9]), {"x": part(0.5, [0.4, 0.6])}),
            frontier_row("alpha 0.5", "alpha", 0.5, part(0.7), {"x": part(0.6)}),
            frontier_row("expert 1", "expert", 1, part(0.6), {"x": part(0.6)}),
        ]
    )
    assert [row["pareto"] for row in rows] == [True, True, False]
    table = list(csv.DictReader(frontier_csv(rows).splitlines()))
    assert [(row["name"], row["value"], row["pareto"]) for row in table] == [
        ("model", "", "1"),
        ("alpha 0.5", "0.5", "1"),
        ("expert 1", "1", "0"),
    ]
    assert (table[0]["closed_set_low"], table[1]["closed_set_low"]) == ("0.7", "")
    assert [float(row["zero_shot:x"]) for row in table] == [0.5, 0.6, 0.6]

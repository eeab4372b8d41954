"""The lines of a table against Python's csv module and against `mote predict --csv`."""

import csv
import io

import numpy as np
import pytest
from stand_in_predictions import NAMES, Row, plan, row

from mote.prediction.collect import collect
from mote.prediction.csv_lines import header, six_decimals
from mote.prediction.write import write_parts

INPUTS = [
    *(f"{i}.mp4" for i in range(60)),
    'a "b", c.mp4',
    "line\nbreak",
    "bytes\udcff\udc80.mp4",
    "bytes\\xff\\x80.mp4",
    "",
    " é",
]


def test_six_decimals_are_those_of_python():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.random(20_000), rng.random(20_000).astype(np.float32), 2.0 ** -np.arange(0, 60)])
    halves = np.arange(1, 2001, 2) / 2e6  # between two, before they are rounded to a double
    values = np.concatenate([values, halves, np.nextafter(halves, 0), np.nextafter(halves, 1), [0, 1, 0.9999995, 9.5]])
    assert [bytes(digits).decode() for digits in six_decimals(values)] == [f"{value:.6f}" for value in values]
    for bad in (-0.1, 10.0, float("nan")):
        with pytest.raises(ValueError, match="no probabilities"):
            six_decimals(np.array([0.5, bad]))


def collected(tmp_path, plan_, rows) -> bytes:
    write_parts(lambda _: iter(rows), list(dict.fromkeys(r.path for r in rows)), tmp_path / "out", plan_)
    collect(tmp_path / "out", csv_file=tmp_path / "all.csv")
    return (tmp_path / ("all.windows.csv" if plan_.timed else "all.csv")).read_bytes()


def expected(head, rows) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([head, *rows])
    return text.getvalue().encode("utf-8", "surrogateescape")


def answer(one: Row) -> str:
    return "" if one.error else one.name or "none of these"


def test_all_scores_are_the_lines_of_predict(tmp_path):
    from mote.inference.asked import Prediction
    from mote.prediction.predict import _as_csv

    rows = [row(name) for name in INPUTS]
    predictions = [Prediction(**vars(one)) for one in rows]
    assert any(one.error for one in rows) and any(one.name is None and not one.error for one in rows)
    assert collected(tmp_path, plan(), rows) == _as_csv(predictions, NAMES).encode("utf-8", "surrogateescape")


def test_the_best_names_and_times(tmp_path):
    rows = [row(name) for name in INPUTS]
    for i, one in enumerate(rows):
        one.start, one.end = i / 4, i / 4 + 2
    rows.append(Row("few", {"grün": 0.25}, None, "grün", 0.0, 2.0))
    rows.append(Row("none", {}, None, None, 0.0, 2.0))
    table = []
    for one in rows:
        best = [cell for name, score in list(one.scores.items())[:2] for cell in (name, f"{score:.6f}")]
        times = ["" if t is None else f"{t:.3f}" for t in (one.start, one.end)]
        table.append([one.path, *times, answer(one), *best, *[""] * (4 - len(best)), one.error or ""])
    head = ["path", "start", "end", "predicted", "top1", "top1_probability", "top2", "top2_probability", "error"]
    lines = expected(head, table).replace(b"\r\n", b"\n")  # as the other tables of timelines
    assert collected(tmp_path, plan(top=2, timed=True), rows) == lines


@pytest.mark.parametrize("top", [None, 3])
def test_one_class_and_only_failures(tmp_path, top):
    names = plan(class_names=["x"], top=top)
    lines = collected(tmp_path, names, [Row("a", {}, "gone"), Row("b", {"x": 1.0}, name="x")]).splitlines()
    assert lines[1:] == ([b"a,,,gone", b"b,x,1.000000,"] if top is None else [b"a,,,,gone", b"b,x,x,1.000000,"])
    other = tmp_path / "other"
    other.mkdir()
    assert collected(other, names, [Row("a", {}, "gone")]).splitlines()[1:] == [
        b"a,,,gone" if top is None else b"a,,,,gone"
    ]


def test_a_class_that_is_called_as_a_column_is_refused():
    with pytest.raises(ValueError, match="'error'"):
        header(plan(class_names=["a", "error"]))
    assert header(plan(class_names=["a", "start"], top=1)) == b"path,predicted,top1,top1_probability,error\r\n"

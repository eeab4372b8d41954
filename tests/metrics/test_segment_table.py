"""The table of segments gives back what was written, and says what a result has otherwise."""

import numpy as np
import pytest

from mote.files.writing import csv_text
from mote.metrics.result_files import ResultError
from mote.metrics.segment_table import COLUMNS, segment_differences, segment_lines
from mote.metrics.segments import Detection, Listed, segment_report


@pytest.fixture
def written(tmp_path):
    """(Table, report) of five videos, one of them empty, with times and scores of all digits."""
    rng = np.random.default_rng(0)
    listed = [Listed(i % 4, i / 3, i / 3 + 0.1 + rng.random(), "ab"[i % 2]) for i in range(20)]
    found = [Detection(v, s + 0.01, e + 0.05, n, rng.random()) for v, s, e, n in listed[::3]]
    found.append(Detection(2, 0.5, 0.75, 'x "quoted", and more', 0.25))
    path = tmp_path / "eval.csv"
    names = [f"video {i}.mp4" for i in (0, 1, 2, 3, 4)]
    path.write_text(csv_text(COLUMNS, segment_lines(names, listed, found)))
    return path, segment_report(listed, found, 5, seed=3)


def test_the_table_gives_every_number_again_with_the_same_draws(written):
    path, report = written
    assert segment_differences(report, path, 3) == []
    assert any("interval" in line for line in segment_differences(report, path, 4))


@pytest.mark.parametrize("key", ["map", "f1_mean", "videos", "detections", "classes", "map_interval"])
def test_a_number_that_is_another_is_named(written, key):
    path, report = written
    wrong = {"videos": 4, "detections": 3, "f1_mean": 0.5}.get(key, [])
    for changed in (report | {key: wrong}, {k: v for k, v in report.items() if k != key}, report | {key: "text"}):
        (line,) = segment_differences(changed, path, 3)
        assert line.startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("before", "after"), [("found", "lost"), (",listed,", ","), ("path,", "place,"), ("0.25", "high")]
)
def test_a_damaged_table_is_one_line_or_a_difference(written, before, after):
    path, report = written
    path.write_text(path.read_text().replace(before, after, 1))
    try:
        assert segment_differences(report, path, 3)
    except ResultError as error:
        assert str(path) in str(error) and "\n" not in str(error)

"""`mote demo timelines` at a reduced size."""

import json

import pytest

from mote.demos import timelines
from mote.protocols.verification import verify_result


@pytest.mark.slow
def test_the_demo_leaves_a_table_pages_and_results_that_verify(tmp_path, capsys):
    counts = {"train": 1, "closed_test": 2, "appearance": 2}
    quick = ["optim.epochs=1", "optim.warmup_epochs=0"]
    rows = timelines.timelines_demo(tmp_path, counts=counts, settings=quick)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [row["listed"] for row in results["rows"]] == [row["listed"] for row in rows]
    assert [(row["smooth"], row["timeline"]["threshold"] is None) for row in rows] == [
        (None, True),
        (timelines.SMOOTH, True),
        (timelines.SMOOTH, False),
    ]
    assert all(row["videos"] == 8 and 48 < row["listed"] <= 72 for row in rows)  # 72 of 96 clips; neighbours are one
    assert (tmp_path / "seed0/videos/0000.html").is_file() and (tmp_path / "index.html").is_file()
    assert "F1, tIoU 0.5" in capsys.readouterr().out
    for row in rows:
        checks = verify_result(tmp_path / "seed0/evaluations" / f"{row['name']}.json")
        assert not [check for check in checks if check.difference], checks

"""The specialisation-generalisation row."""

import pytest

from mote.metrics.accuracy import wilson_interval
from mote.metrics.zero_shot import trade_off


def summary(count, total):
    return {"top1": count / total, "top1_interval": list(wilson_interval(count, total))}


def test_row_of_one_set():
    row = trade_off("ours", summary(80, 100), {"unseen": summary(40, 100)})
    assert row["method"] == "ours"
    assert (row["closed_set"], row["zero_shot"]) == pytest.approx((0.8, 0.4))
    assert row["zero_shot_interval"] == pytest.approx(wilson_interval(40, 100))
    assert row["closed_set_interval"] == wilson_interval(80, 100)
    assert row["harmonic_mean"] == pytest.approx(2 * 0.8 * 0.4 / 1.2)
    low, high = row["harmonic_mean_interval"]
    assert low < row["harmonic_mean"] < high


def test_published_row_of_three_sets():
    # MoTE paper, table 4, L/14 with 8 frames: 86.8 closed-set; 88.7, 61.4, 78.4 zero-shot -> 74.4 and 80.1.
    sets = {"ucf101": summary(887, 1000), "hmdb51": summary(614, 1000), "k600": summary(784, 1000)}
    row = trade_off("MoTE", summary(868, 1000), sets)
    assert round(100 * row["zero_shot"], 1) == 74.4
    assert round(100 * row["harmonic_mean"], 1) == 80.1
    assert row["zero_shot_sets"] == {"ucf101": 0.887, "hmdb51": 0.614, "k600": 0.784}


def test_a_set_is_needed():
    with pytest.raises(ValueError, match="ours: no zero-shot result"):
        trade_off("ours", summary(1, 2), {})

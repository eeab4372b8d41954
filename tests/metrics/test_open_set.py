"""AUROC, its interval and the threshold against all pairs, their equations and recounts."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mote.metrics import open_set
from mote.metrics.accuracy import NORMAL_QUANTILE_95, wilson_interval
from mote.metrics.scores import Scores

FEW_VALUES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=8)  # ties are the rule


@settings(deadline=None, max_examples=80)
@given(FEW_VALUES, FEW_VALUES)
def test_auroc_equals_all_pairs(positive, negative):
    pairs = [Fraction(int(p > n)) + Fraction(int(p == n), 2) for p in positive for n in negative]
    assert open_set.auroc(np.array(positive), np.array(negative)) == float(sum(pairs) / len(pairs))


def test_auroc_edges():
    one, two = np.array([0.7]), np.array([0.2, 0.1])
    assert (open_set.auroc(one, two), open_set.auroc(two, one), open_set.auroc(one, one)) == (1.0, 0.0, 0.5)
    with pytest.raises(ValueError, match="no negative scores"):
        open_set.auroc(one, np.zeros(0))
    with pytest.raises(ValueError, match="positive scores number 0 "):
        open_set.auroc(np.array([np.nan]), one)


@pytest.mark.parametrize(("value", "sizes"), [(0.5, (10, 10)), (0.8, (30, 7)), (0.97, (5, 200)), (1.0, (12, 9))])
def test_auroc_limits_solve_their_equation(value, sizes):
    p, n = sizes
    limits = open_set.auroc_interval(value, p, n)
    assert limits[0] < value <= limits[1]
    for q in limits:
        if q < 1:
            q1, q2, mean = q / (2 - q), 2 * q * q / (1 + q), (p + n) / 2  # Hanley & McNeil 1982, sizes averaged
            variance = (q * (1 - q) + (mean - 1) * (q1 - q * q) + (mean - 1) * (q2 - q * q)) / (p * n)
            assert abs(value - q) == pytest.approx(NORMAL_QUANTILE_95 * math.sqrt(variance), abs=1e-9)
    mirrored = open_set.auroc_interval(1 - value, p, n)
    assert mirrored == pytest.approx((1 - limits[1], 1 - limits[0]), abs=1e-9)


def test_auroc_interval_of_one_pair_of_scores_is_wide():
    low, high = open_set.auroc_interval(1.0, 1, 1)
    assert (low, high) == (pytest.approx(wilson_interval(1, 1)[0], abs=1e-9), 1.0)  # one coin, thrown once
    with pytest.raises(ValueError, match="at least one each"):
        open_set.auroc_interval(0.5, 0, 3)


def test_auroc_interval_covers_the_truth():
    rng = np.random.default_rng(0)
    truth, rounds, inside = 0.8, 300, 0
    for _ in range(rounds):
        # P(X > Y) = rate_Y / (rate_X + rate_Y) for exponential X, Y: means 4 and 1 give 0.8
        area = open_set.auroc(rng.exponential(4.0, 40), rng.exponential(1.0, 60))
        low, high = open_set.auroc_interval(area, 40, 60)
        inside += low <= truth <= high
    assert inside / rounds == pytest.approx(0.95, abs=0.04)  # three standard errors of 300 draws


@pytest.mark.parametrize("rejected", [0.0, 0.05, 0.29, 0.5, 0.99])
@pytest.mark.parametrize("num_known", [1, 7, 100])
def test_open_set_threshold_is_the_highest_that_refuses_few_enough(rejected, num_known):
    rng = np.random.default_rng(num_known)
    known, unknown = rng.random(num_known).round(1), rng.random(30).round(1)  # many ties
    found = open_set.open_set(known, unknown, rejected)
    allowed = Fraction(str(rejected)) * num_known
    usable = [t for t in known if sum(known < t) <= allowed]
    assert found["threshold"] == max(usable)
    assert found["known_accepted_count"] == sum(score >= max(usable) for score in known)
    assert found["unknown_rejected_count"] == sum(score < max(usable) for score in unknown)
    assert found["known_accepted"] == found["known_accepted_count"] / num_known >= 1 - rejected - 1e-12
    assert found["unknown_rejected"] == found["unknown_rejected_count"] / 30
    assert found["unknown_rejected_interval"] == list(wilson_interval(found["unknown_rejected_count"], 30))
    assert found["auroc"] == open_set.auroc(known, unknown)
    assert found["auroc_interval"][0] <= found["auroc"] <= found["auroc_interval"][1]
    assert (found["known"], found["unknown"]) == (num_known, 30)


def test_open_set_refuses_the_whole_fraction_despite_rounding():
    known = np.arange(100) / 100
    assert 0.29 * 100 < 29  # in floating point
    assert open_set.open_set(known, known, rejected=0.29)["unknown_rejected_count"] == 29


def test_open_set_that_is_perfect():
    found = open_set.open_set(np.array([0.9, 0.8], dtype=np.float32), np.array([0.1], dtype=np.float32))
    assert (found["auroc"], found["known_accepted"], found["unknown_rejected"]) == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="expected a fraction"):
        open_set.open_set(np.array([0.9]), np.array([0.1]), rejected=1.0)


def test_auroc_agrees_with_scipy():
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(1, 1, 70).round(1), rng.normal(0, 1, 90).round(1)
    theirs = stats.mannwhitneyu(known, unknown).statistic / (70 * 90)
    assert open_set.auroc(known, unknown) == pytest.approx(theirs, abs=1e-12)


def scores(probabilities, lost):
    valid = np.arange(len(probabilities)) >= lost
    rows = np.arange(len(probabilities))
    return Scores(rows, np.zeros(len(rows), dtype=np.int64), probabilities * valid[:, None], valid)


def test_report_equals_loops_over_decoded_clips():
    rng = np.random.default_rng(0)
    inside, outside = (rng.dirichlet(np.full(4, alpha), n) for alpha, n in ((0.2, 50), (1.0, 30)))
    report = open_set.open_set_report(scores(inside, 3), scores(outside, 2), [f"{i}.mp4" for i in range(30)], 0.9)
    assert (report["listed"], report["undecodable"], report["accept"]) == (30, ["0.mp4", "1.mp4"], 0.9)
    inside, outside = inside[3:], outside[2:]
    assert (report["known"], report["unknown"]) == (47, 28)

    def area(score):
        pairs = [(score(p), score(q)) for p in inside for q in outside]
        return sum((p > q) + 0.5 * (p == q) for p, q in pairs) / len(pairs)

    assert report["auroc"] == pytest.approx(area(max), abs=1e-12)
    others = report["other_scores"]
    assert others["margin"]["auroc"] == pytest.approx(area(lambda p: sorted(p)[-1] - sorted(p)[-2]), abs=1e-12)
    assert others["negative_entropy"]["auroc"] == pytest.approx(area(lambda p: -stats.entropy(p)), abs=1e-12)
    assert sum(p.max() >= report["threshold"] for p in inside) == report["known_accepted_count"] >= 0.9 * 47
    assert sum(p.max() > report["threshold"] for p in inside) < 0.9 * 47  # a higher one would refuse too many


def test_report_of_nothing_decoded_says_so():
    one = np.array([[0.7, 0.3]])
    report = open_set.open_set_report(scores(one, 0), scores(one, 1), ["a.mp4"], 0.95)
    assert report == {"accept": 0.95, "listed": 1, "undecodable": ["a.mp4"]}


def test_scores_of_one_class_and_of_certainty():
    assert open_set.margin(np.ones((2, 1))).tolist() == [1.0, 1.0]
    assert open_set.negative_entropy(np.array([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx([0.0, -math.log(2)])

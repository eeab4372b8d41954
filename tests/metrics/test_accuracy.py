"""Metrics against loops written from their definitions, closed forms and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mote.metrics import accuracy

# Few distinct values, so ties are the rule and not the exception.
TIED_SCORES = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(1, 7)), elements=st.sampled_from([0, 1, 2])
)


@settings(deadline=None, max_examples=60)
@given(TIED_SCORES, st.data())
def test_ranking_is_by_score_then_by_class_index(scores, data):
    num_classes = scores.shape[1]
    k = data.draw(st.integers(1, num_classes))
    expected = [sorted(range(num_classes), key=lambda c: (-row[c], c))[:k] for row in scores]
    np.testing.assert_array_equal(accuracy.rank_classes(scores, k), expected)


@settings(deadline=None, max_examples=60)
@given(TIED_SCORES, st.data())
def test_topk_counts_equal_a_loop(scores, data):
    num_rows, num_classes = scores.shape
    label = np.array(data.draw(st.lists(st.integers(0, num_classes - 1), min_size=num_rows, max_size=num_rows)))
    for k in range(1, num_classes + 1):
        count = 0
        for row, own in zip(scores, label, strict=True):
            better = sum(row[c] > row[own] or (row[c] == row[own] and c < own) for c in range(num_classes))
            count += better < k
        assert accuracy.topk_correct(accuracy.rank_classes(scores, k), label).sum() == count


def test_ranking_refuses_what_it_cannot_rank():
    with pytest.raises(ValueError, match="row 1 has a score that is not finite"):
        accuracy.rank_classes(np.array([[0.0, 1.0], [np.nan, 1.0]]), 1)
    for k in (0, 3):
        with pytest.raises(ValueError, match=r"expected 1\.\.2"):
            accuracy.rank_classes(np.zeros((1, 2)), k)


def test_confusion_and_recall_equal_a_loop():
    rng = np.random.default_rng(0)
    num_classes = 5
    label, predicted = rng.integers(0, 4, 50), rng.integers(0, num_classes, 50)  # class 4 has no sample
    matrix = np.zeros((num_classes, num_classes), dtype=int)
    for true, guess in zip(label, predicted, strict=True):
        matrix[true, guess] += 1
    np.testing.assert_array_equal(accuracy.confusion_matrix(label, predicted, num_classes), matrix)
    correct, listed = accuracy.class_counts(label, label == predicted, num_classes)
    np.testing.assert_array_equal(correct, matrix.diagonal())
    np.testing.assert_array_equal(listed, matrix.sum(1))
    recall = [matrix[c, c] / matrix[c].sum() for c in range(4)]
    assert accuracy.mean_class_recall(correct, listed) == pytest.approx(sum(recall) / 4, abs=1e-12)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_classes_outside_the_list_are_named(wrong):
    with pytest.raises(ValueError, match=rf"label {wrong} is outside 0\.\.2"):
        accuracy.class_counts(np.array([0, wrong]), np.array([True, True]), 3)
    with pytest.raises(ValueError, match=rf"prediction {wrong} is outside 0\.\.2"):
        accuracy.confusion_matrix(np.array([0, 1]), np.array([0, wrong]), 3)


@pytest.mark.parametrize("total", [1, 2, 7, 70, 3783])
def test_wilson_limits_solve_their_quadratic(total):
    z = accuracy.NORMAL_QUANTILE_95
    for count in {0, 1, total // 2, total - 1, total}:
        # (p - q)^2 = z^2 q (1 - q) / n  <=>  (1 + z^2/n) q^2 - (2p + z^2/n) q + p^2 = 0
        p, extra = count / total, z * z / total
        roots = sorted(np.roots([1 + extra, -(2 * p + extra), p * p]).real)
        assert accuracy.wilson_interval(count, total) == pytest.approx(roots, abs=1e-7)


def test_wilson_known_values():
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
    assert accuracy.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert accuracy.wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert accuracy.wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert accuracy.wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert accuracy.wilson_interval(0, 20)[0] == 0.0
    assert accuracy.wilson_interval(20, 20)[1] == 1.0


def test_accuracy_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no samples"):
        accuracy.accuracy(0, 0)
    with pytest.raises(ValueError, match=r"expected 0\.\.3"):
        accuracy.accuracy(4, 3)
    assert accuracy.accuracy(1, 4) == 0.25


def test_harmonic_mean():
    # Table 4 of the MoTE paper: zero-shot 88.7 / 61.4 / 78.4 -> 74.4; with closed-set 86.8 -> 80.1.
    zero_shot = accuracy.harmonic_mean([88.7, 61.4, 78.4])
    assert round(zero_shot, 1) == 74.4
    assert round(accuracy.harmonic_mean([86.8, zero_shot]), 1) == 80.1
    assert accuracy.harmonic_mean([0.5, 0.0]) == 0.0
    for bad in ([], [0.5, -0.1]):
        with pytest.raises(ValueError, match="harmonic mean needs"):
            accuracy.harmonic_mean(bad)


def test_harmonic_interval_of_one_value_is_its_own():
    assert accuracy.harmonic_interval([0.6], [(0.5, 0.7)]) == pytest.approx((0.5, 0.7), abs=1e-12)


def test_harmonic_interval_covers_the_truth():
    rng = np.random.default_rng(1)
    truth, totals = [0.85, 0.3], [200, 120]
    centre = 2 * truth[0] * truth[1] / sum(truth)
    inside = 0
    for _ in range(500):
        counts = [int(rng.binomial(n, p)) for n, p in zip(totals, truth, strict=True)]
        values = [c / n for c, n in zip(counts, totals, strict=True)]
        limits = [accuracy.wilson_interval(c, n) for c, n in zip(counts, totals, strict=True)]
        low, high = accuracy.harmonic_interval(values, limits)
        inside += low <= centre <= high
    assert inside / 500 == pytest.approx(0.95, abs=0.03)  # three standard errors of 500 draws


def test_harmonic_interval_at_zero_keeps_its_uncertainty():
    low, high = accuracy.harmonic_interval([0.0, 0.0], [(0.0, 0.2), (0.0, 0.1)])
    assert low == 0.0
    assert high == pytest.approx(2 * 0.2 * 0.1 / 0.3)

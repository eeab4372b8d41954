"""Statistics against loops from their definitions, exact enumeration, closed forms and simulation."""

import itertools
import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats

from mote.metrics import statistics
from mote.metrics.accuracy import NORMAL_QUANTILE_95, wilson_interval
from mote.metrics.scoring import fuse_views


def test_bootstrap_agrees_with_the_normal_approximation():
    values = np.random.default_rng(0).normal(3.0, 2.0, 5000)
    low, high = statistics.bootstrap_interval(values)
    half = NORMAL_QUANTILE_95 * values.std() / math.sqrt(5000)
    # The 2.5 % quantile of 10,000 draws has a standard error of 0.027 standard deviations, 1.4 % of `half`.
    assert low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_bootstrap_equals_the_exact_distribution_of_a_small_sample():
    values = [0.0, 0.1, 0.7, 1.0]
    means = np.sort([sum(draw) / 4 for draw in itertools.product(values, repeat=4)])  # all 256 equally likely
    for level in (0.5, 0.8):
        low, high = statistics.bootstrap_interval(values, resamples=40_000, level=level)
        for limit, probability in ((low, (1 - level) / 2), (high, (1 + level) / 2)):
            # A quantile of a discrete distribution: at most this much lies below, at least this much up to it.
            assert (means < limit - 1e-9).mean() <= probability + 0.01  # four standard errors of 40,000 draws
            assert (means <= limit + 1e-9).mean() >= probability - 0.01


def test_bootstrap_is_the_same_for_the_same_seed_only():
    values = np.random.default_rng(1).random(50)
    assert statistics.bootstrap_interval(values, seed=3) == statistics.bootstrap_interval(values.tolist(), seed=3)
    assert statistics.bootstrap_interval(values, seed=3) != statistics.bootstrap_interval(values, seed=4)


def test_bootstrap_does_not_depend_on_the_chunk(monkeypatch):
    values = np.random.default_rng(1).random(40)
    whole = statistics.bootstrap_interval(values, resamples=501)
    for chunk in (1, 100, 40 * 50):  # less than one row, two rows, fifty rows
        monkeypatch.setattr(statistics, "CHUNK", chunk)
        assert statistics.bootstrap_interval(values, resamples=501) == pytest.approx(whole, abs=1e-15)


def test_bootstrap_memory_is_bounded():
    values = np.random.default_rng(1).random(20_000)
    tracemalloc.start()
    statistics.bootstrap_interval(values, resamples=500)  # 80 MB of indices if drawn at once
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24e6


def test_bootstrap_edges():
    assert statistics.bootstrap_interval([0.3]) == (0.3, 0.3)
    assert statistics.bootstrap_interval(np.ones(7)) == (1.0, 1.0)
    with pytest.raises(ValueError, match="no values; expected at least one"):
        statistics.bootstrap_interval([])
    with pytest.raises(ValueError, match=r"values number 1 \(from 0\) is not finite"):
        statistics.bootstrap_interval([0.0, math.nan])
    for wrong in ({"level": 1.0}, {"level": 0.0}, {"resamples": 0}):
        with pytest.raises(ValueError, match="expected at least 1, and between 0 and 1"):
            statistics.bootstrap_interval([0.0], **wrong)


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(5).exponential(1.0, 40)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    width = theirs.high - theirs.low
    # Monte Carlo errors of both: a 2.5 % quantile of 10,000 draws has one of 0.7 % of the width.
    assert statistics.bootstrap_interval(values) == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)


def test_recall_interval_equals_the_exact_distribution_of_a_small_sample():
    clips = [[1, 0], [1, 1, 0], [1]]  # right and wrong ones of three classes
    draws = [
        sum(sum(draw) / len(draw) for draw in outcome) / 3
        for outcome in itertools.product(*(itertools.product(own, repeat=len(own)) for own in clips))
    ]
    means = np.array(draws)  # all 4 * 27 equally likely
    right, listed = (np.array([f(own) for own in clips]) for f in (sum, len))
    for level in (0.5, 0.8):
        limits = statistics.class_recall_interval(right, listed, resamples=40_000, level=level)
        assert limits is not None
        for limit, probability in zip(limits, ((1 - level) / 2, (1 + level) / 2), strict=True):
            assert (means < limit - 1e-9).mean() <= probability + 0.01
            assert (means <= limit + 1e-9).mean() >= probability - 0.01


def test_recall_interval_covers_the_truth_and_ignores_absent_classes():
    rng = np.random.default_rng(0)
    truth, listed = np.array([0.9, 0.5, 0.7, 0.3]), np.array([40, 60, 200, 30])
    inside = 0
    for _ in range(400):
        right = rng.binomial(listed, truth)
        low, high = statistics.class_recall_interval(right, listed, resamples=400) or (0.0, 0.0)
        inside += low <= truth.mean() <= high
    assert inside / 400 == pytest.approx(0.95, abs=0.035)  # three standard errors
    found = statistics.class_recall_interval(np.array([3, 0, 5]), np.array([9, 0, 7]))
    assert found == statistics.class_recall_interval(np.array([3, 5]), np.array([9, 7]))


def test_recall_interval_of_all_or_nothing_is_none():
    for right in ([4, 9], [0, 9], [0, 0]):
        assert statistics.class_recall_interval(np.array(right), np.array([4, 9])) is None


def test_mean_and_std_of_published_splits():
    # BIKE's three K600 splits 70.14 / 68.31 / 67.15 are published as 68.53 +- 1.23: the population form (sample: 1.51).
    mean, std = statistics.mean_and_std([70.14, 68.31, 67.15])
    assert (round(mean, 2), round(std, 2)) == (68.53, 1.23)
    assert statistics.mean_and_std([0.4]) == (0.4, 0.0)


@pytest.mark.parametrize("total", range(10))
def test_mcnemar_equals_enumeration_of_all_outcomes(total):
    outcomes = [sum(outcome) for outcome in itertools.product((0, 1), repeat=total)]
    for only_a in range(total + 1):
        extreme = sum(abs(2 * wins - total) >= abs(2 * only_a - total) for wins in outcomes)
        assert statistics.mcnemar(only_a, total - only_a) == float(Fraction(extreme, 2**total))


def test_mcnemar_equals_log_gamma_at_the_size_of_kinetics():
    for only_a, only_b in ((3000, 3200), (700, 1000), (5, 900)):
        n, log_half = only_a + only_b, math.log(0.5)
        logs = [
            math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(min(only_a, only_b) + 1)
        ]
        expected = 2 * math.fsum(math.exp(value + n * log_half) for value in logs)
        assert statistics.mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9)
        assert statistics.mcnemar(only_b, only_a) == statistics.mcnemar(only_a, only_b)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 7), (3, 12), (150, 191), (40, 40)])
def test_mcnemar_agrees_with_scipy(only_a, only_b):
    theirs = stats.binomtest(only_a, only_a + only_b, 0.5).pvalue
    assert statistics.mcnemar(only_a, only_b) == pytest.approx(theirs, rel=1e-12)


def test_mcnemar_edges():
    assert statistics.mcnemar(0, 0) == 1.0
    assert statistics.mcnemar(7, 7) == 1.0
    assert statistics.mcnemar(0, 1) == 1.0
    assert statistics.mcnemar(0, 6) == 2 / 64
    assert statistics.mcnemar(0, 5000) == 0.0  # 2^-4999, below the smallest float
    with pytest.raises(ValueError, match="none below 0"):
        statistics.mcnemar(-1, 3)


def calibration_loop(probabilities, label, bins):
    total, rows = 0.0, []
    for m in range(bins):
        low, high = m / bins, (m + 1) / bins
        inside = []
        for row, own in zip(probabilities, label, strict=True):
            top = max(row)
            if low < top <= high or (m == 0 and top == 0):
                inside.append((top, list(row).index(top) == own))
        rows.append((len(inside), sum(right for _, right in inside)))
        if inside:
            right = sum(right for _, right in inside) / len(inside)
            total += len(inside) / len(label) * abs(right - sum(top for top, _ in inside) / len(inside))
    return total, rows


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_calibration_error_equals_a_loop(bins):
    rng = np.random.default_rng(bins)
    probabilities = rng.dirichlet(np.full(3, 0.4), 300)
    label = rng.integers(0, 3, 300)
    valid = rng.random(300) < 0.8
    found = statistics.expected_calibration_error(probabilities, label, valid, bins)
    expected, rows = calibration_loop(probabilities[valid], label[valid], bins)
    assert found["ece"] == pytest.approx(expected, abs=1e-12)
    assert found["count"] == valid.sum() == sum(row["count"] for row in found["bins"])
    assert [(row["count"], row["correct"]) for row in found["bins"]] == rows
    for row in found["bins"]:
        if row["count"]:
            assert row["low"] < row["confidence"] <= row["high"]
            assert row["accuracy"] == row["correct"] / row["count"]
        else:
            assert (row["accuracy"], row["confidence"]) == (None, None)


def test_calibration_bins_hold_their_upper_edge():
    probabilities = np.array([[0.5, 0.25], [0.25, 0.25], [0.0, 0.0], [0.75, 0.1], [1.0 + 2e-16, 0.0]])
    found = statistics.expected_calibration_error(probabilities, np.zeros(5, dtype=np.int64), bins=4)
    assert [row["count"] for row in found["bins"]] == [2, 1, 1, 1]
    assert found["ece"] == pytest.approx((1.75 + 0.5 + 0.25 + 0) / 5)  # all right


def test_calibration_of_the_perfect_and_the_sure_and_wrong():
    sure = np.array([[1.0, 0.0]] * 4, dtype=np.float32)
    assert statistics.expected_calibration_error(sure, np.zeros(4, dtype=np.int64))["ece"] == 0.0
    assert statistics.expected_calibration_error(sure, np.ones(4, dtype=np.int64))["ece"] == 1.0
    half = statistics.expected_calibration_error(np.full((2, 2), 0.5), np.array([0, 1]))  # ties go to class 0
    assert (half["ece"], half["count"]) == (0.0, 2)


def test_calibration_refuses_what_has_none():
    label = np.zeros(2, dtype=np.int64)
    with pytest.raises(ValueError, match="none was decoded"):
        statistics.expected_calibration_error(np.zeros((2, 2)), label, np.zeros(2, dtype=bool))
    with pytest.raises(ValueError, match="not logits"):
        statistics.expected_calibration_error(np.full((2, 2), 20.0), label)
    with pytest.raises(ValueError, match="bins is 0"):
        statistics.expected_calibration_error(np.ones((2, 2)), label, bins=0)


@pytest.mark.parametrize("num_classes", [2, 3, 51, 101, 400])
def test_halves_are_those_of_the_global_generator(num_classes):
    state = np.random.get_state()
    expected = []
    for seed in range(10):
        np.random.seed(seed)
        expected.append(set(np.random.permutation(num_classes)[: num_classes // 2].tolist()))
    np.random.set_state(state)
    subsets = statistics.half_class_subsets(num_classes)
    assert [set(subset.tolist()) for subset in subsets] == expected
    for subset in subsets:
        assert subset.dtype == np.int64
        assert (np.diff(subset) > 0).all()
        assert len(subset) == num_classes // 2
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])  # the global generator was left alone


def half_class_loop(logits, label, valid, fuse):
    """Counts (right in one, right in five, listed) of each half, clip by clip, in the words of the protocol."""
    state, counts = np.random.get_state(), []
    for seed in range(10):
        np.random.seed(seed)
        chosen = np.random.permutation(logits.shape[2])[: logits.shape[2] // 2]
        clips = [i for i in range(len(label)) if label[i] in chosen]
        present = sorted({int(label[i]) for i in clips})
        first = five = 0
        for i in clips:
            score = fuse([[float(view[c]) for c in present] for view in logits[i]])
            own = present.index(label[i])
            better = sum(score[c] > score[own] or (score[c] == score[own] and c < own) for c in range(len(present)))
            first += bool(valid[i]) and better < 1
            five += bool(valid[i]) and better < 5
        counts.append((first, five, len(clips)))
    np.random.set_state(state)
    return counts


def mean_logits_loop(views):
    return [sum(column) / len(views) for column in zip(*views, strict=True)]


def mean_softmax_loop(views):
    each = [[math.exp(x) / sum(math.exp(y) for y in view) for x in view] for view in views]
    return mean_logits_loop(each)


def mean_softmax(logits):
    return fuse_views(torch.from_numpy(logits), "mean_softmax").numpy()


@pytest.fixture
def clips():
    rng = np.random.default_rng(5)
    label = rng.integers(0, 15, 120)  # classes 15 and 16 have no clip: the field leaves them out of the ranking
    logits = rng.normal(0, 2, (120, 3, 17)).astype(np.float32)
    logits[np.arange(120), :, label] += 2
    valid = rng.random(120) < 0.9
    logits[~valid] = 0
    return logits, label, valid


@pytest.mark.parametrize(
    ("fuse", "loop"), [(statistics.mean_over_views, mean_logits_loop), (mean_softmax, mean_softmax_loop)]
)
def test_half_class_accuracy_equals_a_recount(clips, fuse, loop):
    logits, label, valid = clips
    found = statistics.half_class_accuracy(logits, label, valid, fuse)
    expected = half_class_loop(logits, label, valid, loop)
    parts = found["per_subset"]
    assert [(part["top1_correct"], part["top5_correct"], part["listed"]) for part in parts] == expected
    assert len({count for count, _, _ in expected}) > 5  # the halves are not all alike
    first = [one / listed for one, _, listed in expected]
    mean = sum(first) / 10
    assert found["mean"] == pytest.approx(mean, abs=1e-12)
    assert found["std"] == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in first) / 10), abs=1e-12)
    assert found["top5_mean"] == pytest.approx(sum(five / listed for _, five, listed in expected) / 10, abs=1e-12)
    for part in parts:
        assert part["scored"] == sum(valid[i] for i in range(120) if label[i] in part["classes"]) <= part["listed"]
        assert not {15, 16} & set(part["classes"])
        assert part["top1_interval"] == list(wilson_interval(part["top1_correct"], part["listed"]))


def test_half_class_fusion_matters_and_views_are_fused_after_the_restriction(clips):
    # Guards the oracle above: if the two fusions agreed here, it could not tell them apart.
    logits, label, valid = clips
    whole = mean_softmax(logits)[:, None]  # softmax over all classes first: not what the protocol says
    right = [part["top1_correct"] for part in statistics.half_class_accuracy(*clips, mean_softmax)["per_subset"]]
    wrong = [part["top1_correct"] for part in statistics.half_class_accuracy(whole, label, valid)["per_subset"]]
    plain = [part["top1_correct"] for part in statistics.half_class_accuracy(*clips)["per_subset"]]
    assert right != wrong
    assert right != plain


def test_half_class_edges():
    label, valid = np.array([0, 1, 2, 3]), np.ones(4, dtype=bool)
    right = np.eye(4, dtype=np.float32)[:, None]
    assert statistics.half_class_accuracy(right, label, valid)["mean"] == 1.0
    assert statistics.half_class_accuracy(-right, label, valid)["mean"] == 0.0
    undecoded = statistics.half_class_accuracy(right, label, ~valid)
    assert (undecoded["mean"], undecoded["per_subset"][0]["scored"], undecoded["per_subset"][0]["listed"]) == (0, 0, 2)
    assert undecoded["per_subset"][0]["top5_k"] == 2
    with pytest.raises(ValueError, match=r"no clip has a class of half \d"):
        statistics.half_class_accuracy(right[:1], label[:1], valid[:1])
    with pytest.raises(ValueError, match="at least 2"):
        statistics.half_class_accuracy(np.ones((1, 1, 1)), np.array([0]), np.array([True]))


def test_union_counts_equal_a_loop():
    rng = np.random.default_rng(2)
    scores, label, valid = rng.random((60, 7)), rng.integers(0, 3, 60), rng.random(60) < 0.7
    right = fell = 0
    for i in range(60):
        if valid[i]:
            best = max(range(7), key=lambda c: scores[i, c])
            right += best == label[i]
            fell += best >= 3
    found = statistics.union_report(scores, label, 3, valid)
    assert (found["top1_union_correct"], found["fell_on_other_count"]) == (right, fell)
    assert (found["top1_union"], found["fell_on_other"]) == (right / 60, fell / 60)
    assert found["fell_on_other_interval"] == list(wilson_interval(fell, 60))
    assert (found["listed"], found["num_own"], found["num_other"]) == (60, 3, 4)
    assert statistics.union_report(scores, label, 3)["fell_on_other_count"] > fell


def test_union_of_one_clip_and_wrong_layout():
    found = statistics.union_report(np.array([[0.2, 0.8]]), np.array([0]), 1)
    assert (found["top1_union"], found["fell_on_other"]) == (0.0, 1.0)
    for label, num_own in ((0, 0), (0, 2), (1, 1), (-1, 1)):
        with pytest.raises(ValueError, match="own classes first"):
            statistics.union_report(np.array([[0.2, 0.8]]), np.array([label]), num_own)


def test_accuracy_without_equals_a_loop():
    rng = np.random.default_rng(3)
    scores, label, valid = rng.random((80, 9)), rng.integers(0, 9, 80), rng.random(80) < 0.8
    found = statistics.accuracy_without(scores, label, {8, 2, 5}, valid)
    for name, left_out in (("all", set()), ("without", {2, 5, 8})):
        clips = [i for i in range(80) if label[i] not in left_out]
        places = [sum(scores[i] > scores[i, label[i]]) for i in clips if valid[i]]
        for top, k in (("top1", 1), ("top5", 5)):
            count = sum(int(place) < k for place in places)
            assert found[name][f"{top}_correct"] == count
            assert found[name][top] == count / len(clips)
            assert found[name][f"{top}_interval"] == list(wilson_interval(count, len(clips)))
        assert found[name]["listed"] == len(clips)
    assert found["excluded_classes"] == [2, 5, 8]
    assert found["excluded_clips"] == 80 - found["without"]["listed"]


def test_accuracy_without_edges():
    scores, label = np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1])
    nothing = statistics.accuracy_without(scores, label, set())
    assert nothing["without"] == nothing["all"]
    assert statistics.accuracy_without(scores, label, {0, 1})["without"] is None
    assert statistics.accuracy_without(scores, label, [1])["without"]["top1"] == 1.0
    assert statistics.accuracy_without(scores, label, set(), np.zeros(2, dtype=bool))["all"]["top5_correct"] == 0
    with pytest.raises(ValueError, match=r"excluded class 2 is outside 0\.\.1"):
        statistics.accuracy_without(scores, label, {2})

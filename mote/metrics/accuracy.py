"""Accuracies from class scores: counted in integers, divided once, with their confidence intervals.

Ranking: a higher score comes first; equal scores are ordered by the lower class index, so a classifier that scores
all classes alike is credited only where it should be and every platform gives the same count.

Interval of an accuracy p = count / total: Wilson (1927), the values q with |p - q| <= z * sqrt(q * (1 - q) / total).
Interval of a harmonic mean of independent accuracies: Zou & Donner (2008, "Construction of confidence intervals about
functions of parameters"), limits of the parts recovered one at a time and combined as a root of summed squares; for a
single accuracy it is the Wilson interval itself.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer

NORMAL_QUANTILE_95 = 1.959963984540054  # P(|Z| <= z) = 0.95 for a standard normal Z
ROWS = 4096  # sorted at once: the order of all classes takes as much memory as the scores


def rank_classes(scores: Float[np.ndarray, "N K"], k: int) -> Int64[np.ndarray, "N k"]:
    """The `k` best classes of each row, best first; ties go to the lower class index.

    Raises ValueError when `k` is outside 1..K or a score is not finite.
    """
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k is {k}; expected 1..{scores.shape[1]}, the number of classes")
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
        raise ValueError(f"row {row} has a score that is not finite; nothing can be ranked")
    if k == 1:
        return scores.argmax(axis=1, keepdims=True)  # argmax takes the first of equals
    parts = [scores[start : start + ROWS] for start in range(0, max(1, len(scores)), ROWS)]
    return np.concatenate([_best(part, k) for part in parts])


def _best(scores: Float[np.ndarray, "N K"], k: int) -> Int64[np.ndarray, "N k"]:
    """`rank_classes` of some rows: only those that reach the k-th highest score are sorted."""
    if k == scores.shape[1]:
        return np.argsort(-scores, axis=1, kind="stable")
    least = np.partition(scores, -k, axis=1)[:, -k, None]
    reach = scores >= least
    tied = reach.sum(axis=1) > k  # several have the k-th highest score: the first of them belong to the best
    above, equal = scores[tied] > least[tied], scores[tied] == least[tied]
    reach[tied] = above | (equal & (equal.cumsum(axis=1) <= k - above.sum(axis=1, keepdims=True)))
    places = np.nonzero(reach)[1].reshape(-1, k)  # ascending, as equal scores among them have to be
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1)


def topk_correct(ranked: Integer[np.ndarray, "N k"], label: Integer[np.ndarray, "N"]) -> Bool[np.ndarray, "N"]:
    """Whether the label of each row is among its ranked classes, which are those of `rank_classes`."""
    return (ranked == label[:, None]).any(axis=1)


def accuracy(count: int, total: int) -> float:
    """`count / total` in [0, 1]; raises ValueError for an empty total or a count outside 0..total."""
    if total < 1:
        raise ValueError("accuracy of no samples is undefined; check that the list of clips is not empty")
    if not 0 <= count <= total:
        raise ValueError(f"count is {count}; expected 0..{total}")
    return count / total


def wilson_interval(count: int, total: int, z: float = NORMAL_QUANTILE_95) -> tuple[float, float]:
    """Wilson interval (low, high) of `count` successes in `total`; 95 % by default."""
    p = accuracy(count, total)
    shrink = 1 + z * z / total
    centre = (p + z * z / (2 * total)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    low = 0.0 if count == 0 else max(0.0, centre - half)  # exact limits, not 1e-18
    high = 1.0 if count == total else min(1.0, centre + half)
    return low, high


def class_counts(
    label: Integer[np.ndarray, "N"], correct: Bool[np.ndarray, "N"], num_classes: int
) -> tuple[Int64[np.ndarray, "K"], Int64[np.ndarray, "K"]]:
    """(correct, listed) samples of every class; recall is their quotient where listed > 0.

    Raises ValueError when a label is outside 0..num_classes - 1.
    """
    _check_range("label", label, num_classes)
    listed = np.bincount(label, minlength=num_classes).astype(np.int64)
    return np.bincount(label[correct], minlength=num_classes).astype(np.int64), listed


def mean_class_recall(correct: Integer[np.ndarray, "K"], listed: Integer[np.ndarray, "K"]) -> float:
    """Mean of correct / listed over the classes that have a sample; raises ValueError where none has."""
    present = listed > 0
    if not present.any():
        raise ValueError("mean class recall of no samples is undefined")
    return float((correct[present] / listed[present]).mean())


def confusion_matrix(
    label: Integer[np.ndarray, "N"], predicted: Integer[np.ndarray, "N"], num_classes: int
) -> Int64[np.ndarray, "K K"]:
    """Counts with true classes in rows and predicted classes in columns.

    Raises ValueError when a class is outside 0..num_classes - 1.
    """
    _check_range("label", label, num_classes)
    _check_range("prediction", predicted, num_classes)
    cell = label.astype(np.int64) * num_classes + predicted
    return np.bincount(cell, minlength=num_classes**2).astype(np.int64).reshape(num_classes, num_classes)


def harmonic_mean(values: Sequence[float]) -> float:
    """Harmonic mean of non-negative values; 0 when any of them is 0."""
    if not values or min(values) < 0:
        raise ValueError(f"harmonic mean needs at least one value and none below 0; got {list(values)}")
    return 0.0 if min(values) == 0 else len(values) / sum(1 / value for value in values)


def harmonic_interval(values: Sequence[float], intervals: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Interval (low, high) of the harmonic mean of independent values, each with its own (low, high).

    Each part alone is moved to its limit and the resulting deviations are added in squares. Where the mean is 0 the
    upper limit is the harmonic mean of the upper limits (moving one part of several zeros would show no uncertainty).
    """
    centre = harmonic_mean(values)
    if centre == 0:
        return 0.0, harmonic_mean([high for _, high in intervals])
    deviation = [0.0, 0.0]
    for part, limits in enumerate(intervals):
        for side in (0, 1):
            moved = [*values[:part], limits[side], *values[part + 1 :]]
            deviation[side] += (harmonic_mean(moved) - centre) ** 2
    return max(0.0, centre - math.sqrt(deviation[0])), min(1.0, centre + math.sqrt(deviation[1]))


def _check_range(name: str, classes: Integer[np.ndarray, "N"], num_classes: int) -> None:
    outside = classes[(classes < 0) | (classes >= num_classes)]
    if outside.size:
        raise ValueError(f"{name} {outside[0]} is outside 0..{num_classes - 1}; check the class list")

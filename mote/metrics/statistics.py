"""Confidence intervals, significance tests, calibration, rank correlation, and the half-class protocol.

Bootstrap: Efron & Tibshirani (1993), percentile interval of the mean of N values drawn N times with replacement.
McNemar (1947) in its exact form: of the videos that only one of two models gets right, k go to the weaker model;
under equality k is Binomial(n, 1/2).
Expected calibration error: Guo et al. (2017), sum over bins of count / N * |accuracy - mean confidence|.
Half classes: the ten random halves of Text4Vis and BIKE, which MoTE's code runs too.

Every fraction comes with the counts it was divided from. A clip that was not decoded (`valid` false) is wrong in every
accuracy, as in `scores.summarize`; calibration leaves it out, and says how many clips it counts.
"""

import math
from collections.abc import Callable, Collection, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Integer

from mote.metrics.accuracy import accuracy, rank_classes, topk_correct, wilson_interval

CHUNK = 2**20  # values drawn at once by the bootstrap: 16 MB of indices and values
HALVES = 10


def bootstrap_interval(
    values: Float[np.ndarray, "N"] | Sequence[float], seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of the mean of `values`; the same for the same seed.

    For a difference between two models pass the differences per video; means over classes: `class_recall_interval`.
    Raises ValueError for no values, values that are not finite, resamples < 1 or a level outside (0, 1).
    """
    sample = finite("values", values)
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples is {resamples} and level {level}; expected at least 1, and between 0 and 1")
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    rows = max(1, CHUNK // sample.size)
    for start in range(0, resamples, rows):
        part = means[start : start + rows]
        part[:] = sample[rng.integers(0, sample.size, (part.size, sample.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def class_recall_interval(
    correct: Integer[np.ndarray, "K"],
    listed: Integer[np.ndarray, "K"],
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval (low, high) of the mean over classes of correct / listed.

    The clips of each class are drawn again with replacement, the classes stay: what other clips of the same classes
    would have given. n draws from n clips of which c are right are Binomial(n, c / n). Classes without a clip are left
    out. None where each class is all right or all wrong: every draw gives the same then, which is no interval.
    """
    clips = listed[listed > 0]
    recall = correct[listed > 0] / clips
    if not ((recall > 0) & (recall < 1)).any():
        return None
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    rows = max(1, CHUNK // clips.size)
    for start in range(0, resamples, rows):
        part = means[start : start + rows]
        part[:] = (rng.binomial(clips, recall, (part.size, clips.size)) / clips).mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_and_std(values: Float[np.ndarray, "N"] | Sequence[float]) -> tuple[float, float]:
    """Mean and *population* standard deviation (divided by N), as the field publishes over three splits."""
    sample = finite("values", values)
    return float(sample.mean()), float(sample.std())


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value of equal accuracy of two models, from their discordant counts; 1 where there are none.

    only_a, only_b: videos that a alone, that b alone gets right. Summed in integers: exact for any count.
    """
    if min(only_a, only_b) < 0:
        raise ValueError(f"discordant counts are {only_a} and {only_b}; expected none below 0")
    total = int(only_a + only_b)  # Python's integers do not overflow, numpy's do
    term = tail = 1  # C(total, 0)
    for i in range(min(only_a, only_b)):
        term = term * (total - i) // (i + 1)
        tail += term
    return min(1.0, 2 * tail / 2**total)


def rank_correlation(
    a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"], seed: int = 0, draws: int = 20_000
) -> tuple[float, float] | None:
    """(rho, p): Spearman's rank correlation in [-1, 1] and its two-sided permutation p-value; None for a constant side.

    p is the share of orders of one side whose |rho| is at least as large: of all orders for up to 8 pairs, else of
    `draws` random ones and the observed one. Tied values share the mean of their ranks.

    Raises:
        ValueError: fewer than 3 pairs, or a value that is NaN.
    """
    from scipy.stats import permutation_test, rankdata  # slow to import

    if len(a) != len(b) or len(a) < 3 or np.isnan(a).any() or np.isnan(b).any():
        raise ValueError(f"expected at least 3 pairs of numbers, got {len(a)} and {len(b)}")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    first, second = rankdata(a) - (len(a) + 1) / 2, rankdata(b)
    test = permutation_test(
        (second,),
        lambda order, axis: np.abs(order @ first),  # |rho| up to a factor, without rounding
        permutation_type="pairings",
        alternative="greater",
        n_resamples=draws if len(a) > 8 else math.factorial(8),
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(np.corrcoef(first, second)[0, 1]), float(test.pvalue)


def expected_calibration_error(
    probabilities: Float[np.ndarray, "N K"],
    label: Integer[np.ndarray, "N"],
    valid: Bool[np.ndarray, "N"] | None = None,
    bins: int = 15,
) -> dict:
    """Expected calibration error: distance of the top probability from the accuracy, over decoded clips.

    Keys: ece (0..1), count, bins: for each of `bins` equal parts (low, high] of [0, 1] a dict of low, high, count,
    correct, accuracy and confidence, the last two None in an empty bin. Zero belongs to the first bin.
    Raises ValueError when no clip is valid or a top probability is outside [0, 1].
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}; expected at least 1")
    decoded = np.ones(len(label), dtype=bool) if valid is None else valid
    best = rank_classes(probabilities[decoded], 1)
    confidence = np.take_along_axis(probabilities[decoded], best, axis=1)[:, 0].astype(np.float64)
    if not confidence.size:
        raise ValueError("calibration of no clips is undefined; none was decoded")
    if confidence.min() < 0 or confidence.max() > 1 + 1e-6:  # a softmax may end a rounding above 1
        raise ValueError(f"top probabilities reach {confidence.max():g}; pass probabilities in [0, 1], not logits")
    correct = topk_correct(best, label[decoded])
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    hits = np.bincount(place[correct], minlength=bins)
    total = np.bincount(place, weights=confidence, minlength=bins)
    rows = [
        {
            "low": float(edges[i]),
            "high": float(edges[i + 1]),
            "count": int(count[i]),
            "correct": int(hits[i]),
            "accuracy": float(hits[i] / count[i]) if count[i] else None,
            "confidence": float(total[i] / count[i]) if count[i] else None,
        }
        for i in range(bins)
    ]
    # count / N * |hits / count - total / count|, the count cancelled
    return {"ece": float(np.abs(hits - total).sum() / confidence.size), "count": confidence.size, "bins": rows}


def half_class_subsets(num_classes: int) -> list[Int64[np.ndarray, "half"]]:
    """The field's ten random halves (K // 2 classes, sorted) of classes 0..K-1.

    They are the first K // 2 of `np.random.permutation(K)` after `np.random.seed(0)` ... `np.random.seed(9)`; numpy
    keeps this old generator's stream unchanged. Raises ValueError for fewer than 2 classes.
    """
    if num_classes < 2:
        raise ValueError(f"half of {num_classes} classes is none; half-class accuracy needs at least 2")
    half = num_classes // 2
    return [
        np.sort(np.random.RandomState(seed).permutation(num_classes)[:half]).astype(np.int64) for seed in range(HALVES)
    ]


def mean_over_views(logits: Float[np.ndarray, "N V K"]) -> Float64[np.ndarray, "N K"]:
    """Mean over views of the logits: the fusion of MoTE's half-class evaluation."""
    return logits.mean(axis=1, dtype=np.float64)


def half_class_accuracy(
    logits: Float[np.ndarray, "N V K"],
    label: Integer[np.ndarray, "N"],
    valid: Bool[np.ndarray, "N"],
    fuse: Callable[[np.ndarray], np.ndarray] = mean_over_views,
) -> dict:
    """Accuracy over ten random halves of the classes, each ranked on its own.

    logits: cosines or logits per view, not probabilities: a softmax must be taken again over the classes of each half,
    which is what `fuse` (n, V, k) -> scores (n, k) is for. Already fused scores whose order does not depend on the
    other classes go in as (N, 1, K). As in the field, the classes of a half are those that some listed clip has.
    Keys: mean, std (population), top5_mean, top5_std, per_subset: seed, classes, listed, scored and the accuracies
    top1, top5, each with `_correct` and `_interval`. Raises ValueError when a half has no clip.
    """
    per_subset = []
    for seed, subset in enumerate(half_class_subsets(logits.shape[2])):
        chosen = np.isin(label, subset)
        if not chosen.any():
            raise ValueError(f"no clip has a class of half {seed}; half-class accuracy needs clips of more classes")
        classes = np.unique(label[chosen])
        scored = np.flatnonzero(chosen & valid)
        scores = fuse(logits[np.ix_(scored, np.arange(logits.shape[1]), classes)])
        ranked = classes[rank_classes(scores, min(5, classes.size))]
        counts = _top_counts(ranked, label[scored], int(chosen.sum()))
        sizes = {"listed": int(chosen.sum()), "scored": scored.size}
        per_subset.append({"seed": seed, "classes": classes.tolist(), **sizes, **counts})
    mean, std = mean_and_std([part["top1"] for part in per_subset])
    top5_mean, top5_std = mean_and_std([part["top5"] for part in per_subset])
    return {"mean": mean, "std": std, "top5_mean": top5_mean, "top5_std": top5_std, "per_subset": per_subset}


def union_report(
    scores: Float[np.ndarray, "N K_union"],
    label: Integer[np.ndarray, "N"],
    num_own: int,
    valid: Bool[np.ndarray, "N"] | None = None,
) -> dict[str, float | int | list[float]]:
    """Accuracy where the classes of another vocabulary compete: columns 0..num_own-1 are the clips' own classes.

    Keys: listed, num_own, num_other, top1_union (with `_correct`, `_interval`) and fell_on_other, the fraction of
    listed clips predicted as one of the other classes (with `_count`, `_interval`).
    """
    num_classes = scores.shape[1]
    if not 1 <= num_own < num_classes or (label < 0).any() or (label >= num_own).any():
        raise ValueError(
            f"{num_own} of {num_classes} columns are the clips' own; expected 1..{num_classes - 1}, own classes first,"
            f" and labels in 0..{num_own - 1}"
        )
    decoded = np.ones(len(label), dtype=bool) if valid is None else valid
    predicted = rank_classes(scores[decoded], 1)[:, 0]
    return {
        "listed": len(label),
        "num_own": num_own,
        "num_other": num_classes - num_own,
        **fraction("top1_union", int((predicted == label[decoded]).sum()), len(label), "correct"),
        **fraction("fell_on_other", int((predicted >= num_own).sum()), len(label), "count"),
    }


def accuracy_without(
    scores: Float[np.ndarray, "N K"],
    label: Integer[np.ndarray, "N"],
    excluded: Collection[int],
    valid: Bool[np.ndarray, "N"] | None = None,
) -> dict:
    """Accuracy with and without the clips of `excluded` classes; all K classes go on competing.

    Keys: excluded_classes, excluded_clips, and `all` and `without`: listed, top1, top5, each with `_correct` and
    `_interval`; `without` is None when no clip is left.
    """
    num_classes = scores.shape[1]
    outside = sorted(c for c in excluded if not 0 <= c < num_classes)
    if outside:
        raise ValueError(f"excluded class {outside[0]} is outside 0..{num_classes - 1}; check the class list")
    decoded = np.ones(len(label), dtype=bool) if valid is None else valid
    ranked = np.full((len(label), min(5, num_classes)), -1, dtype=np.int64)  # -1: no prediction, never right
    ranked[decoded] = rank_classes(scores[decoded], ranked.shape[1])
    kept = ~np.isin(label, sorted(excluded))
    report: dict = {"excluded_classes": sorted(excluded), "excluded_clips": int((~kept).sum())}
    for name, rows in (("all", np.ones(len(label), dtype=bool)), ("without", kept)):
        listed = int(rows.sum())
        part = {"listed": listed, **_top_counts(ranked[rows], label[rows], listed)} if listed else None
        report[name] = part
    return report


def _top_counts(ranked: Integer[np.ndarray, "n k"], label: Integer[np.ndarray, "n"], listed: int) -> dict:
    """Top-1 and top-5 accuracy among `listed` clips, of which `ranked` may hold only the decoded."""
    top1, top5 = (int(topk_correct(ranked[:, :k], label).sum()) for k in (1, ranked.shape[1]))
    counts = {**fraction("top1", top1, listed, "correct"), **fraction("top5", top5, listed, "correct")}
    return {**counts, "top5_k": ranked.shape[1]}


def fraction(name: str, count: int, total: int, counted: str) -> dict[str, float | int | list[float]]:
    """`count / total` under the key `name`, the count under `name_counted`, Wilson's interval under `name_interval`."""
    interval = list(wilson_interval(count, total))
    return {name: accuracy(count, total), f"{name}_{counted}": count, f"{name}_interval": interval}


def finite(name: str, values: Float[np.ndarray, "N"] | Sequence[float]) -> Float64[np.ndarray, "N"]:
    """Return `values` as an array; raises ValueError, with `name`, when there are none or one is not finite."""
    sample = np.asarray(values, dtype=np.float64)
    if not sample.size:
        raise ValueError(f"no {name}; expected at least one")
    if not np.isfinite(sample).all():
        raise ValueError(f"{name} number {np.flatnonzero(~np.isfinite(sample))[0]} (from 0) is not finite")
    return sample

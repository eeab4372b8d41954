"""Metrics for classes of unequal frequency: macro-F1, recall of frequent and rare classes, confusion between them.

Head, medium and tail are the frequent, middling and rare classes. F1 of class c is 2 TP_c / (samples of c + predictions
of c); macro-F1 is its mean over the classes that have a sample (those of mean class recall). A clip that was not
decoded counts as a sample without a prediction.

Extra knowledge (MEK, Zhang et al. 2023) is what samples of frequent classes tell about the rare ones. It is measured as
the probability assigned to them: `given[y, c]` is the mean of p(c | x) over the samples x of class y.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float64, Integer

from mote.metrics.accuracy import accuracy, class_counts, mean_class_recall, rank_classes, wilson_interval
from mote.metrics.result_files import ResultError
from mote.metrics.scores import Scores

GROUPS = ("head", "medium", "tail")


def macro_f1(
    correct: Integer[np.ndarray, "K"], listed: Integer[np.ndarray, "K"], predicted: Integer[np.ndarray, "K"]
) -> float:
    """Mean F1 over the classes with a sample.

    Args:
        correct, listed: samples of every class, as of `accuracy.class_counts`.
        predicted: how often each class was predicted.

    Raises:
        ValueError: no samples, or more correct ones than samples or predictions of a class.
    """
    present = listed > 0
    if not present.any():
        raise ValueError("macro-F1 of no samples is undefined")
    if (correct > np.minimum(listed, predicted)).any():
        raise ValueError("more correct than samples or predictions of a class; are all three of one list of clips?")
    return float((2 * correct[present] / (listed[present] + predicted[present])).mean())


def class_groups(
    counts: Sequence[int] | Integer[np.ndarray, "K"], limits: tuple[int, int] | None = None
) -> dict[str, list[int]]:
    """Classes of head, medium and tail by training counts, most frequent first; a group may be empty.

    limits: (low, high), tail: counts below low, head: above high ((20, 100) in Liu et al. 2019); None: thirds of the
    ordered classes, as far as classes of equal size allow, which are never parted: the largest size is head, the
    smallest tail, any other goes with the third that the middle of its classes lies in; two classes are both medium.
    Where all sizes are equal there are no groups: all three are empty.
    Raises ValueError for no classes or low > high.
    """
    number = np.asarray(counts)
    if not number.size:
        raise ValueError("no classes to group")
    order = np.argsort(-number, kind="stable")
    sizes = number[order]
    if limits is None:
        group = _thirds(sizes)
    else:
        low, high = limits
        if low > high:
            raise ValueError(f"limits are ({low}, {high}); expected the lower one first")
        group = np.where(sizes > high, 0, np.where(sizes < low, 2, 1))
    return {name: order[group == place].tolist() for place, name in enumerate(GROUPS)}


def _thirds(sizes: Integer[np.ndarray, "K"]) -> Integer[np.ndarray, "K"]:
    """Group of each class (0 head, 1 medium, 2 tail), from its size in descending order; -1 where all are equal."""
    values, rank, counts = np.unique(-sizes, return_inverse=True, return_counts=True)
    if len(values) == 1:
        return np.full(len(sizes), -1)
    third, last = len(sizes) // 3, np.cumsum(counts) - 1
    middle = last - (counts - 1) / 2
    group = np.where(middle < third, 0, np.where(middle >= len(sizes) - third, 2, 1))
    if third:
        group[0], group[-1] = 0, 2
    return group[rank.reshape(-1)]


def group_recall(
    correct: Integer[np.ndarray, "K"], listed: Integer[np.ndarray, "K"], groups: Mapping[str, Sequence[int]]
) -> dict[str, dict]:
    """For each group: classes, correct, listed, mean_recall (mean over classes), accuracy and accuracy_interval.

    correct, listed: of the test samples, as of `accuracy.class_counts`. The last three are None where a group has no
    sample; accuracy is pooled over the samples of the group, and its interval is Wilson's.
    """
    report = {}
    for name, classes in groups.items():
        right, total = correct[list(classes)], listed[list(classes)]
        hits, samples = int(right.sum()), int(total.sum())
        report[name] = {
            "classes": list(classes),
            "correct": hits,
            "listed": samples,
            "mean_recall": mean_class_recall(right, total) if samples else None,
            "accuracy": accuracy(hits, samples) if samples else None,
            "accuracy_interval": list(wilson_interval(hits, samples)) if samples else None,
        }
    return report


def given_probability(
    probabilities: Float[np.ndarray, "N K"], label: Integer[np.ndarray, "N"]
) -> Float64[np.ndarray, "K K"]:
    """Mean probabilities (columns) of the samples of each class (rows); NaN rows for classes without a sample.

    Pass decoded samples only. Raises ValueError when a row is no distribution, or a label is outside 0..K - 1.
    """
    num_classes = probabilities.shape[1]
    if (probabilities < 0).any() or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-4):
        raise ValueError("expected probabilities, each row summing to 1, not logits")
    if label.size and not 0 <= label.min() <= label.max() < num_classes:
        raise ValueError(f"labels are {label.min()}..{label.max()}; expected 0..{num_classes - 1}")
    given = np.full((num_classes, num_classes), np.nan)
    for c in np.unique(label):
        given[c] = probabilities[label == c].mean(axis=0, dtype=np.float64)
    return given


def mined(
    probabilities: Float[np.ndarray, "N K"],
    label: Integer[np.ndarray, "N"],
    groups: Mapping[str, Sequence[int]],
    giver: str = "head",
    taker: str = "tail",
) -> dict[str, float | int]:
    """Probability that the samples of one group of classes, the giver, assign to another group, the taker.

    Keys: samples (of the giver); given, the mean over the samples of the probability of all taker classes together;
    own, that of the sample's own class; share, given / (1 - own), the taker's part of the probability that does not go
    to the own class, 0 where all of it does. Raises ValueError as `given_probability`, for an unknown group, and
    when the giver has no sample.
    """
    if unknown := [name for name in (giver, taker) if name not in groups]:
        raise ValueError(f"there is no group {unknown[0]!r}; choose from {', '.join(groups)}")
    given_probability(probabilities, label)  # checks
    rows = np.isin(label, list(groups[giver]))
    if not rows.any():
        raise ValueError(f"no sample of the classes of {giver}")
    chosen = probabilities[rows].astype(np.float64)
    own = float(chosen[np.arange(len(chosen)), label[rows]].mean())
    given = float(chosen[:, list(groups[taker])].sum(axis=1).mean())
    return {"samples": int(rows.sum()), "given": given, "own": own, "share": given / (1 - own) if own < 1 else 0.0}


def imbalance_summary(
    scores: Scores, classes: Sequence[str], counts: Sequence[int], attention: Float64[np.ndarray, "N K"] | None = None
) -> dict[str, object]:
    """Numbers of a result on unequal classes, beside those of `scores.summarize`, as plain values ready for JSON.

    counts: training samples of every class. attention: a distribution over the classes for every sample, such as
    `mote.inference.images.attention_shares`.
    Keys: macro_f1; training_counts by class name; classes (class, training, listed, correct, recall and its Wilson
    interval, f1; those with a sample); and, unless all classes are of equal size, groups (see `group_recall`, classes
    by name) and extra_knowledge: probability and, with `attention`, attention, each with `given` (K, K; None for a
    class without samples) and `mined` from head to tail (None where one of them has no class or no sample).
    """
    decoded, number = scores.valid, len(classes)
    predicted = rank_classes(scores.probabilities, 1)[:, 0]
    correct, listed = class_counts(scores.label, (predicted == scores.label) & decoded, number)
    groups, chosen = class_groups(counts), np.bincount(predicted[decoded], minlength=number)
    return {
        "macro_f1": macro_f1(correct, listed, chosen),
        "training_counts": dict(zip(classes, map(int, counts), strict=True)),
        "classes": [
            {
                "class": classes[c],
                "training": int(counts[c]),
                "listed": int(listed[c]),
                "correct": int(correct[c]),
                "recall": accuracy(int(correct[c]), int(listed[c])),
                "interval": list(wilson_interval(int(correct[c]), int(listed[c]))),
                "f1": float(2 * correct[c] / (listed[c] + chosen[c])),
            }
            for c in np.flatnonzero(listed).tolist()
        ],
        **(_between_groups(scores, classes, groups, attention) if any(groups.values()) else {}),
    }


def _between_groups(
    scores: Scores,
    classes: Sequence[str],
    groups: Mapping[str, list[int]],
    attention: Float64[np.ndarray, "N K"] | None,
) -> dict[str, object]:
    """`groups` and `extra_knowledge` of `imbalance_summary`."""
    decoded = scores.valid
    right = (rank_classes(scores.probabilities, 1)[:, 0] == scores.label) & decoded
    report = group_recall(*class_counts(scores.label, right, len(classes)), groups)
    for part in report.values():
        part["classes"] = [classes[c] for c in part["classes"]]
    label, knowledge = scores.label[decoded], {}
    shares = {"probability": scores.probabilities} | ({} if attention is None else {"attention": attention})
    for name, values in shares.items():
        given = given_probability(values[decoded], label)
        both = groups["tail"] and np.isin(label, groups["head"]).any()
        knowledge[name] = {
            "given": [[None if np.isnan(value) else float(value) for value in row] for row in given],
            "mined": mined(values[decoded], label, groups) if both else None,
        }
    return {"groups": report, "extra_knowledge": knowledge}


KINDS = ("probability", "attention")  # of what classes give each other


def compare_knowledge(a: Mapping, b: Mapping) -> dict[str, list[dict[str, str | float]]] | None:
    """Return `mined_table` by kind (probability, attention) of two result documents with `imbalance_summary`'s keys.

    None where one of them has none, the classes differ, or all are of equal size. Raises ResultError where one is not
    as it was written.
    """
    if not all({"extra_knowledge", "groups", "training_counts"} <= {*one} for one in (a, b)):
        return None
    try:
        counts = a["training_counts"]
        unequal = counts == b["training_counts"] and len({*counts.values()}) > 1
        return _compare_knowledge(a, b) if unequal else None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        cause = " ".join(str(error).split())[:200]
        raise ResultError(f"extra_knowledge: not as mote eval writes it ({cause}); evaluate again") from error


def _compare_knowledge(a: Mapping, b: Mapping) -> dict[str, list[dict[str, str | float]]]:
    names = list(a["training_counts"])
    groups = {name: [names.index(c) for c in part["classes"]] for name, part in a["groups"].items()}
    tables = {}
    for kind in (kind for kind in a["extra_knowledge"] if kind in b["extra_knowledge"]):
        before, after = (
            np.array(one["extra_knowledge"][kind]["given"], dtype=float) for one in (a, b)
        )  # None becomes NaN
        tables[kind] = mined_table(before, after, names, groups)
    return tables


def mined_table(
    before: Float[np.ndarray, "K K"],
    after: Float[np.ndarray, "K K"],
    names: Sequence[str],
    groups: Mapping[str, Sequence[int]],
    giver: str = "head",
    taker: str = "tail",
) -> list[dict[str, str | float]]:
    """Rows (giver, taker, before, after, change) for every pair of a giving and a taking class.

    before, after: `given_probability` of two models, such as one of plain cross-entropy and one of MEK, on the same
    samples. Largest change first; pairs of a class without samples are left out.
    """
    rows: list[dict[str, str | float]] = []
    for y in groups[giver]:
        for c in groups[taker]:
            one, two = float(before[y, c]), float(after[y, c])
            if y != c and not np.isnan(one + two):
                rows.append({"giver": names[y], "taker": names[c], "before": one, "after": two, "change": two - one})
    return sorted(rows, key=lambda row: -float(row["change"]))

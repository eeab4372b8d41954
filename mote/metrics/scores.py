"""Scores of every listed clip over a list of classes, and the counts and accuracies they give.

Closed-set and zero-shot evaluation differ in the class list and in how logits come about (the temporal gate), not in
the counting: both use this file. Each sample is keyed by its index in the list, whatever the order and the process in
which it is scored; one that is missing or scored twice is an error.

A clip that cannot be decoded (`valid` false) has no prediction and counts as wrong in every accuracy; it is never
dropped and never replaced by another clip. In the confusion matrix, which has no column for it, it does not appear.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mote.metrics.accuracy import (
    accuracy,
    class_counts,
    confusion_matrix,
    mean_class_recall,
    rank_classes,
    topk_correct,
    wilson_interval,
)
from mote.metrics.statistics import class_recall_interval, expected_calibration_error

FUSIONS = ("mean_softmax", "mean_logits", "reference")
MATRIX_CLASSES = 1000  # a result of more has no confusion matrix, which grows with the square of their number


@dataclass(frozen=True)
class Scores:
    """Class probabilities of clips 0..N-1 of a list; rows of clips that are not valid are zero."""

    index: Int64[np.ndarray, "N"]
    label: Int64[np.ndarray, "N"]
    probabilities: Float64[np.ndarray, "N K"]
    valid: Bool[np.ndarray, "N"]


def summarize(scores: Scores, classes: Sequence[str]) -> dict:
    """Counts, accuracies and intervals of `scores` over `classes` (K names) as plain numbers, ready for JSON.

    Keys: listed, scored, num_classes, top1, top1_correct, top1_interval, top5, top5_correct, top5_interval, top5_k
    (min(5, K)), mean_class_recall, mean_class_recall_interval (see `class_recall_interval`), per_class (one entry for
    each class with a clip), absent_classes, calibration (see `expected_calibration_error`; None when no clip was
    decoded), confusion_matrix (rows true, columns predicted, decoded clips only; None above 1000 classes, as it grows
    with their square: the predictions say what was taken for what). Accuracies are fractions of *listed* clips.
    """
    listed, num_classes = scores.probabilities.shape
    if num_classes != len(classes):
        raise ValueError(f"scores are over {num_classes} classes but {len(classes)} class names were given")
    ranked = rank_classes(scores.probabilities, min(5, num_classes))
    summary: dict = {"listed": listed, "scored": int(scores.valid.sum()), "num_classes": num_classes}
    for name, k in (("top1", 1), ("top5", ranked.shape[1])):
        count = int((topk_correct(ranked[:, :k], scores.label) & scores.valid).sum())
        summary[name] = accuracy(count, listed)
        summary[f"{name}_correct"] = count
        summary[f"{name}_interval"] = list(wilson_interval(count, listed))
    summary["top5_k"] = ranked.shape[1]
    correct, per_class = class_counts(scores.label, (ranked[:, 0] == scores.label) & scores.valid, num_classes)
    summary["mean_class_recall"] = mean_class_recall(correct, per_class)
    limits = class_recall_interval(correct, per_class)
    summary["mean_class_recall_interval"] = list(limits) if limits else None
    summary["per_class"] = [
        {"class": name, "listed": total, "correct": count, "recall": accuracy(count, total)}
        for name, total, count in zip(classes, per_class.tolist(), correct.tolist(), strict=True)
        if total
    ]
    summary["absent_classes"] = [name for name, total in zip(classes, per_class, strict=True) if not total]
    decoded = scores.valid
    reliability = expected_calibration_error(scores.probabilities, scores.label, decoded) if decoded.any() else None
    summary["calibration"] = reliability
    whole = num_classes <= MATRIX_CLASSES
    matrix = confusion_matrix(scores.label[decoded], ranked[decoded, 0], num_classes).tolist() if whole else None
    summary["confusion_matrix"] = matrix
    return summary

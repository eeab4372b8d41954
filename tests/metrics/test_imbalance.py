"""Macro-F1, groups of classes and mined probability against loops over samples."""

import numpy as np
import pytest

from mote.metrics.accuracy import class_counts, wilson_interval
from mote.metrics.imbalance import (
    class_groups,
    compare_knowledge,
    given_probability,
    group_recall,
    imbalance_summary,
    macro_f1,
    mined,
    mined_table,
)
from mote.metrics.scores import Scores

LABEL = np.array([0] * 6 + [1] * 3 + [2] * 2)
PREDICTED = np.array([0, 0, 0, 0, 1, 2, 1, 1, 0, 2, 0])


def probabilities(seed: int = 0, rows: int = 11, classes: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), rows)


def counts(label, predicted, num_classes):
    return *class_counts(label, label == predicted, num_classes), np.bincount(predicted, minlength=num_classes)


def test_macro_f1_is_the_mean_of_harmonic_means_of_precision_and_recall():
    scores = []
    for c in range(3):
        hits = sum(p == y == c for p, y in zip(PREDICTED, LABEL, strict=True))
        precision, recall = hits / (c == PREDICTED).sum(), hits / (c == LABEL).sum()
        scores.append(2 * precision * recall / (precision + recall))
    assert macro_f1(*counts(LABEL, PREDICTED, 3)) == pytest.approx(sum(scores) / 3)
    assert macro_f1(*counts(LABEL, LABEL, 3)) == 1


def test_macro_f1_without_samples_predictions_or_hits():
    label, predicted = np.array([0, 0, 1]), np.array([0, 2, 2])  # 1 never predicted, 2 never listed, 3 neither
    assert macro_f1(*counts(label, predicted, 4)) == pytest.approx((2 / 3 + 0) / 2)
    correct, listed, given = np.array([1, 0]), np.array([2, 1]), np.array([1, 0])  # two of three were not decoded
    assert macro_f1(correct, listed, given) == pytest.approx((2 / 3 + 0) / 2)
    with pytest.raises(ValueError, match="no samples"):
        macro_f1(np.zeros(2, int), np.zeros(2, int), np.zeros(2, int))
    with pytest.raises(ValueError, match="more correct than samples or predictions"):
        macro_f1(np.array([2, 1]), np.array([2, 1]), np.array([1, 2]))


def test_groups_are_thirds_of_the_ordered_classes_or_set_by_limits():
    raf_db = [1290, 281, 717, 4772, 1982, 705, 2524]
    assert class_groups(raf_db) == {"head": [3, 6], "medium": [4, 0, 2], "tail": [5, 1]}
    assert class_groups(raf_db, (710, 2000)) == {"head": [3, 6], "medium": [4, 0, 2], "tail": [5, 1]}
    assert class_groups([100, 20, 19, 101], (20, 100)) == {"head": [3], "medium": [0, 1], "tail": [2]}
    assert class_groups([5, 6]) == {"head": [], "medium": [1, 0], "tail": []}
    for k in range(2, 12):
        groups = class_groups(np.arange(k)[::-1])
        assert [c for part in groups.values() for c in part] == list(range(k))
    with pytest.raises(ValueError, match=r"limits are \(9, 3\)"):
        class_groups([1, 2], (9, 3))
    with pytest.raises(ValueError, match="no classes"):
        class_groups([])


@pytest.mark.parametrize(
    ("counts", "head", "medium", "tail"),
    [
        ([5, 5, 5], [], [], []),
        ([7], [], [], []),
        ([9, 9, 9, 9, 1], [0, 1, 2, 3], [], [4]),  # thirds would call three of the nines rare or middling
        ([9, 1, 1, 1, 1], [0], [], [1, 2, 3, 4]),
        ([2, 9, 2, 9, 2, 9], [1, 3, 5], [], [0, 2, 4]),
        ([9, 8, 5, 5, 5, 5, 1], [0, 1], [2, 3, 4, 5], [6]),  # of equal sizes the middle one decides
        ([9, 5, 5, 5, 3, 2, 2, 1, 1], [0, 1, 2, 3], [4, 5, 6], [7, 8]),
    ],
)
def test_classes_of_equal_size_are_never_parted(counts, head, medium, tail):
    assert class_groups(counts) == {"head": head, "medium": medium, "tail": tail}


def test_a_balanced_list_has_no_groups_and_nothing_is_mined():
    scores = Scores(np.arange(11), LABEL, probabilities(classes=3), np.ones(11, bool))
    summary = imbalance_summary(scores, ["a", "b", "c"], [4, 4, 4])
    assert not {"groups", "extra_knowledge"} & {*summary} and summary["training_counts"] == {"a": 4, "b": 4, "c": 4}
    assert compare_knowledge(summary, summary) is None
    uneven = imbalance_summary(scores, ["a", "b", "c"], [4, 3, 4])
    assert uneven["groups"]["head"]["classes"] == ["a", "c"] and uneven["groups"]["tail"]["classes"] == ["b"]


def test_group_recall_counts_samples_and_averages_classes():
    correct, listed = np.array([8, 1, 0, 3]), np.array([10, 4, 0, 3])
    report = group_recall(correct, listed, {"head": [0], "medium": [2], "tail": [3, 1, 2]})
    assert report["head"]["mean_recall"] == report["head"]["accuracy"] == 0.8
    assert report["head"]["accuracy_interval"] == list(wilson_interval(8, 10))
    assert report["tail"]["mean_recall"] == pytest.approx((1 + 0.25) / 2)
    assert (report["tail"]["correct"], report["tail"]["listed"]) == (4, 7)
    assert report["tail"]["accuracy"] == pytest.approx(4 / 7)
    assert report["medium"]["mean_recall"] is report["medium"]["accuracy"] is report["medium"]["accuracy_interval"]
    assert report["medium"]["mean_recall"] is None and report["medium"]["listed"] == 0


def test_given_probability_is_the_mean_row_of_each_class():
    p = probabilities()
    given = given_probability(p, LABEL)
    for y in range(3):
        rows = [p[i] for i in range(len(LABEL)) if LABEL[i] == y]
        np.testing.assert_allclose(given[y], [sum(row[c] for row in rows) / len(rows) for c in range(4)])
    np.testing.assert_allclose(given[:3].sum(axis=1), 1)
    assert np.isnan(given[3]).all()
    with pytest.raises(ValueError, match="expected probabilities, each row summing to 1, not logits"):
        given_probability(p * 3, LABEL)
    with pytest.raises(ValueError, match=r"labels are 0\.\.4; expected 0\.\.3"):
        given_probability(p[:1].repeat(2, axis=0), np.array([0, 4]))


def test_mined_probability_is_counted_over_the_samples_of_the_giver():
    p, groups = probabilities(1), {"head": [0, 1], "medium": [], "tail": [3, 2]}
    result = mined(p, LABEL, groups)
    rows = [i for i in range(len(LABEL)) if LABEL[i] in (0, 1)]
    given = sum(p[i, 2] + p[i, 3] for i in rows) / len(rows)
    own = sum(p[i, LABEL[i]] for i in rows) / len(rows)
    assert result == pytest.approx({"samples": 9, "given": given, "own": own, "share": given / (1 - own)})
    certain = np.eye(4)[LABEL]
    assert mined(certain, LABEL, groups) == {"samples": 9, "given": 0.0, "own": 1.0, "share": 0.0}
    with pytest.raises(ValueError, match="there is no group 'minor'; choose from head, medium, tail"):
        mined(p, LABEL, groups, taker="minor")
    with pytest.raises(ValueError, match="no sample of the classes of medium"):
        mined(p, LABEL, groups, giver="medium")


def test_smooth_labels_move_the_share_to_the_minor_classes():
    """Distributions equal to the targets of MEK give the tail what the targets do."""
    weight, epsilon = np.array([1.0, 2.0, 40.0, 57.0]), 0.3
    row = np.array([1 - epsilon, *(epsilon * weight[1:] / weight[1:].sum())])
    groups = class_groups([60, 30, 2, 1])  # head 0, medium 1 2, tail 3
    result = mined(row[None].repeat(3, axis=0), np.zeros(3, int), groups)
    assert result["given"] == pytest.approx(epsilon * 57 / 99) and result["share"] == pytest.approx(57 / 99)


def test_the_table_names_pairs_by_their_change():
    before, after = given_probability(probabilities(2), LABEL), given_probability(probabilities(3), LABEL)
    groups, names = {"head": [0, 3], "tail": [2, 1]}, ["joy", "anger", "fear", "disgust"]
    rows = mined_table(before, after, names, groups)
    assert {(row["giver"], row["taker"]) for row in rows} == {("joy", "fear"), ("joy", "anger")}  # no disgust sample
    assert [row["change"] for row in rows] == sorted((row["change"] for row in rows), reverse=True)
    fear = next(row for row in rows if row["taker"] == "fear")
    assert (fear["before"], fear["after"]) == (before[0, 2], after[0, 2])
    assert fear["change"] == pytest.approx(after[0, 2] - before[0, 2])

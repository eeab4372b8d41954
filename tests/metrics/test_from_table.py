"""The numbers that a table of predictions determines, against a count by hand and against tables that were changed."""

import csv
import json

import numpy as np
import pytest
from oracles import recount

from mote.evaluation.results import write_results
from mote.evaluation.videos import half_predictions
from mote.metrics.from_table import differences, scores_from_table
from mote.metrics.scores import Scores, summarize
from mote.metrics.statistics import accuracy_without, half_class_accuracy, union_report

CLASSES = ["archery", "bowling", "fencing", "golf", "hiking", "juggling", "kayaking"]
OWN = 5  # the others are added by a union
ORIGIN = {"config": {}, "hashes": {}, "seed": 0, "versions": {}, "date": "today"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(result, rows) as `mote eval` writes them, with all that the table determines."""
    rng, count = np.random.default_rng(0), 60
    label, valid = rng.integers(0, OWN - 1, count), rng.random(count) > 0.1  # one class has no clip
    logits = rng.normal(size=(count, len(CLASSES))) + 2 * np.eye(len(CLASSES))[label]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) * valid[:, None]
    scores = Scores(np.arange(count), label, probabilities, valid)
    summary = summarize(scores, CLASSES)
    matches = [{"a_name": "Archery", "b_name": "archery", "kind": "equal"}]
    summary["overlap"] = accuracy_without(probabilities, label, [0], valid) | {"names": matches}
    summary["union"] = union_report(probabilities, label, OWN, valid)
    summary["halves"] = half_class_accuracy(probabilities[:, None, :OWN], label, valid)
    columns = half_predictions(scores, summary["halves"]["per_subset"], CLASSES)
    folder, records = tmp_path_factory.mktemp("table"), [(f"{n}.mp4", int(k)) for n, k in enumerate(label)]
    files = write_results(
        folder, "eval", summary, records=records, classes=CLASSES, scores=scores, provenance=ORIGIN, columns=columns
    )
    with files[1].open(newline="") as file:
        return json.loads(files[0].read_text()), list(csv.DictReader(file))


def test_a_result_agrees_with_its_table_and_with_a_count_row_by_row(written):
    for classes in (CLASSES, None):
        assert differences(*written, classes) == recount.differences(*written, classes) == []


@pytest.mark.parametrize(
    "key",
    [
        *("listed", "top1", "top5_correct", "top1_interval", "mean_class_recall", "per_class", "confusion_matrix"),
        *("overlap.without", "union.fell_on_other_count", "halves.mean", "halves.std", "undecodable", "absent_classes"),
    ],
)
def test_a_changed_number_is_named(written, key):
    result, rows = json.loads(json.dumps(written[0])), written[1]
    part, (*sections, last) = result, key.split(".")
    for section in sections:
        part = part[section]
    part[last] = part[last][1:] if isinstance(part[last], list) else {} if isinstance(part[last], dict) else 0.123
    assert [line.split(":")[0] for line in differences(result, rows, CLASSES)] == [key]
    if not sections and last != "confusion_matrix":
        assert differences(result, rows) != []


def test_a_changed_table_is_noticed(written):
    result, rows = written
    wrong = next(n for n, row in enumerate(rows) if row["correct"] == "0" and row["valid"] == "1")
    edited = [*rows[:wrong], {**rows[wrong], "correct": "1"}, *rows[wrong + 1 :]]
    assert differences(result, edited, CLASSES) == [f"1 rows contradict themselves, the first {wrong}.mp4"]
    label = rows[wrong]["predicted"]
    edited[wrong] = {**rows[wrong], "correct": "1", "label": label}
    found = {line.split(":")[0] for line in differences(result, edited, CLASSES)}
    assert found >= {"top1", "top1_correct", "mean_class_recall", "per_class", "confusion_matrix"}
    edited[wrong] = {**rows[wrong], "label": "swimming"}
    assert "num_classes" in {line.split(":")[0] for line in differences(result, edited, CLASSES)}
    with pytest.raises(ValueError, match="'swimming' is none of the 7 classes"):
        scores_from_table(edited, CLASSES)

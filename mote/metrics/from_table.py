"""The numbers of a result once more, from its table of predictions (NAME.csv), as far as the table determines them.

The table has the label and the five best classes of every clip and the best class of each random half. A calibration,
an open-set threshold and the top-5 of the halves need all probabilities, so they are not computed again.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mote.metrics.scores import Scores, summarize
from mote.metrics.statistics import accuracy_without, fraction, mean_and_std, union_report

Row = Mapping[str, str]  # one line of NAME.csv: column -> cell
NOT_IN_TABLE = ("calibration", "mean_class_recall_interval")  # of `summarize`; the interval is drawn at random


def differences(result: Mapping[str, object], rows: Sequence[Row], classes: Sequence[str] | None = None) -> list[str]:
    """Every number of `result` that the table contradicts, as `key: 3 in the table, 4 in the result`.

    Args:
        result: content of NAME.json.
        rows: lines of NAME.csv.
        classes: class names by label; None: unknown, so that numbers which depend on their order are left out.
    """
    torn = [row for row in rows if row["valid"] == "1" and not _is_consistent(row)]
    lines = [f"{len(torn)} rows contradict themselves, the first {torn[0]['path']}"] if torn else []
    for key, found in _recomputed(result, rows, classes).items():
        stated: object = result
        for part in key.split("."):
            stated = stated.get(part) if isinstance(stated, Mapping) else None
        if not _equal(found, stated):
            lines.append(f"{key}: {_short(found)} in the table, {_short(stated)} in the result")
    return lines


def scores_from_table(rows: Sequence[Row], classes: Sequence[str]) -> Scores:
    """Scores with the ranking of the table; the five best classes get 5/15 to 1/15, the others 0.

    Raises:
        ValueError: a name in the table that is not one of `classes`.
    """
    place = {name: label for label, name in enumerate(classes)}
    probabilities = np.zeros((len(rows), len(classes)))
    label = np.zeros(len(rows), dtype=np.int64)
    valid = np.array([row["valid"] == "1" for row in rows])
    for n, row in enumerate(rows):
        best = [row[f"top{k}"] for k in range(1, 6) if row.get(f"top{k}")] if valid[n] else []
        if unknown := [name for name in (row["label"], *best) if name not in place]:
            raise ValueError(f"{row['path']}: {unknown[0]!r} is none of the {len(classes)} classes")
        label[n] = place[row["label"]]
        probabilities[n, [place[name] for name in best]] = np.arange(5, 5 - len(best), -1) / 15
    return Scores(np.arange(len(rows)), label, probabilities, valid)


def _recomputed(result: Mapping, rows: Sequence[Row], classes: Sequence[str] | None) -> dict[str, object]:
    """Values by (dotted) key of the result."""
    stated = [*(part["class"] for part in result.get("per_class", ())), *result.get("absent_classes", ())]
    names = list(stated if classes is None else classes)
    columns = ("label", *(f"top{k}" for k in range(1, 6)))
    names += sorted({row[key] for row in rows for key in columns if row.get(key)} - {*names})  # a changed table
    scores = scores_from_table(rows, names)
    summary = {key: value for key, value in summarize(scores, names).items() if key not in NOT_IN_TABLE}
    if classes is None or result.get("confusion_matrix", ()) is None:  # a result of many classes has no matrix
        del summary["confusion_matrix"]
    undecodable = [row["path"] for row in rows if row["valid"] != "1"]
    found: dict[str, object] = {**summary, "undecodable": undecodable}
    if classes is None:
        return found
    if overlap := result.get("overlap"):
        excluded = [names.index(match["b_name"]) for match in overlap["names"]]
        part = accuracy_without(scores.probabilities, scores.label, excluded, scores.valid)
        found |= {f"overlap.{key}": value for key, value in part.items()}
    if (union := result.get("union")) and scores.label.max() < union["num_own"]:
        part = union_report(scores.probabilities, scores.label, union["num_own"], scores.valid)
        found |= {f"union.{key}": value for key, value in part.items()}
    return found | (_halves(result["halves"]["per_subset"], rows, names) if "halves" in result else {})


def _halves(subsets: Sequence[Mapping], rows: Sequence[Row], names: Sequence[str]) -> dict[str, object]:
    """Top-1 of the random halves, from the columns half0 to half9 of the table."""
    again = []
    for part in subsets:
        members = {names[label] for label in part["classes"]}
        chosen = [row for row in rows if row["label"] in members]
        right = sum(row[f"half{part['seed']}"] == row["label"] for row in chosen)
        again.append({**part, "listed": len(chosen), **fraction("top1", right, len(chosen), "correct")})
    mean, std = mean_and_std([part["top1"] for part in again])
    return {"halves.per_subset": again, "halves.mean": mean, "halves.std": std}


def _is_consistent(row: Row) -> bool:
    """Whether the prediction is the best class, and `correct` tells whether it is the label."""
    return row["predicted"] == row["top1"] and row["correct"] == str(int(row["predicted"] == row["label"]))


def _equal(one: object, other: object) -> bool:
    """Whether two JSON values are equal; floats up to the rounding of another order of summation."""
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-15)
    return one == other


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

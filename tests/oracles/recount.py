"""The numbers of a result counted again from its table of predictions, row by row, without `mote.metrics.scores`.

The table has the label and the five best classes of every clip, which is enough for accuracies, recalls, intervals and
the confusion matrix, for accuracies without some classes and for predictions that fell on added ones; those of the ten
halves have columns of their own. A calibration or a threshold needs all probabilities and is not counted again.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mote.metrics.accuracy import wilson_interval

Row = Mapping[str, str]  # one line of NAME.csv


def differences(result: Mapping[str, Any], rows: Sequence[Row], classes: Sequence[str] | None = None) -> list[str]:
    """Every number of `result` (of NAME.json) that the table does not give: `key: 3 in the table, 4 in the result`.

    classes: the class names by label, if they are known; without them the confusion matrix is not looked at.
    """
    torn = [row for row in rows if row["valid"] == "1" and not _consistent(row)]
    lines = [f"{len(torn)} rows contradict themselves, the first {torn[0]['path']}"] if torn else []
    for key, found in _counted(result, rows, classes):
        stated = _entry(result, key)
        if not _equal(found, stated):
            lines.append(f"{key}: {_short(found)} in the table, {_short(stated)} in the result")
    return lines


def _counted(
    result: Mapping[str, Any], rows: Sequence[Row], classes: Sequence[str] | None
) -> Iterator[tuple[str, Any]]:
    """(dotted key of the result, its value by the table)."""
    yield "listed", len(rows)
    yield "scored", sum(row["valid"] == "1" for row in rows)
    yield "undecodable", [row["path"] for row in rows if row["valid"] != "1"]
    yield from _accuracies("", rows)
    listed = Counter(row["label"] for row in rows)
    right = Counter(row["label"] for row in rows if _among_best(row, 1))
    yield "mean_class_recall", math.fsum(right[name] / count for name, count in listed.items()) / len(listed)
    per_class = [
        {"class": part["class"], "listed": listed[part["class"]], "correct": right[part["class"]]}
        | {"recall": right[part["class"]] / max(listed[part["class"]], 1)}
        for part in result.get("per_class", ())
    ]
    yield "per_class", per_class
    if classes is not None and result.get("confusion_matrix", ()) is not None:  # left out where classes are many
        pairs = Counter((row["label"], row["predicted"]) for row in rows if row["valid"] == "1")
        yield "confusion_matrix", [[pairs[one, other] for other in classes] for one in classes]
    if overlap := result.get("overlap"):
        known = {match["b_name"] for match in overlap["names"]}
        kept = [row for row in rows if row["label"] not in known]
        yield "overlap.excluded_clips", len(rows) - len(kept)
        yield from _accuracies("overlap.without.", kept) if kept else ()
    if classes is not None and (union := result.get("union")):
        own = {*classes[: union["num_own"]]}
        fell = sum(row["predicted"] not in own for row in rows if row["valid"] == "1")
        yield "union.fell_on_other_count", fell
        yield "union.fell_on_other", fell / len(rows)
    if halves := result.get("halves"):
        yield from _halves(halves, rows, classes)


def _accuracies(prefix: str, rows: Sequence[Row]) -> Iterator[tuple[str, Any]]:
    for name, k in (("top1", 1), ("top5", 5)):
        count = sum(_among_best(row, k) for row in rows)
        yield f"{prefix}{name}_correct", count
        yield f"{prefix}{name}", count / len(rows)
        yield f"{prefix}{name}_interval", list(wilson_interval(count, len(rows)))


def _halves(halves: Mapping, rows: Sequence[Row], classes: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
    """Top-1 of every half, from the columns half0..half9; which videos are in it, from the classes."""
    accuracies = []
    for n, part in enumerate(halves["per_subset"]):
        chosen = part["listed"]
        if classes is not None:
            members = {classes[label] for label in part["classes"]}
            chosen = sum(row["label"] in members for row in rows)
            yield f"halves.per_subset.{n}.listed", chosen
        count = sum(row[f"half{part['seed']}"] == row["label"] for row in rows)
        yield f"halves.per_subset.{n}.top1_correct", count
        accuracies.append(count / chosen)
    mean = math.fsum(accuracies) / len(accuracies)
    yield "halves.mean", mean
    yield "halves.std", math.sqrt(math.fsum((one - mean) ** 2 for one in accuracies) / len(accuracies))


def _consistent(row: Row) -> bool:
    """The prediction is the best class, and `correct` says whether it is the label."""
    return row["predicted"] == row["top1"] and row["correct"] == str(int(row["predicted"] == row["label"]))


def _among_best(row: Row, k: int) -> bool:
    return row["valid"] == "1" and any(row.get(f"top{place}") == row["label"] for place in range(1, k + 1))


def _entry(result: Any, key: str) -> Any:
    """The entry under a dotted key; None where there is none."""
    for part in key.split("."):
        if isinstance(result, list):
            result = result[int(part)]
        else:
            result = result.get(part) if isinstance(result, Mapping) else None
    return result


def _equal(one: Any, other: Any) -> bool:
    """Equal, floats up to the rounding of another order of sums."""
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-15)
    return one == other


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

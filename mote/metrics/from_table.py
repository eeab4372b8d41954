"""The numbers of a result once more, from its table of predictions (NAME.csv), as far as the table determines them.

The table has the label and the five best classes of every clip, with their probabilities to nine digits, and the best
class of each random half. With more than five classes it lacks most probabilities, so what the frequent classes give
to the rare ones, AUROCs, and the top-5 counts of the halves are not computed again, but named.
Counts of training, membership of groups, names that overlap and the accepted share are taken as the result states them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mote.metrics.result_files import Row, Summary
from mote.metrics.scores import Scores
from mote.metrics.table_parts import MALFORMED, PARTS, Table, Value, at, best, equal, short

NO_NUMBERS = {"task", "provenance", "protocol", "warnings", "items", "method", "undecodable"}  # of a result


class Recount(NamedTuple):
    """What the table contradicts, as `key: 3 in the table, 4 in the result`, and keys of numbers it says nothing of."""

    differences: list[str]
    undetermined: list[str]


def differences(result: Summary, rows: Sequence[Row], classes: Sequence[str] | None = None) -> list[str]:
    """The first part of `recount`."""
    return recount(result, rows, classes).differences


def recount(result: Summary, rows: Sequence[Row], classes: Sequence[str] | None = None) -> Recount:
    """Every number of `result` against its table.

    Args:
        result: content of NAME.json.
        rows: lines of NAME.csv.
        classes: class names by label; None: unknown, so that numbers which depend on their order are left out.
    """
    torn = [row for row in rows if not _is_consistent(row)]
    lines = [f"{len(torn)} rows contradict themselves, the first {torn[0]['path']}"] if torn else []
    found, malformed = _recomputed(result, rows, classes)
    for key, value in found.items():
        stated = at(result, key)
        if not equal(value.value, stated, value.tolerance):
            lines.append(f"{key}: {short(value.value)} in the table, {short(stated)} in the result")
    left = [key for key in _numbers(result) if not any(key == one or key.startswith(f"{one}.") for one in found)]
    left += ["halves.per_subset.top5_correct"] if "halves.mean" in found else []
    return Recount(lines + malformed, left)


def scores_from_table(rows: Sequence[Row], classes: Sequence[str]) -> Scores:
    """Scores with the ranking of the table; the five best classes get 5/15 to 1/15, the others 0.

    Raises:
        ValueError: a name in the table that is not one of `classes`.
    """
    place = {name: label for label, name in enumerate(classes)}
    probabilities = np.zeros((len(rows), len(classes)))
    label = np.zeros(len(rows), dtype=np.int64)
    valid = np.array([row["valid"] == "1" for row in rows], dtype=bool)
    for n, row in enumerate(rows):
        ranked = best(row) if valid[n] else []
        if unknown := [name for name in (row["label"], *ranked) if name not in place]:
            raise ValueError(f"{row['path']}: {unknown[0]!r} is none of the {len(classes)} classes")
        label[n] = place[row["label"]]
        probabilities[n, [place[name] for name in ranked]] = np.arange(5, 5 - len(ranked), -1) / 15
    return Scores(np.arange(len(rows)), label, probabilities, valid)


def _recomputed(
    result: Summary, rows: Sequence[Row], classes: Sequence[str] | None
) -> tuple[dict[str, Value], list[str]]:
    """Values by (dotted) key of the result, and a line for each part that is not as `mote eval` writes it."""
    names = list(dict.fromkeys(stated_names(result) if classes is None else classes))
    columns = ("label", *(f"top{k}" for k in range(1, 6)))
    names += sorted({row[key] for row in rows for key in columns if row.get(key)} - {*names})  # a changed table
    table = Table(rows, scores_from_table(rows, names), names, classes is not None)
    found, malformed = {}, []
    for name, part in PARTS.items():
        if name and name not in result:
            continue
        try:
            found |= part(result, table)
        except MALFORMED as error:
            reason = f"{type(error).__name__}: {error}" if isinstance(error, (KeyError, IndexError)) else error
            malformed.append(f"{name or 'numbers'}: not as mote eval writes it ({reason})")
    return found, malformed


def _numbers(result: Mapping[str, object], before: str = "") -> Iterator[str]:
    """Dotted keys of the numbers in a result; those within a list have the key of the list."""
    for key, value in result.items():
        where = f"{before}{key}"
        if where in NO_NUMBERS:
            continue
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{where}.")
        elif _has_number(value):
            yield where


def _has_number(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_number, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_has_number, value))
    return isinstance(value, (int, float))


def stated_names(result: Summary) -> list[str]:
    """Class names in the order of `per_class`, then of `absent_classes`; what is no name is left out."""
    per_class, absent = result.get("per_class"), result.get("absent_classes")
    rows = per_class if isinstance(per_class, list) else []
    found = [row.get("class") for row in rows if isinstance(row, dict)] + (absent if isinstance(absent, list) else [])
    return [name for name in found if isinstance(name, str)]


def _is_consistent(row: Row) -> bool:
    """Whether the prediction is the best class, `correct` tells whether it is the label, and the ranking is one."""
    if row["valid"] != "1":
        return row["correct"] == "0" and not any(row.get(key) for key in ("predicted", "probability", "top1"))
    names = best(row)
    p = [float(row[key]) for k in range(1, 6) if row.get(key := f"top{k}_probability")]
    ranked = len({*names}) == len(names) and p == sorted(p, reverse=True)
    first = row["predicted"] == row.get("top1") and row.get("probability") == row.get("top1_probability")
    return ranked and first and row["correct"] == str(int(row["predicted"] == row["label"]))

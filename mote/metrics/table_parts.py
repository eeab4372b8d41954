"""What a table of predictions determines of each part of a result: see `from_table`, which compares.

Each part is a function of the result and of the table; it gives values by (dotted) key of the result and raises one of
`MALFORMED` where the result is not as `mote eval` writes it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mote.metrics.accuracy import accuracy, class_counts, rank_classes, wilson_interval
from mote.metrics.imbalance import given_probability, group_recall, macro_f1, mined
from mote.metrics.open_set import auroc_interval
from mote.metrics.result_files import Row, Summary
from mote.metrics.scores import Scores, summarize
from mote.metrics.statistics import (
    accuracy_without,
    expected_calibration_error,
    fraction,
    half_class_subsets,
    mean_and_std,
    union_report,
)

DIGITS = 1e-8  # what nine digits of a probability leave open in a mean
MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError)  # of what a file may hold


class Value(NamedTuple):
    """What the table gives for a key; `tolerance`: how far the stated value may be from it."""

    value: object
    tolerance: float = 1e-12


class Table(NamedTuple):
    """A table of predictions as scores over `names`; `ordered`: whether their order is known to be that of labels."""

    rows: Sequence[Row]
    scores: Scores
    names: list[str]
    ordered: bool

    def probability(self) -> np.ndarray:
        """Probability of the best class of each decoded clip, in [0, 1]."""
        return np.array([float(row["probability"]) for row in self.rows if row["valid"] == "1"])


class _Missing:
    """The place of a key that a result does not have."""

    def __repr__(self) -> str:
        return "nothing"


MISSING = _Missing()


def _summary(result: Summary, table: Table) -> dict[str, Value]:
    """What `summarize` gives without probabilities; the drawn interval where the generator of numbers is the same."""
    summary = summarize(table.scores, table.names)
    del summary["calibration"]
    known_draw = at(result, "provenance.versions.numpy") == np.__version__
    if not (known_draw and "mean_class_recall_interval" in result):
        del summary["mean_class_recall_interval"]
    if not table.ordered or result.get("confusion_matrix", ()) is None:  # a result of many classes has no matrix
        del summary["confusion_matrix"]
    undecodable = [row["path"] for row in table.rows if row["valid"] != "1"]
    return {key: Value(value) for key, value in {**summary, "undecodable": undecodable}.items()}


def _calibration(result: Summary, table: Table) -> dict[str, Value]:
    """Bins and error; nothing where a probability lies so near to an edge that nine digits leave its bin open."""
    stated, found = result["calibration"], Value(None)
    if table.scores.valid.any():
        p = table.probability()
        right = np.array([row.get("top1") == row["label"] for row in table.rows if row["valid"] == "1"])
        # Two classes stand for "right" and "wrong": only the top probability and whether it is right enter.
        near = [
            expected_calibration_error(np.stack([q, np.full(len(q), -1.0)], axis=1), (~right).astype(np.int64))
            for q in (np.minimum(p * factor, 1) for factor in (1, 1 - 2e-9, 1 + 2e-9))
        ]
        same = [value for value in near if equal(value, stated, DIGITS)]
        found = Value((same or near)[0], DIGITS)
        counts = [[part["count"] for part in value["bins"]] for value in near]
        if not same and not counts[0] == counts[1] == counts[2]:
            return {}
    return {"calibration": found}


def _overlap(result: Summary, table: Table) -> dict[str, Value]:
    if not table.ordered or not result["overlap"]:
        return {}
    excluded = [table.names.index(match["b_name"]) for match in result["overlap"]["names"]]
    part = accuracy_without(table.scores.probabilities, table.scores.label, excluded, table.scores.valid)
    return {f"overlap.{key}": Value(value) for key, value in part.items()}


def _union(result: Summary, table: Table) -> dict[str, Value]:
    own = _integer(result["union"]["num_own"])
    if not table.ordered:
        return {}
    part = union_report(table.scores.probabilities, table.scores.label, own, table.scores.valid)
    return {f"union.{key}": Value(value) for key, value in part.items()}


def _halves(result: Summary, table: Table) -> dict[str, Value]:
    """The random halves, from the columns half0 to half9 of the table; their top-5 from its own counts."""
    if not table.ordered:
        return {}
    own = _integer(result["union"]["num_own"]) if "union" in result else len(table.names)
    label, again = table.scores.label, []
    stated = result["halves"]["per_subset"]
    subsets = half_class_subsets(own)
    if len(stated) != len(subsets):
        raise ValueError(f"{len(subsets)} halves expected, {len(stated)} are there")
    for seed, (part, subset) in enumerate(zip(stated, subsets, strict=True)):
        members = np.unique(label[np.isin(label, subset)])
        chosen = [row for row, one in zip(table.rows, label, strict=True) if one in members]
        right = sum(row[f"half{seed}"] == row["label"] for row in chosen)
        sizes = {"listed": len(chosen), "scored": sum(row["valid"] == "1" for row in chosen)}
        top5 = sizes["scored"] if len(members) <= 5 else _integer(part["top5_correct"])
        counts = fraction("top1", right, len(chosen), "correct") | fraction("top5", top5, len(chosen), "correct")
        again.append({"seed": seed, "classes": members.tolist(), **sizes, **counts, "top5_k": min(5, len(members))})
    found: dict[str, object] = {"per_subset": again}
    for name, keys in (("top1", ("mean", "std")), ("top5", ("top5_mean", "top5_std"))):
        found |= dict(zip(keys, mean_and_std([part[name] for part in again]), strict=True))
    return {f"halves.{key}": Value(value) for key, value in found.items()}


def _counts(table: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(right, listed, predicted) clips of every class."""
    predicted, decoded, number = rank_classes(table.scores.probabilities, 1)[:, 0], table.scores.valid, len(table.names)
    correct, listed = class_counts(table.scores.label, (predicted == table.scores.label) & decoded, number)
    return correct, listed, np.bincount(predicted[decoded], minlength=number)


def _macro_f1(result: Summary, table: Table) -> dict[str, Value]:
    return {"macro_f1": Value(macro_f1(*_counts(table)))}


def _classes(result: Summary, table: Table) -> dict[str, Value]:
    correct, listed, chosen = (part.tolist() for part in _counts(table))
    training = result["training_counts"]
    rows = [
        {
            "class": name,
            "training": training[name],
            "listed": listed[c],
            "correct": correct[c],
            "recall": accuracy(correct[c], listed[c]),
            "interval": list(wilson_interval(correct[c], listed[c])),
            "f1": 2 * correct[c] / (listed[c] + chosen[c]),
        }
        for c, name in enumerate(table.names)
        if listed[c]
    ]
    return {"classes": Value(rows)}


def _groups(result: Summary, table: Table) -> dict[str, Value]:
    correct, listed, _ = _counts(table)
    groups = {name: [table.names.index(c) for c in part["classes"]] for name, part in result["groups"].items()}
    if groups and sorted(c for members in groups.values() for c in members) != list(range(len(table.names))):
        raise ValueError("each class belongs to one group")
    found = {}
    for name, part in group_recall(correct, listed, groups).items():
        found[f"groups.{name}"] = Value({**part, "classes": [table.names[c] for c in part["classes"]]})
    return found


def _knowledge(result: Summary, table: Table) -> dict[str, Value]:
    """What classes give to one another, where the table has the probabilities of all of them."""
    if not table.ordered or not 1 < len(table.names) <= 5 or not table.scores.valid.any():
        return {}
    decoded, names = table.scores.valid, table.names
    p = np.zeros_like(table.scores.probabilities)
    for n in np.flatnonzero(decoded).tolist():
        row = table.rows[n]
        for k, name in enumerate(best(row), start=1):
            p[n, names.index(name)] = float(row[f"top{k}_probability"])
    label = table.scores.label[decoded]
    given = given_probability(p[decoded], label)
    groups = {name: [names.index(c) for c in part["classes"]] for name, part in result["groups"].items()}
    both = groups.get("tail") and np.isin(label, groups.get("head", [])).any()
    rows = [[None if np.isnan(value) else float(value) for value in row] for row in given]
    share = mined(p[decoded], label, groups) if both else None
    return {
        "extra_knowledge.probability.given": Value(rows, DIGITS),
        "extra_knowledge.probability.mined": Value(share, 1e-6),  # a share of what may be little
    }


def _open_set(result: Summary, table: Table) -> dict[str, Value]:
    """The known clips and their threshold; of the others what follows from the stated counts."""
    stated = result["open_set"]
    unknown = _integer(stated["listed"]) - len(stated["undecodable"])
    if not unknown or not table.scores.valid.any():
        return {}
    known = np.sort(table.probability())
    accept, threshold = float(stated["accept"]), float(stated["threshold"])
    place = math.floor((1 - accept) * known.size + 1e-9)
    accepted = _integer(stated["known_accepted_count"])
    low, high = int((known > threshold * (1 + 1e-8)).sum()), int((known >= threshold * (1 - 1e-8)).sum())
    found: dict[str, Value] = {
        "threshold": Value(float(known[place]), DIGITS),
        "known": Value(int(known.size)),
        "unknown": Value(unknown),
        "auroc_interval": Value(list(auroc_interval(float(stated["auroc"]), known.size, unknown))),
    }
    kept = fraction("known_accepted", min(max(accepted, low), high), known.size, "count")
    lost = fraction("unknown_rejected", _integer(stated["unknown_rejected_count"]), unknown, "count")
    found |= {key: Value(value) for key, value in (kept | lost).items() if key != "unknown_rejected_count"}
    for name, part in stated.get("other_scores", {}).items():
        limits = list(auroc_interval(float(part["auroc"]), known.size, unknown))
        found[f"other_scores.{name}.auroc_interval"] = Value(limits)
    return {f"open_set.{key}": value for key, value in found.items()}


PARTS: Mapping[str, Callable[[Summary, Table], dict[str, Value]]] = {  # "": of every result
    "": _summary,
    "calibration": _calibration,
    "overlap": _overlap,
    "union": _union,
    "halves": _halves,
    "macro_f1": _macro_f1,
    "classes": _classes,
    "groups": _groups,
    "extra_knowledge": _knowledge,
    "open_set": _open_set,
}


def at(result: Summary, key: str) -> object:
    """The value at a dotted key, MISSING where there is none."""
    found: object = result
    for part in key.split("."):
        found = found.get(part, MISSING) if isinstance(found, Mapping) else MISSING
    return found


def equal(one: object, other: object, tolerance: float) -> bool:
    """Whether two JSON values are equal; floats up to the rounding of another order of summation, or `tolerance`."""
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(equal(*pair, tolerance) for pair in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key], tolerance) for key in one)
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=max(1e-15, tolerance if tolerance > 1e-12 else 0))
    return type(one) is type(other) and one == other


def short(value: object) -> str:
    """The value in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise ValueError(f"{short(value)} is no count")
    return value


def best(row: Row) -> list[str]:
    """The best classes of a clip, best first."""
    return [row[f"top{k}"] for k in range(1, 6) if row.get(f"top{k}")]

"""Comparison of two evaluations of the same videos, paired video by video.

Reads what `results.write_results` wrote: a JSON file and the CSV file of predictions. Accuracy is top-1;
a video that was not decoded is wrong on its side. The difference is always b minus a, in fractions.

difference_interval: paired bootstrap over videos of mean(right_b - right_a). p_value: exact McNemar test on the
discordant videos. The interval of each accuracy alone (Wilson) is much wider: most videos are right in both results or
wrong in both, which does not add to the uncertainty of the difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from mote.metrics.accuracy import accuracy, wilson_interval
from mote.metrics.result_files import COLUMNS, ResultError, Row, check_table, read_document, read_table, table_path
from mote.metrics.statistics import bootstrap_interval, mcnemar

COUNTS = ("listed", "scored", "top1_correct")
SAME = {"manifest": "lists of videos", "classes": "lists of classes"}  # hashes that should agree -> in words


@dataclass(frozen=True)
class Predictions:
    """The rows of a result's CSV file, in the order of its list; classes by name, "" where nothing was decoded."""

    file: Path
    paths: tuple[str, ...]
    label: tuple[str, ...]
    predicted: tuple[str, ...]
    correct: Bool[np.ndarray, "N"]
    valid: Bool[np.ndarray, "N"]


@dataclass(frozen=True)
class Result:
    """One evaluation: its file, its JSON document and its predictions."""

    file: Path
    document: dict
    predictions: Predictions


def read_result(path: Path | str) -> Result:
    """Read `NAME.json` and the `NAME.csv` next to it, or the `metrics.json` of a run directory and its table.

    Raises ResultError when one is missing or damaged, or when they are not of one evaluation.
    """
    path = Path(path)
    document = read_document(path)
    if isinstance(lists := document.get("lists"), dict):
        files = [part.get("file") for part in lists.values() if isinstance(part, dict)]
        parts = ", ".join(str(path.parent / file) for file in files if isinstance(file, str))
        raise ResultError(f"{path}: the joint result of several lists; compare those of the lists one by one: {parts}")
    missing = [key for key in COUNTS if type(document.get(key)) is not int]
    if missing:
        raise ResultError(f"{path}: not a result file, {', '.join(missing)} missing; give a JSON file of `mote eval`")
    table = table_path(path, document)
    predictions = _predictions(table, read_table(table))
    found = (len(predictions.paths), int(predictions.valid.sum()), int(predictions.correct.sum()))
    for key, count in zip(COUNTS, found, strict=True):
        if document[key] != count:
            raise ResultError(
                f"{predictions.file}: {key} is {count} but {document[key]} in {path.name};"
                " the two files are not of one evaluation, evaluate again"
            )
    check_table(table, document)
    return Result(path, document, predictions)


def compare(a: Mapping, b: Mapping, a_predictions: Predictions, b_predictions: Predictions, *, seed: int = 0) -> dict:
    """Comparison of two results of the same videos, in any order, as plain values ready for JSON.

    Keys: a, b (each: file, task, correct, top1, top1_interval, undecodable), videos, both_right, both_wrong, only_a,
    only_b (counts), difference, difference_interval (95 %), p_value, per_class (class, listed, a_correct, b_correct,
    difference; the largest gain of b first), warnings (lists that are not the same file).
    Raises ResultError when a video is listed twice, is only in one result, or has two labels.
    """
    order = _pair(a_predictions, b_predictions)
    right = {"a": a_predictions.correct, "b": b_predictions.correct[order]}
    only_a, only_b = int((right["a"] & ~right["b"]).sum()), int((right["b"] & ~right["a"]).sum())
    videos = len(order)
    gain = right["b"].astype(np.float64) - right["a"]
    return {
        "a": _side(a, a_predictions),
        "b": _side(b, b_predictions),
        "videos": videos,
        "both_right": int((right["a"] & right["b"]).sum()),
        "both_wrong": int((~right["a"] & ~right["b"]).sum()),
        "only_a": only_a,
        "only_b": only_b,
        "difference": (only_b - only_a) / videos,
        "difference_interval": list(bootstrap_interval(gain, seed)),
        "p_value": mcnemar(only_a, only_b),
        "per_class": _per_class(a_predictions.label, right["a"], right["b"]),
        "warnings": _warnings(a, b),
    }


def comparison_table(report: Mapping) -> list[dict[str, str]]:
    """Rows a, b and b - a of a text table (result, top-1 %, right, not decoded, p) from the report of `compare`."""
    rows = []
    for name in ("a", "b"):
        side = report[name]
        rows.append(
            {
                "result": f"{name}: {side['file']}",
                "top-1 %": f"{100 * side['top1']:.1f} {_percent_range(side['top1_interval'])}",
                "right": f"{side['correct']} of {report['videos']}",
                "not decoded": str(side["undecodable"]),
                "p": "",
            }
        )
    rows.append(
        {
            "result": "b - a",
            "top-1 %": f"{100 * report['difference']:+.1f} {_percent_range(report['difference_interval'], '+')}",
            "right": f"+{report['only_b']} -{report['only_a']}",
            "not decoded": "",
            "p": f"{report['p_value']:.2g}",
        }
    )
    return rows


def class_table(report: Mapping, count: int = 5) -> list[dict[str, str]]:
    """Rows of a text table for the classes on which b gains most and loses most, up to `count` each.

    Columns: class, a and b (right of listed), b - a %. Classes without a difference have no row.
    """
    changed = [row for row in report["per_class"] if row["difference"]]
    gains, losses = [row for row in changed if row["difference"] > 0], [r for r in changed if r["difference"] < 0]
    return [
        {
            "class": row["class"],
            "a": f"{row['a_correct']} of {row['listed']}",
            "b": f"{row['b_correct']} of {row['listed']}",
            "b - a %": f"{100 * row['difference']:+.1f}",
        }
        for row in [*gains[:count], *losses[-count:]]
    ]


def _percent_range(interval: tuple[float, float] | list[float], sign: str = "") -> str:
    return f"[{100 * interval[0]:{sign}.1f}, {100 * interval[1]:{sign}.1f}]"


def _predictions(path: Path, rows: Sequence[Row]) -> Predictions:
    paths, label, predicted, correct, valid = zip(*([row[key] for key in COLUMNS] for row in rows), strict=True)
    return Predictions(path, paths, label, predicted, np.array(correct) == "1", np.array(valid) == "1")


def _pair(a: Predictions, b: Predictions) -> np.ndarray:
    """Row in `b` of each video of `a`; raises ResultError where videos or labels differ."""
    ours, theirs = _rows(a), _rows(b)
    only_a, only_b = [path for path in a.paths if path not in theirs], [path for path in b.paths if path not in ours]
    if only_a or only_b:
        first, side = (only_a[0], a) if only_a else (only_b[0], b)
        raise ResultError(
            f"{first} is only in {side.file}: {len(only_a)} videos are only in {a.file}, {len(only_b)} only in"
            f" {b.file}; evaluate both on one list with one root"
        )
    for path, label in zip(a.paths, a.label, strict=True):
        if b.label[theirs[path]] != label:
            raise ResultError(f"{path} is {label!r} in {a.file} but {b.label[theirs[path]]!r} in {b.file}")
    return np.array([theirs[path] for path in a.paths])


def _rows(predictions: Predictions) -> dict[str, int]:
    """Row of each path; raises ResultError for a path that is listed twice."""
    rows: dict[str, int] = {}
    for row, path in enumerate(predictions.paths):
        if rows.setdefault(path, row) != row:
            raise ResultError(f"{predictions.file}: {path} is listed twice; videos are paired by path, list each once")
    return rows


def _side(document: Mapping, predictions: Predictions) -> dict[str, object]:
    count, videos = int(predictions.correct.sum()), len(predictions.paths)
    return {
        "file": str(predictions.file.with_suffix(".json")),
        "task": document.get("task"),
        "correct": count,
        "top1": accuracy(count, videos),
        "top1_interval": list(wilson_interval(count, videos)),
        "undecodable": videos - int(predictions.valid.sum()),
    }


def _per_class(label: tuple[str, ...], a: Bool[np.ndarray, "N"], b: Bool[np.ndarray, "N"]) -> list[dict[str, object]]:
    names, place = np.unique(np.array(label, dtype=object), return_inverse=True)
    listed, a_correct, b_correct = (
        np.bincount(place[rows], minlength=len(names)) for rows in (np.ones(len(a), dtype=bool), a, b)
    )
    gain = (b_correct - a_correct) / listed
    order = sorted(range(len(names)), key=lambda i: (-gain[i], names[i]))
    return [
        {
            "class": names[i],
            "listed": int(listed[i]),
            "a_correct": int(a_correct[i]),
            "b_correct": int(b_correct[i]),
            "difference": float(gain[i]),
        }
        for i in order
    ]


def _warnings(a: Mapping, b: Mapping) -> list[str]:
    """One line for each hash that differs or that a result lacks."""
    warnings = []
    for key, words in SAME.items():
        ours, theirs = (_hash(document, key) for document in (a, b))
        if ours is None or theirs is None:
            warnings.append(
                f"{words}: no SHA-256 of {key} in {'a' if ours is None else 'b'}; cannot tell if they agree"
            )
        elif ours != theirs:
            warnings.append(f"{words} differ (SHA-256 of {key}: a {ours[:12]}, b {theirs[:12]})")
    return warnings


def _hash(document: Mapping, key: str) -> str | None:
    """SHA-256 of what a result came from; None where it is not stated."""
    found = document.get("provenance")
    for part in ("hashes", key):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else None

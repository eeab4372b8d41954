"""Result files as they are read back: NAME.json and its table of predictions, checked before anything is made of them.

Both may have been cut off, edited or mixed up; whatever is found is a `ResultError` of one line, naming the file.
"""

import csv
import hashlib
import json
import math
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

LONGEST_CELL = 131_072  # characters; csv.field_size_limit is of the whole process, and others raise it
COLUMNS = ("path", "label", "predicted", "correct", "valid")
METRICS = "metrics.json"  # of a run directory: the result of the weights in best/

Row = Mapping[str, str]  # one line of NAME.csv: column -> cell
Summary = dict[str, Any]  # content of NAME.json: which keys it has depends on the kind of task and on the protocol


class ResultError(ValueError):
    """A result file that is missing or damaged, or does not go with another one."""


def read_document(path: Path) -> Summary:
    """The JSON object in a file; raises ResultError."""
    text = read_text(path)
    try:
        document = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{path}: not a result file, the JSON is damaged ({error}); evaluate again") from error
    if not isinstance(document, dict):
        found = type(document).__name__
        raise ResultError(f"{path}: not a result file: expected a JSON object, got {found}; give one of `mote eval`")
    return document


def table_path(path: Path, document: Mapping[str, object]) -> Path:
    """The table of predictions of a result: NAME.csv beside NAME.json.

    Runs of earlier versions kept the table of metrics.json in evaluations/ only, where later ones may have replaced it.
    """
    beside, task = path.with_suffix(".csv"), document.get("task")
    if path.name == METRICS and not beside.is_file() and isinstance(task, str) and Path(task).name == task:
        return path.parent / "evaluations" / f"{task}.csv"
    return beside


def check_table(path: Path, document: Summary) -> None:
    """Raise ResultError where the table is not the one whose hash is in `document`; older results have none."""
    stated = _mapping(_mapping(document.get("provenance")).get("hashes")).get("predictions")
    if stated is not None and hashlib.sha256(read_text(path).encode("utf-8", "surrogateescape")).hexdigest() != stated:
        raise ResultError(f"{path}: not the table of this result (its SHA-256 is another); evaluate again")


def read_table(path: Path) -> list[Row]:
    """The rows of a table of predictions, every one with all cells.

    Raises:
        ResultError: no such file, no rows, a damaged line, or a column that is missing or there twice.
    """
    lines = csv.reader(StringIO(read_text(path), newline=""), strict=True)
    rows: list[Row] = []
    try:
        header = next(lines, [])
        if missing := [column for column in COLUMNS if column not in header]:
            raise ResultError(f"{path}: no column {', '.join(missing)}; expected the predictions of `mote eval`")
        if twice := sorted({column for column in header if header.count(column) > 1}):
            raise ResultError(f"{path}: the column {twice[0]} is there twice; evaluate again")
        for line in lines:
            row = dict(zip(header, line, strict=False))
            if len(line) != len(header) or max(map(len, line)) > LONGEST_CELL or not _is_sound(row):
                raise ResultError(f"{path}:{lines.line_num}: damaged line; evaluate again")
            rows.append(row)
    except csv.Error as error:
        raise ResultError(f"{path}:{lines.line_num}: damaged line ({error}); evaluate again") from error
    if not rows:
        raise ResultError(f"{path}: no predictions; evaluate again")
    return rows


def _is_sound(row: Row) -> bool:
    """Whether flags are 0 or 1, nothing is right without being decoded, and probabilities are probabilities."""
    flags = {row["correct"], row["valid"]} <= {"0", "1"} and row["correct"] <= row["valid"]
    cells = [cell for name, cell in row.items() if name == "probability" or name.endswith("_probability")]
    return flags and all(_is_probability(cell) or (row["valid"] == "0" and not cell) for cell in cells)


def _is_probability(cell: str) -> bool:
    try:
        value = float(cell)
    except ValueError:
        return False
    return math.isfinite(value) and 0 <= value <= 1 + 1e-6


def read_text(path: Path) -> str:
    """The text of a result file, bytes that are no UTF-8 escaped; raises ResultError."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except (IsADirectoryError, PermissionError) as error:  # Windows says the latter of a folder
        what = "is a folder; name a result in it, such as metrics.json" if path.is_dir() else f"cannot be read: {error}"
        raise ResultError(f"{path}: {what}") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ResultError(f"{path}: no such file; a result is NAME.json with NAME.csv next to it") from error
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: cannot be read: {error}") from error


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")

"""Class files: the names of classes by label, and prompt templates. Lines that begin with # are comments.

A class file is one of

- one name per line, in the order of the labels;
- a number and a name per line, as in UCF's classInd.txt (`1 ApplyEyeMakeup`), or the name first; the numbers are 0..K-1
  or 1..K in any order;
- a .csv with two columns in either order: the names, and ids, which are the labels 0..K-1 in any order or the dataset's
  own names of the classes ("ApplyEyeMakeup") in the order of the labels.

A header is a first row that is not of the kind of the others: words over numbers, or words for what the columns are.
"""

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mote.datasets.lists.text import ManifestError, is_integer, not_empty, text_lines
from mote.files.names import plain, shown

NAMES = {"name", "names", "classname", "classnames", "displayname", "description", "prompt", "text", "words"}
IDS = {"id", "ids", "classid", "labelid", "index", "idx", "number", "num", "no", "key", "code", "folder", "directory"}
EITHER = {"class", "classes", "label", "labels", "category", "action"}  # a header, but not of one column alone
NUMBER_FIRST = re.compile(r"(?P<number>\d+)(?P<gap>[\s,;:.)]+)(?P<name>\S.*)")
NUMBER_LAST = re.compile(r"(?P<name>\S.*?)(?P<gap>[\s,;:]+)(?P<number>\d+)")


class ClassRow(NamedTuple):
    """A class: the line that names it, its id as written ("" where there is none), its name."""

    line: int
    id: str
    name: str


def read_class_names(path: Path | str) -> list[str]:
    """Class names in the order of their labels, see the top of this file.

    Raises:
        ManifestError: a file that cannot be used as it stands.
    """
    path = Path(path)
    return _distinct(path, [(row.line, row.name) for row in class_rows(path)])


def read_class_ids(path: Path | str) -> list[str] | None:
    """The dataset's own names of the classes where the class file is a .csv that has them, else None."""
    path = Path(path)
    rows = class_rows(path)
    return None if is_integer(rows[0].id) or not rows[0].id else _distinct(path, [(row.line, row.id) for row in rows])


def counts_from_one(path: Path | str) -> bool:
    """Whether the numbers of a class file are 1..K, where labels are 0..K-1."""
    numbers = {row.id for row in class_rows(Path(path))}
    return "" not in numbers and all(map(is_integer, numbers)) and 0 not in map(int, numbers)


def has_folder_names(path: Path | str) -> bool:
    """Whether the names of a class file are a dataset's names of folders: those of numbered lines."""
    return Path(path).suffix.lower() != ".csv" and bool(class_rows(Path(path))[0].id)


def read_templates(path: Path | str) -> list[str]:
    """Prompt templates, one per line, each with exactly one `{}` where the class name goes."""
    path = Path(path)
    templates = []
    for line, template in text_lines(path):
        if template.count("{}") != 1:
            raise ManifestError(f"{path}:{line}: expected exactly one {{}} for the class name, got {template!r}")
        templates.append(template)
    return not_empty(path, templates, "template")


def class_rows(path: Path) -> list[ClassRow]:
    """The classes of a class file in the order of their labels; raises ManifestError."""
    lines = list(text_lines(path, comments=True))
    if empty := [line for line, text in lines if not plain(text)]:
        raise ManifestError(f"{path}:{empty[0]}: a name that cannot be seen; remove the line")
    not_empty(path, lines, "class name")
    if path.suffix.lower() == ".csv":
        return _table(path, lines)
    for pattern in (NUMBER_FIRST, NUMBER_LAST):
        if (rows := _numbered(path, lines, pattern)) is not None:
            return rows
    return [ClassRow(line, "", text) for line, text in lines]


def _numbered(path: Path, lines: list[tuple[int, str]], pattern: re.Pattern[str]) -> list[ClassRow] | None:
    """Classes of lines that all have a number in the place of `pattern`; None where they are names as they stand."""
    found = [(line, pattern.fullmatch(text)) for line, text in lines]
    if found[0][1] is None and len(found) > 2 and _by_number(found[1:]) is not None:
        line, text = lines[0]
        if {word.lower().strip("#:") for word in re.split(r"[\s,;]+", text)} & (NAMES | IDS | EITHER):
            found = found[1:]
        elif pattern is NUMBER_FIRST:
            raise ManifestError(f"{path}:{line}: {text!r} has no number, as all other lines have; number or remove it")
    if not all(match for _, match in found) or (pattern is NUMBER_LAST and len(found) < 2):
        return None
    rows = _by_number(found)
    names = {match["name"] for _, match in found if match}
    if len(names) == 1 and len(found) > 1:  # digit 0, digit 1: names that count
        return None
    if pattern is NUMBER_LAST:
        return rows if rows is not None and len(names) == len(rows) else None
    if rows is None and all(match["gap"].isspace() for _, match in found if match):
        raise ManifestError(
            f"{path}: every line begins with a number, but they are not 0..{len(found) - 1} or 1..{len(found)};"
            " number the classes so, or write `id,name` rows in a .csv"
        )
    return rows


def _by_number(found: Iterable[tuple[int, re.Match[str] | None]]) -> list[ClassRow] | None:
    """Matched lines in the order of their numbers; None where not all match, or numbers are neither 0..K-1 nor 1..K."""
    found = list(found)
    rows = [ClassRow(line, match["number"], match["name"]) for line, match in found if match]
    if len(rows) < len(found):
        return None
    numbers = sorted(int(row.id) for row in rows)
    if numbers not in (list(range(len(rows))), list(range(1, len(rows) + 1))):
        return None
    return sorted(rows, key=lambda row: int(row.id))


def _table(path: Path, lines: list[tuple[int, str]]) -> list[ClassRow]:
    rows, raw = [], {}
    for line, text in lines:
        raw[line] = [cell.strip() for cell in _cells(path, line, text)]
        cells = list(map(plain, raw[line]))
        if len(cells) != 2 or not all(cells):
            raise ManifestError(f"{path}:{line}: expected `id,name`, got {text!r}")
        rows.append((line, (cells[0], cells[1])))
    header = [cell.lower().replace("_", "").replace(" ", "") for cell in rows[0][1]]
    body = rows[1:] if _has_header(path, header, rows) else rows
    not_empty(path, body, "class name")
    if body is rows:
        header = ["", ""]
    elif header[0] == header[1]:
        raise ManifestError(f"{path}:{rows[0][0]}: two columns of one name; expected `id,name`")
    place = _id_column(path, header, body)
    classes = [ClassRow(line, cells[place], raw[line][1 - place]) for line, cells in body]
    numbers = sum(is_integer(row.id) for row in classes)
    if not numbers:
        return classes
    if numbers < len(classes):
        odd = next(row for row in classes if is_integer(row.id) != (2 * numbers >= len(classes)))
        kind = "all ids are names" if is_integer(odd.id) else "all ids are numbers"
        raise ManifestError(f"{path}:{odd.line}: expected an id not used before, got {odd.id!r}; {kind}, or none is")
    return _ordered(path, classes)


def _cells(path: Path, line: int, text: str) -> list[str]:
    try:
        return next(csv.reader([text], skipinitialspace=True))
    except csv.Error as error:
        raise ManifestError(f"{path}:{line}: not a line of a .csv file: {error}") from error


def _has_header(path: Path, header: list[str], rows: list[tuple[int, tuple[str, str]]]) -> bool:
    """Whether the first row says what the columns are; raises ManifestError where that cannot be told."""
    first, body = rows[0][1], rows[1:]
    if any(map(is_integer, first)):
        return False
    if {*header} & (NAMES | IDS | EITHER) and _letters(first[0]) != _letters(first[1]):
        return True
    if any(all(is_integer(cells[place]) for _, cells in body) for place in (0, 1)) and body:
        return True
    if any(cells[place] == first[place] for _, cells in body for place in (0, 1)):
        return False
    alike = [_letters(a) == _letters(b) for _, (a, b) in rows]
    if all(alike):
        return False
    if len(rows) > 2 and all(alike[1:]):
        return True
    for place in (0, 1):  # codes such as n01440764
        coded = [any(map(str.isdigit, cells[place])) for _, cells in rows]
        if all(coded):
            return False
        if len(rows) > 2 and all(coded[1:]):
            return True
    if any(is_integer(cell) for _, cells in rows for cell in cells):
        return False
    raise ManifestError(
        f"{path}:{rows[0][0]}: is {','.join(first)!r} a class, or does it say what the columns are?"
        " Put a first line `id,name` or `name,id` above it or in its place"
    )


def _id_column(path: Path, header: list[str], rows: list[tuple[int, tuple[str, str]]]) -> int:
    """Which column holds the ids."""
    columns = [[cells[place] for _, cells in rows] for place in (0, 1)]
    named = [place for place in (0, 1) if header[1 - place] in NAMES] or [p for p in (0, 1) if header[p] in IDS]
    numeric = [place for place in (0, 1) if all(map(is_integer, columns[place]))]
    if len(numeric) == 1:
        if header[numeric[0]] in NAMES:
            raise ManifestError(f"{path}:{rows[0][0]}: the column of names holds numbers; is the header right?")
        return numeric[0]
    if len(named) == 1:
        return named[0]
    if len(numeric) == 2 and columns[0] != columns[1]:
        counting = [p for p in (0, 1) if sorted(map(int, columns[p])) == list(range(len(rows)))]
        if len(counting) != 1:
            raise ManifestError(f"{path}: both columns hold numbers; say which are the ids by a first line `id,name`")
        return counting[0]
    tests = (
        lambda column: any(map(is_integer, column)),  # numbers with a mistake among them
        lambda column: not any(" " in cell for cell in column),  # ids are one word each
        lambda column: all(any(map(str.isdigit, cell)) for cell in column),  # codes such as n01440764
    )
    for test in tests:
        if test(columns[0]) != test(columns[1]):
            return 0 if test(columns[0]) else 1
    return 0


def _ordered(path: Path, rows: list[ClassRow]) -> list[ClassRow]:
    """Classes whose ids are numbers, in the order of the numbers."""
    numbers: dict[int, ClassRow] = {}
    for row in rows:
        if int(row.id) in numbers:
            raise ManifestError(f"{path}:{row.line}: expected an id not used before, got {row.id!r}")
        numbers[int(row.id)] = row
    if sorted(numbers) != list(range(len(numbers))):
        raise ManifestError(f"{path}: expected the ids 0..{len(numbers) - 1}, got {min(numbers)}..{max(numbers)}")
    return [numbers[key] for key in sorted(numbers)]


def _distinct(path: Path, lines: Iterable[tuple[int, str]]) -> list[str]:
    """Plain names; raises ManifestError where two are one."""
    seen: dict[str, tuple[int, str]] = {}
    for line, name in lines:
        if (known := plain(name)) in seen:
            first, spelled = seen[known]
            other = "" if spelled == name else f" as {shown(spelled)}, which reads the same"
            raise ManifestError(f"{path}:{line}: class {shown(name)} is already there, in line {first}{other}")
        seen[known] = line, name
    return list(seen)


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())

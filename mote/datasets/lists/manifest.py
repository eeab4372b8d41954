"""Lists of labelled videos, class names and prompt templates. Every error names the file and the line, if there is one.

Three kinds of list, told apart by what the path is:

- a folder with one subfolder per class;
- `*.csv` with a header naming the columns `path`, `label` and, optionally, `split`; a label is an id or a class name;
- any other file: one `path label` per line, the label an id. Everything before the last blank is the path.

Label ids count from 0 in the order of the class list.
"""

import csv
import warnings
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from mote.datasets.lists.folders import VIDEO_SUFFIXES, counts_as, say_left_out, search


class Record(NamedTuple):
    """One video of a list: its file and its label id."""

    path: Path
    label: int


class Row(NamedTuple):
    """A line of a list as it was written; `where` is its file:line."""

    where: str
    path: str
    label: str
    split: str | None = None


class ManifestError(ValueError):
    """A list that cannot be used as it stands: `file:line: what is wrong; what to do`."""


def read_manifest(
    path: Path | str,
    root: Path | str | None = None,
    classes: Sequence[str] | None = None,
    select: str | None = None,
    ids: Sequence[str] | None = None,
    suffixes: Set[str] = VIDEO_SUFFIXES,
) -> list[Record]:
    """Records of a list (see the top of this file), in its order; folders are read in sorted order.

    Args:
        path: the list; whether its files exist is not checked.
        root: where relative paths start; None: the list's own folder.
        classes: the class names; labels are then checked against them, and names are understood.
        select: keep the rows with this value in column `split`.
        ids: the classes' other names, in the same order, such as a dataset's folder names (see `read_class_ids`).
        suffixes: what counts as a file of the list in a folder.

    Raises:
        ManifestError: a list that cannot be used as it stands.
    """
    path = Path(path)
    if not path.exists():
        raise ManifestError(f"{path}: there is no such file or folder")
    base, numbers = Path(root) if root is not None else path.parent, _numbers(classes, ids)
    if path.is_dir() and select is None:
        return _folder_records(path, numbers, suffixes)
    rows = read_rows(path, base, select)
    records = [Record(base / row.path, _label_id(row, numbers)) for row in rows]
    return _not_empty(path, records)


def read_rows(path: Path | str, root: Path | str | None = None, select: str | None = None) -> list[Row]:
    """Rows of a list as they are written, labels unchecked; of a folder: paths below it, labels its subfolders' names.

    Arguments as in `read_manifest`. Raises ManifestError.
    """
    path = Path(path)
    if not path.exists():
        raise ManifestError(f"{path}: there is no such file or folder")
    if path.suffix.lower() == ".csv" and path.is_file():
        return _not_empty(path, _select(path, list(_csv_rows(path)), select))
    if select is not None:
        raise ManifestError(f"{path}: split {select!r} asked for, but only a .csv list has a column `split`")
    if path.is_dir():
        found = class_files(path)
        return _not_empty(path, [Row(str(file), str(file.relative_to(path)), name) for name, file in found])
    return _not_empty(path, list(_text_rows(path, Path(root) if root is not None else path.parent)))


def manifest_classes(path: Path | str) -> list[str]:
    """Sorted class names of a list that spells them out: a .csv (of all its splits) or a class-per-folder tree."""
    path = Path(path)
    if path.is_dir():
        return folder_classes(path)
    if path.suffix.lower() != ".csv" or not path.exists():
        raise ManifestError(f"{path}: class names can only be derived from an existing .csv list or folder")
    names = {row.label for row in _csv_rows(path)}
    if all(_is_integer(name) for name in names):
        raise ManifestError(f"{path}: its labels are numbers, not names; give a class list")
    return sorted(names)


def folder_classes(path: Path | str) -> list[str]:
    """Sorted names of the subfolders of `path`, hidden ones left out."""
    path = Path(path)
    if not path.is_dir():
        raise ManifestError(f"{path}: there is no such folder")
    names = sorted(child.name for child in path.iterdir() if not child.name.startswith("."))
    if gone := [name for name in names if not (path / name).exists()]:
        raise ManifestError(f"{path / gone[0]}: this link leads to nothing; repair or remove it")
    names = [name for name in names if (path / name).is_dir()]
    return _not_empty(path, names, "subfolder; expected one per class")


def class_files(path: Path, suffixes: Set[str] = VIDEO_SUFFIXES) -> list[tuple[str, Path]]:
    """(class name, file) of a folder with one subfolder per class, in order; says what is left out."""
    apart = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
    if apart := sorted(file for file in apart if counts_as(file, suffixes)):
        warnings.warn(
            f"{path}: {len(apart)} left out, which lie in no class folder; such as {apart[0].name}", stacklevel=2
        )
    found, left_out = [], []
    for name in folder_classes(path):
        files, others = search(path / name, suffixes)
        found += [(name, file) for file in files]
        left_out += others
    say_left_out(path, left_out, "videos" if suffixes == VIDEO_SUFFIXES else "images")
    return found


def read_class_names(path: Path | str) -> list[str]:
    """Class names in the order of their labels: one per line, or a .csv of `id,name` rows, with or without header.

    Ids are the labels 0..K-1 in any order, or the dataset's own names of the classes ("ApplyEyeMakeup") in the order of
    the labels.
    """
    path = Path(path)
    return _distinct(path, _lines(path) if path.suffix.lower() != ".csv" else [(n, b) for n, _, b in _class_rows(path)])


def read_class_ids(path: Path | str) -> list[str] | None:
    """The dataset's own names of the classes where the class file is a .csv that has them, else None."""
    path = Path(path)
    rows = _class_rows(path) if path.suffix.lower() == ".csv" else []
    return None if not rows or _is_integer(rows[0][1]) else _distinct(path, [(line, key) for line, key, _ in rows])


def read_templates(path: Path | str) -> list[str]:
    """Prompt templates, one per line, each with exactly one `{}` where the class name goes."""
    path = Path(path)
    templates = []
    for line, template in _lines(path):
        if template.count("{}") != 1:
            raise ManifestError(f"{path}:{line}: expected exactly one {{}} for the class name, got {template!r}")
        templates.append(template)
    return _not_empty(path, templates, "template")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, stripped text); blank lines only at the end of the file."""
    if not path.is_file():
        raise ManifestError(f"{path}: there is no such file")
    blank = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, text in enumerate(file, 1):
                if not text.strip():
                    blank = blank or number
                elif blank:
                    raise ManifestError(f"{path}:{blank}: blank line; remove it")
                else:
                    yield number, text.strip()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a text file in UTF-8 ({error.reason}); convert it") from error


def _text_rows(path: Path, base: Path) -> Iterator[Row]:
    for number, text in _lines(path):
        where = f"{path}:{number}"
        name, label = text.rsplit(maxsplit=1) if len(text.split(maxsplit=1)) == 2 else ("", text)
        if not name or not _is_integer(label):
            raise ManifestError(f"{where}: expected `path label` with a number as label, got {text!r}")
        if _is_integer(name.split()[-1]) and not (base / name).exists():
            raise ManifestError(f"{where}: expected `path label`, got {text!r}; remove the column of frame counts")
        yield Row(where, name, label)


def _csv_rows(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            columns, blank = next(reader, []), 0
            if not {"path", "label"} <= set(columns):
                raise ManifestError(
                    f"{path}:1: expected a header with columns path and label, got {','.join(columns)!r}"
                )
            for row in reader:
                where, cells = f"{path}:{reader.line_num}", dict(zip(columns, row, strict=False))
                if not row:
                    blank = blank or reader.line_num
                elif blank:
                    raise ManifestError(f"{path}:{blank}: blank line; remove it")
                elif len(row) != len(columns) or not (cells["path"] and cells["label"]):
                    raise ManifestError(
                        f"{where}: expected {len(columns)} cells ({','.join(columns)}), none of them empty"
                    )
                else:
                    yield Row(where, cells["path"], cells["label"].strip(), cells.get("split"))
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a text file in UTF-8 ({error.reason}); convert it") from error
    except csv.Error as error:
        raise ManifestError(f"{path}: not a .csv file: {error}") from error


def _select(path: Path, rows: list[Row], select: str | None) -> list[Row]:
    if select is None or not rows:
        return rows
    values = sorted({row.split for row in rows if row.split is not None})
    if select not in values:
        raise ManifestError(f"{path}: no row has split {select!r}; there are {values or 'no splits'}")
    return [row for row in rows if row.split == select]


def _label_id(row: Row, numbers: dict[str, int] | None) -> int:
    named = numbers.get(row.label) if numbers is not None else None
    if not _is_integer(row.label):
        if named is None:
            advice = "give the class list" if numbers is None else "check the class list"
            raise ManifestError(f"{row.where}: label {row.label!r} is not a known class name; {advice}")
        return named
    label = int(row.label)
    if named is not None and named != label:
        raise ManifestError(
            f"{row.where}: label {label} is an id, but also the name of class {named}; rename the class"
        )
    if label < 0 or (numbers is not None and label >= len(set(numbers.values()))):
        last = "" if numbers is None else len(set(numbers.values())) - 1
        raise ManifestError(f"{row.where}: label {label} is outside 0..{last}; check the list and the class list")
    return label


def _folder_records(path: Path, numbers: dict[str, int] | None, suffixes: Set[str]) -> list[Record]:
    names = folder_classes(path)
    known = {name: label for label, name in enumerate(names)} if numbers is None else numbers
    if unknown := [name for name in names if name not in known]:
        raise ManifestError(f"{path / unknown[0]}: this folder's name is not in the class list; rename or remove it")
    return _not_empty(path, [Record(file, known[name]) for name, file in class_files(path, suffixes)])


def _numbers(classes: Sequence[str] | None, ids: Sequence[str] | None) -> dict[str, int] | None:
    """Label of every class name, and of every id that is not another class's name."""
    if classes is None:
        return None
    return {name: label for label, name in enumerate(ids or ())} | {name: label for label, name in enumerate(classes)}


def _class_rows(path: Path) -> list[tuple[int, str, str]]:
    """(line, id, name) of a class .csv in the order of the labels."""
    rows: list[tuple[int, str, str]] = []
    for number, text in _lines(path):
        cells = [cell.strip() for cell in next(csv.reader([text], skipinitialspace=True))]
        if len(cells) != 2 or not all(cells):
            raise ManifestError(f"{path}:{number}: expected `id,name`, got {text!r}")
        if number > 1 or not (cells[0].lower() in ("id", "class", "label", "index") or cells[1].lower() == "name"):
            rows.append((number, cells[0], cells[1]))
    if not rows or not _is_integer(rows[0][1]):
        return rows
    lines: dict[int, tuple[int, str, str]] = {}
    for row in rows:
        if not _is_integer(row[1]) or int(row[1]) in lines:
            raise ManifestError(f"{path}:{row[0]}: expected an id not used before, got {row[1]!r}")
        lines[int(row[1])] = row
    if sorted(lines) != list(range(len(lines))):
        raise ManifestError(f"{path}: expected the ids 0..{len(lines) - 1}, got {min(lines)}..{max(lines)}")
    return [lines[key] for key in sorted(lines)]


def _distinct(path: Path, lines: Iterable[tuple[int, str]]) -> list[str]:
    seen: dict[str, int] = {}
    for line, name in lines:
        if name in seen:
            raise ManifestError(f"{path}:{line}: class {name!r} is already there, in line {seen[name]}")
        seen[name] = line
    return _not_empty(path, list(seen), "class name")


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()


def _not_empty(path: Path, items: list, kind: str = "video") -> list:
    if not items:
        raise ManifestError(f"{path}: it lists no {kind}")
    return items

"""Lists of labelled videos. Every error names the file and the line, if there is one.

Three kinds of list, told apart by what the path is:

- a folder with one subfolder per class;
- `*.csv` with a header naming the columns `path`, `label` and, optionally, `split`; a label is an id or a class name.
  Case and outer blanks of the column names and of the cells of `split` do not matter;
- any other file: one `path label` per line, the label an id. Everything before the last blank is the path.

Label ids count from 0 in the order of the class list. Names that look alike are one name, see `mote.files.names`.
"""

import csv
import warnings
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple, cast

from mote.datasets.lists.class_files import read_class_ids, read_class_names, read_templates
from mote.datasets.lists.folders import VIDEO_SUFFIXES, counts_as, say_left_out, search
from mote.datasets.lists.text import ManifestError, is_integer, not_empty, text_lines
from mote.files.absent import absent
from mote.files.names import in_words, letters, plain, shown

__all__ = [
    "ManifestError",
    "Record",
    "Row",
    "folder_classes",
    "manifest_classes",
    "read_class_ids",
    "read_class_names",
    "read_manifest",
    "read_rows",
    "read_templates",
]

CLASS_FILE = "name them, one a line, in a file: data.classes=FILE in training, evaluation.classes=FILE in evaluation"


class Record(NamedTuple):
    """One video of a list: its file (an address stays a text) and its label id."""

    path: Path
    label: int


def unlabelled(file: Path | str) -> Record:
    """The record of a file whose label does not matter; an address stays a text."""
    return Record(cast(Path, file), 0)


class Row(NamedTuple):
    """A line of a list, its label as a plain name, its split in lower case; `where` is its file:line."""

    where: str
    path: str
    label: str
    split: str | None = None


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
        raise ManifestError(absent(path))
    base, numbers = Path(root) if root is not None else path.parent, _numbers(classes, ids)
    if path.is_dir() and select is None:
        return _folder_records(path, numbers, suffixes)
    rows = read_rows(path, base, select)
    records = [Record(base / row.path, _label_id(row, numbers)) for row in rows]
    return not_empty(path, records)


def read_rows(path: Path | str, root: Path | str | None = None, select: str | None = None) -> list[Row]:
    """Rows of a list as they are written, labels unchecked; of a folder: paths below it, labels its subfolders' names.

    Arguments as in `read_manifest`. Raises ManifestError.
    """
    path = Path(path)
    if not path.exists():
        raise ManifestError(absent(path))
    if path.suffix.lower() == ".csv" and path.is_file():
        return not_empty(path, _select(path, list(_csv_rows(path)), select))
    if select is not None:
        raise ManifestError(f"{path}: split {select!r} asked for, but only a .csv list has a column `split`")
    if path.is_dir():
        found = class_files(path)
        return not_empty(path, [Row(str(file), str(file.relative_to(path)), plain(name)) for name, file in found])
    return not_empty(path, list(_text_rows(path, Path(root) if root is not None else path.parent)))


def manifest_classes(path: Path | str) -> list[str]:
    """Sorted class names of a list that spells them out: a .csv (of all its splits) or a class-per-folder tree."""
    path = Path(path)
    if path.is_dir():
        return [plain(name) for name in folder_classes(path)]
    if not path.exists():
        raise ManifestError(absent(path))
    if path.suffix.lower() != ".csv":
        raise ManifestError(f"{path}: has numbers in place of class names; {CLASS_FILE}")
    names = {row.label for row in _csv_rows(path)}
    if all(is_integer(name) for name in names):
        raise ManifestError(f"{path}: its labels are numbers, not names; {CLASS_FILE}")
    return sorted(names)


def folder_classes(path: Path | str) -> list[str]:
    """Sorted names of the subfolders of `path` as they are on disk, hidden ones left out.

    Raises:
        ManifestError: no such folder, none in it, or two whose names read the same.
    """
    path = Path(path)
    if not path.is_dir():
        raise ManifestError(absent(path, "folder"))
    names = sorted(child.name for child in path.iterdir() if not child.name.startswith("."))
    if gone := [name for name in names if not (path / name).exists()]:
        raise ManifestError(f"{path / gone[0]}: this link leads to nothing; repair or remove it")
    names = [name for name in names if (path / name).is_dir()]
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(plain(name), name)) != name:
            raise ManifestError(f"{path}: folders {shown(other)} and {shown(name)} have one name; join them")
    return not_empty(path, names, "subfolder; expected one per class")


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


def _text_rows(path: Path, base: Path) -> Iterator[Row]:
    for number, text in text_lines(path):
        where = f"{path}:{number}"
        name, label = text.rsplit(maxsplit=1) if len(text.split(maxsplit=1)) == 2 else ("", text)
        if not name or not is_integer(label):
            raise ManifestError(f"{where}: expected `path label` with a number as label, got {text!r}")
        if is_integer(name.split()[-1]) and not (base / name).exists():
            raise ManifestError(f"{where}: expected `path label`, got {text!r}; remove the column of frame counts")
        yield Row(where, name, label)


def _csv_rows(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            columns, blank = next(reader, []), 0
            if not {"path", "label"} <= {*(columns := [plain(column).casefold() for column in columns])}:
                raise ManifestError(
                    f"{path}:1: expected a header with columns path and label, got {','.join(columns)!r}"
                )
            if twice := [column for column in columns if columns.count(column) > 1]:
                raise ManifestError(f"{path}:1: two columns {twice[0]!r}; keep one")
            for row in reader:
                where, cells = f"{path}:{reader.line_num}", dict(zip(columns, row, strict=False))
                if not row:
                    blank = blank or reader.line_num
                elif blank:
                    raise ManifestError(f"{path}:{blank}: blank line; remove it")
                elif len(row) != len(columns) or not (cells["path"].strip() and plain(cells["label"])):
                    raise ManifestError(
                        f"{where}: expected {len(columns)} cells ({','.join(columns)}), none of them empty"
                    )
                else:
                    part = plain(cells["split"]).casefold() if "split" in cells else None
                    yield Row(where, cells["path"], plain(cells["label"]), part)
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a text file in UTF-8 ({error.reason}); convert it") from error
    except csv.Error as error:
        raise ManifestError(f"{path}: not a .csv file: {error}") from error


def _select(path: Path, rows: list[Row], select: str | None) -> list[Row]:
    if select is None or not rows:
        return rows
    wanted, values = plain(select).casefold(), sorted({row.split for row in rows if row.split is not None})
    if wanted not in values:
        raise ManifestError(f"{path}: no row has split {select!r}; there are {values or 'no splits'}")
    if empty := [row for row in rows if not row.split]:
        raise ManifestError(
            f"{empty[0].where}: the cell `split` is empty, as in {len(empty)} rows in all; fill them or remove the rows"
        )
    return [row for row in rows if row.split == wanted]


def _label_id(row: Row, numbers: dict[str, int] | None) -> int:
    named = _number(row.label, numbers) if numbers is not None else None
    if not is_integer(row.label):
        if named is None:
            advice = "give the class list" if numbers is None else "check the class list"
            if near := [name for name in numbers or () if letters(name) == letters(row.label)]:
                advice = f"the class list spells it {shown(near[0])}"
            raise ManifestError(f"{row.where}: label {shown(row.label)} is not a known class name; {advice}")
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
    known = {plain(name): label for label, name in enumerate(names)} if numbers is None else numbers
    labels = {name: _number(plain(name), known) for name in names}
    if unknown := [name for name, label in labels.items() if label is None]:
        near = [shown(name) for name in known if letters(name) == letters(unknown[0])]
        advice = f"the class list spells it {near[0]}" if near else "rename or remove it"
        codes = "" if unknown[0].isascii() else f" {shown(unknown[0])}"
        raise ManifestError(f"{path / unknown[0]}: this folder's name is not in the class list{codes}; {advice}")
    found = class_files(path, suffixes)
    return not_empty(path, [Record(file, label) for name, file in found if (label := labels[name]) is not None])


def _number(name: str, numbers: dict[str, int]) -> int | None:
    """The label of a class name, or of a folder's name whose words are one; None: no such class."""
    return numbers.get(name, numbers.get(in_words(name)))


def _numbers(classes: Sequence[str] | None, ids: Sequence[str] | None) -> dict[str, int] | None:
    """Label of every class name, and of every id that is not another class's name."""
    if classes is None:
        return None
    return {plain(name): label for given in (ids or (), classes) for label, name in enumerate(given)}

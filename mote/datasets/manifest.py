"""Lists of labelled videos, class names and prompt templates. Every error names the file and the line, if there is one.

Three kinds of list, told apart by what the path is:

- a folder with one subfolder per class;
- `*.csv` with a header naming the columns `path`, `label` and, optionally, `split`; a label is an id or a class name;
- any other file: one `path label` per line, the label an id. Everything before the last blank is the path.

Label ids count from 0 in the order of the class list.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

VIDEO_SUFFIXES = {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv"}
VIDEO_SUFFIXES |= {".ts", ".vob", ".webm", ".wmv"}


class Record(NamedTuple):
    """One video of a list: its file and its label id."""

    path: Path
    label: int


class ManifestError(ValueError):
    """A list that cannot be used as it stands: `file:line: what is wrong; what to do`."""


def read_manifest(
    path: Path | str,
    root: Path | str | None = None,
    classes: Sequence[str] | None = None,
    select: str | None = None,
) -> list[Record]:
    """Records of a list (see the top of this file), in its order; folders are read in sorted order.

    `root`: where relative paths start, the list's own folder by default. `classes`: the class names; labels are then
    checked against them, and names are understood. `select`: keep the rows with this value in column `split`.
    Whether the videos exist is not checked. Raises ManifestError.
    """
    path = Path(path)
    if not path.exists():
        raise ManifestError(f"{path}: there is no such file or folder")
    if path.suffix.lower() == ".csv" and path.is_file():
        rows = _select(path, list(_csv_rows(path)), select)
    elif select is not None:
        raise ManifestError(f"{path}: split {select!r} asked for, but only a .csv list has a column `split`")
    elif path.is_dir():
        return _folder_records(path, classes)
    else:
        rows = list(_text_rows(path, Path(root) if root is not None else path.parent))
    base = Path(root) if root is not None else path.parent
    ids = None if classes is None else {name: label for label, name in enumerate(classes)}
    records = [Record(base / row.path, _label_id(row, ids)) for row in rows]
    return _not_empty(path, records)


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
    names = sorted(child.name for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    return _not_empty(path, names, "subfolder; expected one per class")


def video_files(folder: Path | str) -> list[Path]:
    """Files below `folder` whose suffix is a video's, sorted; hidden ones left out."""
    files = (file for file in Path(folder).rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES)
    return sorted(file for file in files if file.is_file() and not file.name.startswith("."))


def read_class_names(path: Path | str) -> list[str]:
    """Class names by id: one per line, or a .csv of `id,name` rows (with or without header) whose ids are 0..K-1."""
    path = Path(path)
    lines = _lines(path)
    if path.suffix.lower() == ".csv":
        lines = _ids_and_names(path)
    seen: dict[str, int] = {}
    for line, name in lines:
        if name in seen:
            raise ManifestError(f"{path}:{line}: class {name!r} is already there, in line {seen[name]}")
        seen[name] = line
    return _not_empty(path, list(seen), "class name")


def read_templates(path: Path | str) -> list[str]:
    """Prompt templates, one per line, each with exactly one `{}` where the class name goes."""
    path = Path(path)
    templates = []
    for line, template in _lines(path):
        if template.count("{}") != 1:
            raise ManifestError(f"{path}:{line}: expected exactly one {{}} for the class name, got {template!r}")
        templates.append(template)
    return _not_empty(path, templates, "template")


class _Row(NamedTuple):
    where: str  # file:line
    path: str
    label: str
    split: str | None = None


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


def _text_rows(path: Path, base: Path) -> Iterator[_Row]:
    for number, text in _lines(path):
        where = f"{path}:{number}"
        name, label = text.rsplit(maxsplit=1) if len(text.split(maxsplit=1)) == 2 else ("", text)
        if not name or not _is_integer(label):
            raise ManifestError(f"{where}: expected `path label` with a number as label, got {text!r}")
        if _is_integer(name.split()[-1]) and not (base / name).exists():
            raise ManifestError(f"{where}: expected `path label`, got {text!r}; remove the column of frame counts")
        yield _Row(where, name, label)


def _csv_rows(path: Path) -> Iterator[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = reader.fieldnames or []
            if not {"path", "label"} <= set(columns):
                raise ManifestError(
                    f"{path}:1: expected a header with columns path and label, got {','.join(columns)!r}"
                )
            for cells in reader:
                where = f"{path}:{reader.line_num}"
                if None in cells or None in cells.values() or not (cells["path"] and cells["label"]):
                    raise ManifestError(
                        f"{where}: expected {len(columns)} cells ({','.join(columns)}), none of them empty"
                    )
                yield _Row(where, cells["path"], cells["label"].strip(), cells.get("split"))
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a text file in UTF-8 ({error.reason}); convert it") from error
    except csv.Error as error:
        raise ManifestError(f"{path}: not a .csv file: {error}") from error


def _select(path: Path, rows: list[_Row], select: str | None) -> list[_Row]:
    if select is None or not rows:
        return rows
    values = sorted({row.split for row in rows if row.split is not None})
    if select not in values:
        raise ManifestError(f"{path}: no row has split {select!r}; there are {values or 'no splits'}")
    return [row for row in rows if row.split == select]


def _label_id(row: _Row, ids: dict[str, int] | None) -> int:
    named = ids.get(row.label) if ids is not None else None
    if not _is_integer(row.label):
        if named is None:
            advice = "give the class list" if ids is None else "check the class list"
            raise ManifestError(f"{row.where}: label {row.label!r} is not a known class name; {advice}")
        return named
    label = int(row.label)
    if named is not None and named != label:
        raise ManifestError(
            f"{row.where}: label {label} is an id, but also the name of class {named}; rename the class"
        )
    if label < 0 or (ids is not None and label >= len(ids)):
        last = "" if ids is None else len(ids) - 1
        raise ManifestError(f"{row.where}: label {label} is outside 0..{last}; check the list and the class list")
    return label


def _folder_records(path: Path, classes: Sequence[str] | None) -> list[Record]:
    names = folder_classes(path)
    known = list(names if classes is None else classes)
    if unknown := [name for name in names if name not in known]:
        raise ManifestError(f"{path / unknown[0]}: this folder's name is not in the class list; rename or remove it")
    return _not_empty(path, [Record(file, known.index(name)) for name in names for file in video_files(path / name)])


def _ids_and_names(path: Path) -> list[tuple[int, str]]:
    """(line, name) in the order of the ids, which must be 0..K-1."""
    lines: dict[int, tuple[int, str]] = {}
    for number, text in _lines(path):
        cells = next(csv.reader([text], skipinitialspace=True))
        if len(cells) != 2 or not cells[1].strip():
            raise ManifestError(f"{path}:{number}: expected `id,name`, got {text!r}")
        if number == 1 and not _is_integer(cells[0]):
            continue  # the header
        if not _is_integer(cells[0]) or int(cells[0]) in lines:
            raise ManifestError(f"{path}:{number}: expected an id not used before, got {cells[0]!r}")
        lines[int(cells[0])] = number, cells[1].strip()
    if lines and sorted(lines) != list(range(len(lines))):
        raise ManifestError(f"{path}: expected the ids 0..{len(lines) - 1}, got {min(lines)}..{max(lines)}")
    return [lines[key] for key in sorted(lines)]


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()


def _not_empty(path: Path, items: list, kind: str = "video") -> list:
    if not items:
        raise ManifestError(f"{path}: it lists no {kind}")
    return items

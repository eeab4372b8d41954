"""The files in which datasets publish their splits, read as they are: one function per layout, `Plan` out.

Every label is bound by the name of its class, never by the number alone; numbers are checked against the names. Whether
the videos exist is not looked at here. Every error is one ManifestError line that names the file and the line.

| layout | files in the folder `splits` |
|---|---|
| ucf101 | `classInd.txt` (`1 ApplyEyeMakeup`), `trainlist01.txt` (`Class/video.avi 1`), `testlist01.txt` (no number) |
| hmdb51 | `brush_hair_test_split1.txt` for every class and split (`video.avi 1`; 1 training, 2 test, 0 unused) |
| kinetics | `train.csv`, `val.csv` or `validate.csv`, `test.csv` (`label,youtube_id,time_start,time_end,split`) |
| ssv2 | `something-something-v2-labels.json`, `-train.json`, `-validation.json`, or without the prefix |
| lists | as Text4Vis and MoTE ship them: .txt with `path num_frames label` or `path label`, one .csv with `id,name` |
"""

import csv
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from mote.datasets.lists.manifest import ManifestError, read_class_names
from mote.datasets.lists.overlap import letters

Kind = TypeVar("Kind", dict, list)
Classes = Sequence[tuple[str, str]]  # (id, name) by label
THREE_SPLITS = [f"{role}{n}" for n in (1, 2, 3) for role in ("train", "test")]


class Entry(NamedTuple):
    """One video of a split: the line that names it, its path below the videos' folder as published, its label."""

    where: str
    path: str
    label: int


class Plan(NamedTuple):
    """What split files say: classes by label, the videos of every list, and remarks for the user."""

    classes: Classes
    lists: dict[str, list[Entry]]
    notes: list[str]


def ucf101(splits: Path, classes: Classes | None = None, only: Collection[str] | None = None) -> Plan:
    """train1..3 and test1..3 of `ucfTrainTestlist`, and `all`, their union."""
    wanted = _chosen([*THREE_SPLITS, "all"], only)
    names = [name for name in THREE_SPLITS if "all" in wanted or name in wanted]
    files = {name: splits / f"{name[:-1]}list0{name[-1]}.txt" for name in names}
    require(splits, [splits / "classInd.txt", *files.values()])
    folders = []
    for number, (where, text) in enumerate(read_lines(splits / "classInd.txt"), 1):
        if text.split(maxsplit=1)[:1] != [str(number)] or len(text.split()) != 2:
            raise ManifestError(f"{where}: expected `{number} ClassName` (numbers count from 1), got {text!r}")
        folders.append(text.split()[1])
    bound = _bound(folders, classes, splits / "classInd.txt")
    lists = {name: [_ucf_entry(*line, folders, "train" in name) for line in read_lines(files[name])] for name in files}
    every = {entry.path: entry for entries in lists.values() for entry in entries}
    lists["all"] = sorted(every.values(), key=lambda entry: (entry.label, entry.path))
    return Plan(bound, {name: lists[name] for name in wanted}, [])


def _ucf_entry(where: str, text: str, folders: list[str], training: bool) -> Entry:
    path, number = text.rsplit(maxsplit=1) if re.search(r"\s\d+$", text) else (text, "")
    folder = path.partition("/")[0]
    if folder == path or (training and not number):
        raise ManifestError(f"{where}: expected `Class/video.avi{' number' if training else ''}`, got {text!r}")
    if folder not in folders:
        raise ManifestError(f"{where}: class {folder!r} is not in classInd.txt")
    label = folders.index(folder)
    if number and int(number) != label + 1:
        raise ManifestError(
            f"{where}: label {number}, but classInd.txt gives {folder} the number {label + 1} (they count from 1)"
        )
    return Entry(where, path, label)


def hmdb51(splits: Path, classes: Classes | None = None, only: Collection[str] | None = None) -> Plan:
    """train1..3 and test1..3 of `testTrainMulti_7030_splits`, and `all`: every clip, used in a split or not."""
    wanted = _chosen([*THREE_SPLITS, "all"], only)
    numbers = [n for n in "123" if "all" in wanted or {f"train{n}", f"test{n}"} & {*wanted}]
    there = {m[1] for file in splits.glob("*.txt") if (m := re.fullmatch(r"(.+)_test_split[123]\.txt", file.name))}
    if not there:
        raise ManifestError(f"{splits}: it holds no CLASS_test_split1.txt; give the folder testTrainMulti_7030_splits")
    order = sorted(there, key=str.casefold)
    if classes is not None:  # so that a class without any file is missed by its file names
        folders = [identifier if identifier in there else name.replace(" ", "_") for identifier, name in classes]
        order = [*folders, *(folder for folder in order if folder not in folders)]
    require(splits, [splits / f"{folder}_test_split{n}.txt" for folder in order for n in numbers])
    bound = _bound(order, classes, splits)
    lists: dict[str, list[Entry]] = {name: [] for name in (*THREE_SPLITS, "all")}
    for label, folder in enumerate(order):
        clips: dict[str, Entry] = {}
        for n in numbers:
            for role, entry in _hmdb_entries(splits / f"{folder}_test_split{n}.txt", folder, label):
                clips.setdefault(entry.path, entry)
                if role:
                    lists[f"{role}{n}"].append(entry)
        lists["all"] += sorted(clips.values(), key=lambda entry: entry.path)
    return Plan(bound, {name: lists[name] for name in wanted}, [])


def _hmdb_entries(file: Path, folder: str, label: int) -> list[tuple[str, Entry]]:
    """(train, test or nothing, clip) for every line of one file."""
    roles, entries = {"0": "", "1": "train", "2": "test"}, []
    for where, text in read_lines(file):
        name, mark = text.rsplit(maxsplit=1) if len(text.split()) > 1 else ("", "")
        if mark not in roles:
            raise ManifestError(f"{where}: expected `video.avi 0|1|2`, got {text!r}")
        entries.append((roles[mark], Entry(where, f"{folder}/{name}", label)))
    if not {"train", "test"} <= (found := {role for role, _ in entries}):
        lost = " and ".join({"train", "test"} - found)
        raise ManifestError(f"{file}: no {lost} video; expected the marks 1 (training), 2 (test) and 0 (unused)")
    return entries


def kinetics(splits: Path, classes: Classes | None, only: Collection[str] | None, num_classes: int) -> Plan:
    """train, val and test of the official .csv files; without `classes`, all labels in alphabetical order."""
    wanted = _chosen(["train", "val", "test"], only)
    files = {name: splits / f"{name}.csv" for name in wanted}
    if "val" in files and not files["val"].exists() and (splits / "validate.csv").exists():
        files["val"] = splits / "validate.csv"
    if only is None and not files["test"].exists():  # often left unpublished
        del files["test"]
    require(splits, files.values())
    tables = {name: _kinetics_rows(file, name) for name, file in files.items()}
    notes = [f"{files[name]} has no column of labels and was left out" for name, rows in tables.items() if not rows]
    order = sorted({label for rows in tables.values() for _, label, _ in rows}, key=lambda label: label.casefold())
    if not order:
        raise ManifestError(f"{splits}: {listed(notes)}")
    if classes is None and len(order) != num_classes:
        raise ManifestError(
            f"{splits}: expected {num_classes} labels, got {len(order)}; for a subset give a class list"
        )
    if classes is not None:
        place = {letters(name): label for label, (_, name) in enumerate(classes)}
        order.sort(key=lambda label: place.get(letters(label), len(place)))
    bound = _bound(order, classes, splits)
    ids = {label: number for number, label in enumerate(order)}
    lists = {
        name: [Entry(where, f"{label}/{clip}.mp4", ids[label]) for where, label, clip in rows]
        for name, rows in tables.items()
        if rows
    }
    return Plan(bound, lists, notes)


def _kinetics_rows(file: Path, name: str) -> list[tuple[str, str, str]]:
    """(where, label, file name without suffix); none if the file has no column of labels."""
    (first, text), *lines = read_lines(file)
    header = [cell.strip() for cell in text.split(",")]
    if not {"youtube_id", "time_start", "time_end"} <= {*header}:
        raise ManifestError(f"{first}: expected the header label,youtube_id,time_start,time_end,split, got {text!r}")
    if twice := [column for column in header if header.count(column) > 1]:
        raise ManifestError(f"{first}: two columns {twice[0]!r}; keep one")
    rows = []
    for where, text in lines if "label" in header else []:
        try:
            cells = [cell.strip() for cell in next(csv.reader([text], skipinitialspace=True))]
        except csv.Error as error:
            raise ManifestError(f"{where}: not a line of a .csv file: {error}") from error
        row = dict(zip(header, cells, strict=False))
        times = [row.get(key, "").removesuffix(".0") for key in ("time_start", "time_end")]
        if len(cells) != len(header) or not (row["label"] and row["youtube_id"] and all(map(str.isdigit, times))):
            raise ManifestError(f"{where}: expected {','.join(header)}, got {text!r}")
        if not row.get("split", name).lower().startswith(name):  # val may be spelled validate
            raise ManifestError(f"{where}: split {row['split']!r} among the videos of {name}")
        rows.append((where, row["label"], f"{row['youtube_id']}_{int(times[0]):06d}_{int(times[1]):06d}"))
    return rows


def ssv2(splits: Path, classes: Classes | None = None, only: Collection[str] | None = None) -> Plan:
    """train and validation of Something-Something V2; a template without its brackets is the name of its class."""
    wanted = _chosen(["train", "validation"], only)
    files = {}
    for part in ("labels", *wanted):
        long, short = splits / f"something-something-v2-{part}.json", splits / f"{part}.json"
        files[part] = short if short.exists() and not long.exists() else long
    require(splits, files.values())
    ids = _read_json(files["labels"], dict)
    if sorted(map(str, ids.values())) != sorted(map(str, range(len(ids)))):
        raise ManifestError(f"{files['labels']}: expected the labels 0..{len(ids) - 1}, each once; they count from 0")
    names = sorted(ids, key=lambda name: int(ids[name]))
    bound = _bound(names, classes, files["labels"])
    lists: dict[str, list[Entry]] = {}
    for part in wanted:
        lists[part] = []
        for number, item in enumerate(_read_json(files[part], list), 1):
            where = f"{files[part]}: entry {number}"
            if not isinstance(item, dict) or not item.get("id") or not isinstance(item.get("template"), str):
                raise ManifestError(f"{where}: expected an id and a template, got {json.dumps(item)[:80]}")
            name = item["template"].replace("[", "").replace("]", "")
            if name not in ids:
                raise ManifestError(f"{where}: template {name!r} is not in {files['labels'].name}")
            lists[part].append(Entry(where, f"{item['id']}.webm", int(ids[name])))
    return Plan(bound, lists, [])


def author_lists(splits: Path, classes: Classes | None = None, only: Collection[str] | None = None) -> Plan:
    """All .txt lists of a folder, or one list; frame counts are dropped. Names: `classes` or the folder's one .csv."""
    files = {file.stem: file for file in ([splits] if splits.is_file() else sorted(splits.glob("*.txt")))}
    tables = sorted((splits.parent if splits.is_file() else splits).glob("*.csv"))
    if not files:
        raise ManifestError(f"{splits}: it holds no .txt list")
    if len(tables) == 1:
        bound = _bound(read_class_names(tables[0]), classes, tables[0])
    elif classes is None:
        raise ManifestError(f"{splits}: expected one .csv of class names, got {len(tables)}; give the class list")
    else:
        bound = classes
    return Plan(bound, {name: list(_list_entries(files[name], bound)) for name in _chosen(list(files), only)}, [])


def _list_entries(file: Path, classes: Classes) -> Iterator[Entry]:
    lines = read_lines(file)
    counted = all(re.fullmatch(r".+\s\d+\s\d+", text) for _, text in lines)
    form = "path num_frames label" if counted else "path label"
    for where, text in lines:
        cells = text.rsplit(maxsplit=2 if counted else 1)
        if len(cells) != len(form.split()) or not cells[-1].isdigit():
            raise ManifestError(f"{where}: expected `{form}`, got {text!r}")
        if not counted and re.search(r"\s\d+$", cells[0]):
            raise ManifestError(f"{where}: expected `{form}` as in the other lines, got {text!r}")
        label = int(cells[-1])
        if label >= len(classes):
            raise ManifestError(f"{where}: label {label} is outside 0..{len(classes) - 1}; labels count from 0")
        yield Entry(where, cells[0], label)


def read_lines(path: Path) -> list[tuple[str, str]]:
    """(file:line, stripped text) of every line; blank lines may only end the file, and there must be others."""
    try:
        texts = [text.strip() for text in path.read_text(encoding="utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a text file in UTF-8 ({error.reason}); convert it") from error
    while texts and not texts[-1]:
        texts.pop()
    if "" in texts or not texts:
        raise ManifestError(f"{path}:{texts.index('') + 1 if texts else 1}: blank line")
    return [(f"{path}:{number}", text) for number, text in enumerate(texts, 1)]


def listed(items: Iterable[object], limit: int = 10) -> str:
    """`a, b, c and 7 more`."""
    items = [str(item) for item in items]
    return ", ".join(items[:limit]) + (f" and {len(items) - limit} more" if len(items) > limit else "")


def _read_json(path: Path, kind: type[Kind]) -> Kind:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(data, kind) or not data:
        raise ManifestError(f"{path}: expected a {kind.__name__} that is not empty, got {type(data).__name__}")
    return data


def _chosen(possible: Sequence[str], only: Collection[str] | None) -> list[str]:
    if only is not None and (unknown := [name for name in only if name not in possible]):
        raise ManifestError(f"there is no list {listed(unknown)}; choose from {', '.join(possible)}")
    return [name for name in possible if only is None or name in only]


def require(folder: Path, files: Iterable[Path]) -> None:
    """All of `files`, or an error that names every one that is missing."""
    if missing := [str(file.relative_to(folder)) for file in files if not file.is_file()]:
        raise ManifestError(f"{folder}: missing split files: {', '.join(missing)}")


def _bound(keys: Sequence[str], classes: Classes | None, where: Path) -> Classes:
    """`classes`, checked against the classes `keys` of the split files and their order; (key, key) where None."""
    if classes is None:
        return [(key, key) for key in keys]
    theirs, ours = [letters(key) for key in keys], [letters(name) for _, name in classes]
    if lost := [name for (_, name), own in zip(classes, ours, strict=True) if own not in theirs]:
        raise ManifestError(f"{where}: classes of the class list that it lacks: {listed(lost)}")
    if unknown := [key for key, own in zip(keys, theirs, strict=True) if own not in ours]:
        raise ManifestError(f"{where}: classes that are not in the class list: {listed(unknown)}")
    if len(keys) != len(classes):
        raise ManifestError(
            f"{where}: {len(keys)} classes, {len(classes)} in the class list: one is spelled in two ways"
        )
    for label, (key, (_, name)) in enumerate(zip(keys, classes, strict=True)):
        if letters(key) != letters(name):
            raise ManifestError(f"{where}: class {label} is {key!r}, but {name!r} in the class list: the order differs")
    return classes

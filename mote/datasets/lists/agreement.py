"""Do a list, its class names, the folders of its videos and the other lists agree? Mistakes that shift every label.

A label is a number: a class list in another order, or labels counted from 1, go unnoticed until the accuracy is that of
chance. Two things give them away: the folders of the videos, which most datasets name after their classes, and another
class list of the same dataset.
"""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from mote.datasets.decoding.tar_shards import part_of
from mote.datasets.lists.manifest import ManifestError, Record
from mote.datasets.lists.overlap import train_test_duplicates
from mote.datasets.prepare.expressions import own_name
from mote.datasets.prepare.official import listed
from mote.files.names import letters, shown

MAX_READ = 50_000  # videos in two lists together whose contents are compared; more are compared by path


def check_folders(path: Path | str, records: Sequence[Record], names: Sequence[str], ids: Sequence[str] | None) -> int:
    """Number of files of the list `path` in folders that bear the name of their class.

    Of a file the folder counts that it lies in, else the next above it that is named after a class and does not hold
    all files of the list. Folders that are named after no class say nothing. Names are compared without case, spaces,
    underscores and hyphens, expressions in any of their spellings.

    Args:
        path: the list, for messages.
        records: its files.
        names: class names by label.
        ids: the classes' other names, see `read_manifest`.

    Raises:
        ManifestError: a file in a folder that bears the name of another class.
    """
    classes: dict[str, set[int]] = defaultdict(set)
    for given in (names, ids or ()):
        for label, name in enumerate(given):
            classes[letters(own_name(name))].add(label)
    parents = [record.path.parent for record in records]
    folders = {*parents}
    levels = zip(*(folder.parts for folder in folders), strict=False)
    shared = len([*takewhile(lambda level: len({*level}) == 1, levels)])
    known = {folder: _told_by(folder, shared, classes) for folder in folders}
    telling = [(record, labels) for record, folder in zip(records, parents, strict=True) if (labels := known[folder])]
    wrong = [(record, labels) for record, labels in telling if record.label not in labels]
    if wrong:
        first, right = wrong[0][0], min(wrong[0][1])
        raise ManifestError(
            f"{path}: {first.path} has label {first.label} ({names[first.label]}) but lies in the folder of class"
            f" {right} ({names[right]}); so do {len(wrong)} of {len(telling)} files in folders named after a class:"
            " check the order of the class list, and that labels count from 0"
        )
    return len(telling)


def _told_by(folder: Path, shared: int, classes: Mapping[str, set[int]]) -> set[int]:
    """Labels of the class that a folder is named after, or one above it that is none of the first `shared` ones."""
    parts = folder.parts
    for place in range(len(parts) - 1, -1, -1):
        if (place == len(parts) - 1 or place >= shared) and (found := classes.get(letters(own_name(parts[place])))):
            return found
    return set()


def check_same_folders(
    ours: Sequence[Record], theirs: Sequence[Record], our_file: Path | str, their_file: Path | str
) -> None:
    """Raise ManifestError when two lists of numbers without class names give folders of one name different labels.

    Folders count where they stand for classes: in each list one label for every folder, another for every other.
    """
    one, other = _labels_of_folders(ours), _labels_of_folders(theirs)
    for folder in sorted({*one} & {*other}):
        if one[folder] != other[folder]:
            raise ManifestError(
                f"{our_file}: folder {folder} has label {one[folder]}, but {other[folder]} in {their_file}; number the"
                " classes alike, or give a class list"
            )


def _labels_of_folders(records: Sequence[Record]) -> dict[str, int]:
    """Label by folder name, where each folder has one label and no two folders share one; else nothing."""
    labels: dict[str, set[int]] = defaultdict(set)
    for record in records:
        labels[record.path.parent.name].add(record.label)
    single = {folder: min(found) for folder, found in labels.items() if len(found) == 1}
    return single if len({*single.values()}) == len(labels) > 1 else {}


def check_order(
    ours: Sequence[str], theirs: Sequence[str], our_file: Path | str, their_file: Path | str, ids: Sequence[str] = ()
) -> None:
    """Raise ManifestError when two class lists of one dataset are not the same classes in the same order.

    ids: other names of `theirs`, which will do as well.
    """
    for label, name in enumerate(ours[: len(theirs)]):
        if letters(name) in {letters(same) for same in (theirs[label], *ids[label : label + 1])}:
            continue
        same = sorted(map(letters, ours)) == sorted(map(letters, theirs))
        what = "the same classes in another order" if same else "other classes"
        raise ManifestError(
            f"{our_file}: {what} than {their_file}: class {label} is {shown(name)}, there it is {shown(theirs[label])};"
            " labels would mean something else, make the lists anew"
        )
    if len(ours) != len(theirs):
        raise ManifestError(f"{our_file}: {len(ours)} classes, but {their_file} has {len(theirs)}")


def check_files(path: Path | str, records: Sequence[Record], option: str, *, some: bool = False) -> None:
    """Raise ManifestError where files of the list `path` are missing; their folders are read once each.

    Args:
        path: the list, for messages.
        records: its files; for those in archives the archives count.
        option: what says where relative paths start, for messages.
        some: files may be missing, but not all of them.
    """
    parts = [part_of(record.path) for record in records]
    files = [record.path if part is None else Path(part.archive) for record, part in zip(records, parts, strict=True)]
    there: dict[Path, set[str]] = {folder: _names_in(folder) for folder in {file.parent for file in files}}
    missing = [file for file in files if file.name not in there[file.parent] and not file.exists()]
    if missing and (len(missing) == len(files) or not some):
        raise ManifestError(
            f"{path}: {len(missing)} of {len(files)} files are missing, the first is {missing[0]}; say with {option}"
            " where relative paths start, or take them off the list"
        )


def _names_in(folder: Path) -> set[str]:
    """What lies in a folder, links that lead nowhere left out; nothing where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_symlink() or os.path.exists(entry.path)}
    except OSError:
        return set()


def repeated(records: Sequence[Record]) -> list[Path]:
    """Paths that stand in a list more than once, in its order."""
    seen: dict[str, int] = defaultdict(int)
    for record in records:
        seen[os.path.abspath(record.path)] += 1
    return list(dict.fromkeys(record.path for record in records if seen[os.path.abspath(record.path)] > 1))


def shared_paths(one: Sequence[Record], other: Sequence[Record]) -> list[Path]:
    """Paths of `other` that are also in `one`."""
    there = {os.path.abspath(record.path) for record in one}
    return [record.path for record in other if os.path.abspath(record.path) in there]


def shared_videos(one: Sequence[Record], other: Sequence[Record]) -> list[tuple[Path, Path]]:
    """(path in `one`, path in `other`) of videos in both: the same path, or the same content.

    Contents are compared up to MAX_READ videos, and of those only files of equal size are read.
    """
    if len(one) + len(other) <= MAX_READ:
        return train_test_duplicates(one, other)
    return [(path, path) for path in shared_paths(one, other)]


def training_list(path: Path) -> Path | None:
    """The list beside a test list that holds the training videos of the same split: test2.txt -> train2.txt."""
    name = re.sub(r"^(?:test|val(?:idation)?)(?=\d*$)", "train", path.stem)
    other = path.with_name(name + path.suffix)
    return other if name != path.stem and other.is_file() else None


def in_words(pairs: Sequence[tuple[Path, Path]]) -> str:
    """Pairs of `shared_videos` for a message: `a (as b), c and 7 more`."""
    return listed((b if a == b else f"{b} (as {a})" for a, b in pairs), 3)

"""Do a list, its class names, the folders of its videos and the other lists agree? Mistakes that shift every label.

A label is a number: a class list in another order, or labels counted from 1, go unnoticed until the accuracy is that of
chance. Two things give them away: the folders of the videos, which most datasets name after their classes, and another
class list of the same dataset.
"""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from mote.datasets.lists.manifest import ManifestError, Record
from mote.datasets.lists.overlap import letters, train_test_duplicates
from mote.datasets.prepare.official import listed

MAX_READ = 50_000  # videos in two lists together whose contents are compared; more are compared by path


def check_folders(path: Path | str, records: Sequence[Record], names: Sequence[str], ids: Sequence[str] | None) -> None:
    """Raise ManifestError when a file of the list `path` lies in a folder that bears the name of another class.

    names, ids: the classes by label, see `read_manifest`. Folders that are named after no class say nothing. Names are
    compared without case, spaces, underscores and hyphens.
    """
    classes: dict[str, set[int]] = defaultdict(set)
    for given in (names, ids or ()):
        for label, name in enumerate(given):
            classes[letters(name)].add(label)
    known = {folder: classes.get(letters(folder)) for folder in {record.path.parent.name for record in records}}
    telling = [record for record in records if known[record.path.parent.name]]
    wrong = [record for record in telling if record.label not in (known[record.path.parent.name] or ())]
    if wrong:
        first = wrong[0]
        right = min(known[first.path.parent.name] or ())
        raise ManifestError(
            f"{path}: {first.path} has label {first.label} ({names[first.label]}) but lies in the folder of class"
            f" {right} ({names[right]}); so do {len(wrong)} of {len(telling)} files in folders named after a class:"
            " check the order of the class list, and that labels count from 0"
        )


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
            f"{our_file}: {what} than {their_file}: class {label} is {name!r}, there it is {theirs[label]!r};"
            " labels would mean something else, make the lists anew"
        )
    if len(ours) != len(theirs):
        raise ManifestError(f"{our_file}: {len(ours)} classes, but {their_file} has {len(theirs)}")


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

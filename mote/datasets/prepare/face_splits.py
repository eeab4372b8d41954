"""Files of equal content, and the validation part of a dataset that has none."""

import hashlib
from collections import defaultdict
from pathlib import Path

from tqdm import tqdm

from mote.datasets.lists.folders import IMAGE_SUFFIXES, search
from mote.datasets.lists.subsets import Clip, split
from mote.datasets.prepare.expressions import Face
from mote.datasets.prepare.report import Duplicates
from mote.datasets.prepare.videos import role

Lists = dict[str, list[Face]]


def contents(root: Path, lists: Lists) -> dict[str, str]:
    """What tells the content of each file, or folder of frames, from that of others: equal where they are equal.

    By path below `root`. Only what is equal in size is read.
    """
    sizes: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for path in sorted({face.path for faces in lists.values() for face in faces}):
        sizes[tuple(file.stat().st_size for file in _parts(root / path))].append(path)
    content = {}
    for same in tqdm(sizes.values(), desc="looking for identical files", unit="size", disable=None):
        content |= {path: _digest(root / path) if len(same) > 1 else path for path in same}
    return content


def frames(folder: Path) -> list[Path]:
    """The images of a folder that is a clip, in order."""
    return search(folder, IMAGE_SUFFIXES).files


def _parts(path: Path) -> list[Path]:
    return frames(path) if path.is_dir() else [path]


def _digest(path: Path) -> str:
    whole = hashlib.sha256()
    for part in _parts(path):
        with part.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def with_validation(lists: Lists, content: dict[str, str], fraction: float, seed: int) -> Lists:
    """The lists in the order train, val, test of each fold; without a val list, `fraction` of each class of train.

    Faces of equal `content` stay together. fraction 0: no list is added.
    """
    whole: Lists = {}
    for name in sorted(lists, key=lambda name: int(role(name)[1] or 0)):
        part, fold = role(name)
        if part != "train":
            continue
        faces, val = lists[name], f"val{fold}"
        if val in lists:
            whole |= {name: faces, val: lists[val]}
        elif fraction:
            first = {content[face.path]: face for face in reversed(faces)}  # one face for all of equal content
            held = {clip.path for clip in split([Clip(f.path, f.name) for f in first.values()], fraction, seed)[1]}
            sides = [first[content[face.path]].path in held for face in faces]
            whole[name] = [face for face, out in zip(faces, sides, strict=True) if not out]
            whole[val] = [face for face, out in zip(faces, sides, strict=True) if out]
        else:
            whole[name] = faces
        if (test := f"test{fold}") in lists:
            whole[test] = lists[test]
    return whole


def duplicates(lists: Lists, content: dict[str, str]) -> list[Duplicates]:
    """For two lists of one fold: how many files of the second have the content of one of the first, with examples."""
    rows: list[Duplicates] = []
    names = list(lists)
    for i, name in enumerate(names):
        first = {content[face.path]: face.path for face in lists[name]}
        for other in names[i + 1 :]:
            if role(other)[1] != role(name)[1]:
                continue
            pairs = [(first[key], face.path) for face in lists[other] if (key := content[face.path]) in first]
            if pairs:
                rows.append({"of": other, "and": name, "files": len(pairs), "examples": pairs[:10]})
    return rows

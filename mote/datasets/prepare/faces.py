"""Facial expression datasets as they are published, read to names: one function per layout of images, `FacePlan` out.

Labels are names, see `expressions`; the tables give the order of the dataset's numbers. Whether the images exist is not
looked at here. Every error is one ManifestError line that names the file and the line.

| layout | in the folder of labels | order of the numbers |
|---|---|---|
| rafdb | `list_patition_label.txt` (`train_00001.jpg 5`), or `train/5/*.jpg`, `test/...` | 1 surprise ... 7 neutral |
| fer2013, ferplus | see `fer2013` | |
| affectnet | `training.csv` and `validation.csv`; or `train_set`, `val_set`: `annotations/12_exp.npy` | 0 neutral ... |
| ckplus | `S005/001/S005_001_00000011_emotion.txt` (`3.0000000e+00`) | 1 anger ... 7 surprise |
| folders | `train/fear/*.png`, `test/...`; or `fear/*.png` | names |
| csv | one file, columns path, label and, optionally, split | names |

For clips see `face_clips`; what is made of a plan, `prepare_faces`.
"""

import re
from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path

from mote.datasets.lists.folders import IMAGE_SUFFIXES, say_left_out, search
from mote.datasets.lists.manifest import ManifestError, folder_classes, read_rows
from mote.datasets.prepare.expressions import Face, FacePlan, expression, numbered, own_name, table_rows
from mote.datasets.prepare.official import listed, read_lines, require

RAF_DB = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")  # 1..7
AFFECTNET = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")  # 0..7
NOT_EXPRESSIONS = ("none", "uncertain", "no face")  # 8..10 of AffectNet
CK_PLUS = ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")  # 1..7; 0 is neutral
CK_FOLDS = 10


def rafdb(labels: Path) -> FacePlan:
    """RAF-DB, basic expressions: the official list, or the copies sorted into `train/1` to `test/7`."""
    places = [labels, labels / "EmoLabel", labels / "basic" / "EmoLabel"]
    file = next((f for place in places if (f := place / "list_patition_label.txt").is_file()), None)
    lists: dict[str, list[Face]] = {"train": [], "test": []}
    if file is None:
        if not (labels / "train").is_dir():
            raise ManifestError(f"{labels}: it holds neither list_patition_label.txt nor train/1 to train/7")
        for name in lists:
            for folder in folder_classes(labels / name):
                expressed = numbered(f"{labels / name / folder}", folder, RAF_DB, 1)
                lists[name] += [Face(*_of(labels, image), expressed) for image in _images(labels / name / folder)]
        return FacePlan(RAF_DB, lists, [])
    for where, text in read_lines(file):
        if not (found := re.fullmatch(r"((train|test)_\S+\.\w+)\s+(\S+)", text)):
            raise ManifestError(f"{where}: expected `train_00001.jpg 5`, got {text!r}")
        lists[found[2]].append(Face(where, found[1], numbered(where, found[3], RAF_DB, 1)))
    return FacePlan(RAF_DB, lists, [])


def affectnet(labels: Path) -> FacePlan:
    """AffectNet, either release; its validation part, the only one with labels, is `test` here."""
    older = {"train": labels / "training.csv", "test": labels / "validation.csv"}
    newer = {"train": labels / "train_set", "test": labels / "val_set"}
    if any(folder.is_dir() for folder in newer.values()):
        if absent := [f"{f.name}/annotations" for f in newer.values() if not (f / "annotations").is_dir()]:
            raise ManifestError(f"{labels}: missing folders: {', '.join(absent)}")
        numbers = {name: _annotations(folder) for name, folder in newer.items()}
    else:
        require(labels, older.values())
        numbers = {name: _annotation_rows(file) for name, file in older.items()}
    possible, notes = (*AFFECTNET, *NOT_EXPRESSIONS), []
    lists: dict[str, list[Face]] = {}
    for name, rows in numbers.items():
        faces = [Face(where, path, numbered(where, number, possible, 0)) for where, path, number in rows]
        count = Counter(face.name for face in faces)
        if "neutral" not in count and count["contempt"] + count["none"]:
            raise ManifestError(
                f"{labels}: {name} has no label 0 (neutral); its labels count from 1, AffectNet's from 0"
            )
        lists[name] = [face for face in faces if face.name in AFFECTNET]
        left_out = [f"{count[one]} {one}" for one in NOT_EXPRESSIONS if count[one]]
        notes += [f"{name}: left out {', '.join(left_out)}"] if left_out else []
    return FacePlan(AFFECTNET, lists, notes)


def _annotations(folder: Path) -> list[tuple[str, str, str]]:
    """(where, path, number) of every image of one part of the newer release."""
    files = sorted((folder / "annotations").glob("*_exp.npy"))
    if not files:
        raise ManifestError(f"{folder / 'annotations'}: it holds no 12_exp.npy")
    import numpy as np  # here, so that the names of the layouts cost nothing

    rows = []
    for file in files:
        try:
            number = str(int(np.load(file, allow_pickle=False)))  # stored as a string or a number
        except (ValueError, TypeError, EOFError) as error:
            raise ManifestError(f"{file}: expected one number in an .npy file") from error
        rows.append((str(file), f"{folder.name}/images/{file.name.removesuffix('_exp.npy')}.jpg", number))
    return rows


def _annotation_rows(file: Path) -> list[tuple[str, str, str]]:
    """(where, path, number) of every row of the older release; the header may be missing."""
    columns = ["subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks"]
    columns += ["expression", "valence", "arousal"]
    rows = table_rows(file, ("subDirectory_filePath", "expression"), without_header=columns)
    return [(where, row["subDirectory_filePath"], row["expression"]) for where, row in rows]


def ckplus(labels: Path) -> FacePlan:
    """CK+: the last three frames of every labelled sequence, in ten folds of subjects that share none.

    Subjects in order go to the folds in turn; in fold k the next one's subjects validate.
    """
    places = [labels, labels / "Emotion", labels / "Emotion_labels" / "Emotion"]
    files = next((found for place in places if (found := sorted(place.glob("S*/*/*_emotion.txt")))), [])
    if not files:
        raise ManifestError(f"{labels}: it holds no S005/001/S005_001_00000011_emotion.txt")
    subjects: dict[str, list[Face]] = {}
    for file in files:
        found = re.fullmatch(r"((S\d+)_(\d+))_(\d+)_emotion", file.stem)
        (where, text), *more = read_lines(file)
        if not found or more or not re.fullmatch(r"\d(\.0*)?(e\+0+)?", text):
            raise ManifestError(f"{where}: expected one label such as 3.0000000e+00, got {text!r}")
        name, peak = numbered(where, text[0], CK_PLUS, 1), int(found[4])
        frames = [f"{found[2]}/{found[3]}/{found[1]}_{n:08d}.png" for n in range(max(1, peak - 2), peak + 1)]
        subjects.setdefault(found[2], []).extend(Face(where, frame, name) for frame in frames)
    if len(subjects) < CK_FOLDS:
        raise ManifestError(f"{labels}: {len(subjects)} subjects; {CK_FOLDS} folds need at least {CK_FOLDS}")
    folds = [[face for one in sorted(subjects)[k::CK_FOLDS] for face in subjects[one]] for k in range(CK_FOLDS)]
    lists: dict[str, list[Face]] = {}
    for k in range(CK_FOLDS):
        held = k, (k + 1) % CK_FOLDS
        lists[f"train{k + 1}"] = [face for n, fold in enumerate(folds) if n not in held for face in fold]
        lists[f"val{k + 1}"], lists[f"test{k + 1}"] = folds[held[1]], folds[held[0]]
    return FacePlan(CK_PLUS, lists, ["the last three frames of each sequence; neutral, its first frame, is left out"])


def folders(labels: Path, classes: Sequence[str] | None = None, suffixes: Set[str] = IMAGE_SUFFIXES) -> FacePlan:
    """A folder per class below `train`, `test` and `val` (or `valid`), or below `labels` itself: all training."""
    parts = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
    found = {name: labels / part for part, name in parts.items() if (labels / part).is_dir()}
    if found and "train" not in found:
        raise ManifestError(f"{labels}: missing folders: train")
    lists: dict[str, list[Face]] = {}
    for name, place in (found or {"train": labels}).items():
        lists[name] = []
        for folder in folder_classes(place):
            if folder.isdigit():
                raise ManifestError(f"{place / folder}: the folder is a number; rename it to the name of its class")
            expressed = expression(str(place / folder), folder, classes) if classes else own_name(folder)
            lists[name] += [Face(*_of(labels, file), expressed) for file in _images(place / folder, suffixes)]
    return FacePlan(classes or _names(lists), lists, [])


def table(labels: Path, classes: Sequence[str] | None = None) -> FacePlan:
    """One .csv file: columns path, label (a name) and, optionally, split: train, val or test; without it, training."""
    lists: dict[str, list[Face]] = {}
    for row in read_rows(labels):
        if row.split not in (None, "train", "val", "test"):
            raise ManifestError(f"{row.where}: split {row.split!r}; expected train, val or test")
        if row.label.isdigit():
            raise ManifestError(f"{row.where}: label {row.label!r} is a number; give the name of the class")
        name = expression(row.where, row.label, classes) if classes else own_name(row.label)
        lists.setdefault(row.split or "train", []).append(Face(row.where, row.path, name))
    if "train" not in lists:
        raise ManifestError(f"{labels}: no row has split 'train'")
    return FacePlan(classes or _names(lists), lists, [])


def _names(lists: dict[str, list[Face]]) -> list[str]:
    """Sorted names of the training list; all other lists must do with them."""
    names = sorted({face.name for face in lists["train"]})
    if strange := [face for faces in lists.values() for face in faces if face.name not in names]:
        raise ManifestError(f"{strange[0].where}: class {strange[0].name!r} is not among the training classes")
    return names


def _images(folder: Path, suffixes: Set[str] = IMAGE_SUFFIXES) -> list[Path]:
    files, left_out = search(folder, suffixes)
    say_left_out(folder, left_out, "images" if suffixes == IMAGE_SUFFIXES else "images or videos")
    if not files:
        raise ManifestError(f"{folder}: no file of this class; expected {listed(sorted(suffixes), 4)}")
    return files


def _of(root: Path, file: Path) -> tuple[str, str]:
    """(where, path below `root`) of a file that its folder labels."""
    return str(file), file.relative_to(root).as_posix()

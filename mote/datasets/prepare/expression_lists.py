"""A facial expression dataset as published -> our lists, with a validation part and what is wrong with the data.

What a layout's files look like is in `faces`, `fer2013` and `face_clips`; here images and clips are found on disk, the
whole is checked, and a new folder is written, all or nothing:

- `faces.csv`, or `fold1.csv`, ... where the dataset has folds: `path,label,split`, the label a name, the split train,
  val or test;
- `classes.csv`: `id,name` by label, the order the model is trained with;
- `images/*.png` where the dataset is published as numbers in a table;
- `missing.csv`: `path,label,split` of published files that are not on disk, if any (and if that was allowed);
- `report.json`: what `prepare_faces` returns.

Where the dataset has no validation part one is drawn from training, class by class, so that nothing has to be chosen on
the test part. Images of equal content stay on one side of that draw. Across published parts they are only reported.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from mote.datasets.lists.folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES, search
from mote.datasets.lists.manifest import ManifestError
from mote.datasets.prepare.expressions import SPELLINGS, Face, FacePlan, expression, own_name
from mote.datasets.prepare.face_splits import Lists, contents, duplicates, frames, with_validation
from mote.datasets.prepare.fer2013 import ferplus, png
from mote.datasets.prepare.layouts import FACES
from mote.datasets.prepare.official import listed
from mote.datasets.prepare.report import FacesReport, Missing, refuse_missing, statistics
from mote.datasets.prepare.videos import refuse_duplicates, role
from mote.files.names import letters
from mote.files.writing import csv_text, refuse_filled, write_folder


class FaceOptions(NamedTuple):
    """What to make of an expression dataset.

    Attributes:
        classes: order of the class names; all that the dataset has, in any spelling of `expressions`; None: its own.
        drop: classes to leave out, such as contempt.
        validation: share of training to validate with where the dataset has no such part; 0: none.
        seed: of that draw.
        votes: rule of FERPlus, see `fer2013`.
    """

    classes: Sequence[str] | None = None
    drop: Collection[str] = ()
    validation: float = 0.1
    seed: int = 0
    votes: str | None = None


DEFAULTS = FaceOptions()


def prepare_faces(
    layout: str,
    *,
    labels: Path | str,
    files: Path | str | None = None,
    out: Path | str,
    missing: Missing = "error",
    options: FaceOptions = DEFAULTS,
) -> FacesReport:
    """Lists of a published dataset of expressions, written into a new folder; the value is the report.

    Args:
        layout: how the dataset is laid out, a key of `layouts.FACES`.
        labels: folder of the label files; of `csv`, the file itself.
        files: folder of the images or clips, by default that of the labels.
        out: new folder.
        missing: a published file that is not on disk is an error, or is left out and listed.
        options: classes, validation part, votes.

    Raises:
        ManifestError: for what is wrong with the dataset, one line.
        FileExistsError: `out` holds something.
        ValueError: for arguments that make no sense.
    """
    labels, out = Path(labels), Path(out)
    _check(layout, labels, files, missing, options)
    refuse_filled(out)
    reader = partial(ferplus, votes=options.votes) if options.votes else FACES[layout]
    plan = _with_classes(reader(labels), labels, options.classes, options.drop)
    root = out if plan.pixels else Path(files or (labels.parent if labels.is_file() else labels))
    found, lost = (
        (plan.lists, {name: [] for name in plan.lists}) if plan.pixels else _located(plan.lists, root, plan.classes)
    )
    refuse_duplicates({name: [face[:2] for face in (*found[name], *lost[name])] for name in plan.lists}, "files")
    absent = sorted({face.path for faces in lost.values() for face in faces})
    if missing == "error":
        here = {face.path for faces in found.values() for face in faces}
        refuse_missing(root, "files", absent, len(here | {*absent}))
    if empty := [name for name, faces in found.items() if not faces]:
        raise ManifestError(f"{root}: no file of {listed(empty)} is there")
    content = contents(root, found) if not plan.pixels else _pixel_contents(plan)
    lists = with_validation(found, content, options.validation, options.seed)
    counts = {
        name: statistics("files", [face.name for face in faces], len(lost.get(name, ())), plan.classes)
        for name, faces in lists.items()
    }
    drawn: dict[str, float] = {"fraction": options.validation, "seed": options.seed}
    report: FacesReport = {
        "layout": layout,
        "videos": os.path.abspath(root),
        "labels": str(labels),
        "classes": list(plan.classes),
        "lists": counts,
        "validation": drawn if len(lists) > len(found) else None,
        "duplicates": duplicates(lists, content),
        "missing": absent,
        "notes": [*plan.notes, *_remarks(root, lists)],
    }
    write_folder(out, _contents_of_folder(lists, lost, plan, report))
    return report


def summary(report: FacesReport) -> str:
    """A report of `prepare_faces` in a few lines."""
    lines = [f"{report['layout']}: {len(report['classes'])} classes: {', '.join(report['classes'])}"]
    for name, one in report["lists"].items():
        counts = [count for count in one["per_class"].values() if count]
        line = f"  {name}: {one.get('files')} files, {min(counts)} to {max(counts)} per class, imbalance"
        line += f" {one['imbalance']:.2f}" + (f", {one['missing']} missing" if one["missing"] else "")
        lines.append(line + (f", none of {listed(one['empty_classes'], 5)}" if one["empty_classes"] else ""))
    lines += [f"  {one['files']} of {one['of']} are also in {one['and']}" for one in report["duplicates"]]
    return "\n".join([*lines, *(f"  {note}" for note in report["notes"])])


def _check(layout: str, labels: Path, files: Path | str | None, missing: str, options: FaceOptions) -> None:
    """Raise ValueError or ManifestError for arguments that cannot be meant."""
    if layout not in FACES or missing not in ("error", "list"):
        raise ValueError(
            f"expected a layout of {', '.join(FACES)}; missing: error or list; got {layout!r}, {missing!r}"
        )
    if not 0 <= options.validation < 1:
        raise ValueError(f"expected a share of validation in [0, 1), got {options.validation}")
    if options.votes and layout != "ferplus":
        raise ValueError(f"votes are a matter of ferplus, not of {layout}")
    if layout == "csv" and not labels.is_file():
        raise ManifestError(f"{labels}: there is no such file; give the .csv list")
    if absent := [place for place in (labels, files and Path(files)) if place and not place.exists()]:
        raise ManifestError(f"{absent[0]}: there is no such folder")
    if layout != "csv" and not labels.is_dir():
        raise ManifestError(f"{labels}: it is a file; give the folder of the label files")


def _with_classes(plan: FacePlan, labels: Path, classes: Sequence[str] | None, drop: Collection[str]) -> FacePlan:
    """The plan without the dropped classes, in the order of `classes`, whose spelling is not kept."""
    dropped = {expression("drop", name, plan.classes) for name in drop}
    kept = [name for name in plan.classes if name not in dropped]
    if classes is not None:
        order = [expression("class list", name, kept) for name in classes]
        if lacking := [name for name in kept if name not in order]:
            raise ManifestError(
                f"{labels}: classes that are not in the class list: {listed(lacking)}; add or drop them"
            )
        if len(order) != len(kept):
            raise ManifestError(f"class list: {len(order)} names for {len(kept)} classes; one is there twice")
        kept = order
    lists = {name: [face for face in faces if face.name in kept] for name, faces in plan.lists.items()}
    return plan._replace(classes=kept, lists=lists)


def _located(lists: Lists, root: Path, classes: Collection[str]) -> tuple[Lists, Lists]:
    """Faces of every list that are on disk, with their paths there, and those that are not."""
    index, found, lost = None, {}, {}
    for name, faces in lists.items():
        found[name], lost[name] = [], []
        for face in faces:
            path = _there(root, face.path)
            if path is None:
                index = _index(root) if index is None else index
                path = _deeper(root, index, _aligned(face.path)) or _deeper(root, index, face.path)
            _check_folder(face, path, classes)
            (found if path else lost)[name].append(face._replace(path=path or face.path))
    return found, lost


def _there(root: Path, path: str) -> str | None:
    """`path` where it is as published, aligned or not, or a clip as a video file or a folder of frames."""
    endings = ("", *sorted(VIDEO_SUFFIXES)) if Path(path).suffix.lower() not in IMAGE_SUFFIXES else ("",)
    stems = [_aligned(path), path, *([path[: -len(Path(path).suffix)]] if Path(path).suffix else [])]
    for one in (stem + ending for stem in stems for ending in endings):
        if (root / one).is_file() or ((root / one).is_dir() and frames(root / one)):
            return one
    return None


def _index(root: Path) -> dict[str, list[str]]:
    """Paths of all images and videos below `root` by file name without suffix."""
    index: dict[str, list[str]] = defaultdict(list)
    for file in search(root, IMAGE_SUFFIXES | VIDEO_SUFFIXES).files:
        index[file.stem].append(file.relative_to(root).as_posix())
    return index


def _deeper(root: Path, index: dict[str, list[str]], path: str) -> str | None:
    """The one file below `root` whose path ends with the published one, whatever its suffix."""
    folder = PurePosixPath(path).parent.parts
    above = {one: PurePosixPath(one).parent.parts for one in index.get(Path(path).stem, ())}
    same = [one for one, parts in above.items() if parts[len(parts) - len(folder) :] == folder]
    if len(same) > 1:
        raise ManifestError(f"{root}: {path} is there more than once: {listed(same)}; give the folder of one")
    return same[0] if same else None


def _aligned(path: str) -> str:
    """RAF-DB lists `train_00001.jpg`; the aligned face is `train_00001_aligned.jpg`."""
    suffix = Path(path).suffix
    return f"{path[: -len(suffix)]}_aligned{suffix}" if suffix.lower() in IMAGE_SUFFIXES else path


def _check_folder(face: Face, path: str | None, classes: Collection[str]) -> None:
    """A file in a folder with the name of an expression, or of a class of the dataset, must be of that class."""
    folder = Path(path or face.path).parent.name
    named = {letters(name) for name in (*SPELLINGS, *classes)}
    if letters(own_name(folder)) in named and letters(own_name(folder)) != letters(face.name):
        raise ManifestError(f"{face.where}: class {face.name}, but {path or face.path} lies in the folder {folder}")


def _pixel_contents(plan: FacePlan) -> dict[str, str]:
    return {path: hashlib.sha256(pixels).hexdigest() for path, pixels in plan.pixels.items()}


def _remarks(root: Path, lists: Lists) -> list[str]:
    notes = []
    parts = {role(name)[0] for name in lists}
    if "val" not in parts:
        notes.append("there is no validation part; nothing must be chosen on the test part")
    if "test" not in parts:
        notes.append("there is no test part")
    folded = {face.path for faces in lists.values() for face in faces if (root / face.path).is_dir()}
    if folded:
        notes.append(f"{len(folded)} clips are folders of frames")
    return notes


def _contents_of_folder(lists: Lists, lost: Lists, plan: FacePlan, report: FacesReport) -> dict[str, str | bytes]:
    texts: dict[str, str | bytes] = {}
    header, rows = ("path", "label", "split"), defaultdict(list)
    for name, faces in lists.items():
        part, fold = role(name)
        rows[f"fold{fold}.csv" if fold else "faces.csv"] += [(face.path, face.name, part) for face in faces]
    for file, those in rows.items():
        texts[file] = csv_text(header, those)
    texts["classes.csv"] = csv_text(("id", "name"), enumerate(plan.classes))
    if report["missing"]:
        texts["missing.csv"] = csv_text(header, _lost_rows(lost))
    for path in tqdm(sorted(plan.pixels), desc="writing images", unit="image", disable=None):
        texts[path] = png(plan.pixels[path])
    texts["report.json"] = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    return texts


def _lost_rows(lost: Lists) -> Iterable[tuple[str, str, str]]:
    return ((face.path, face.name, role(name)[0]) for name, faces in lost.items() for face in faces)

"""Facial expressions in clips: the split files of DFEW, FERV39k and MAFW, read to names. See `faces`.

| layout | in the folder of labels | classes |
|---|---|---|
| dfew | `train(single-labeled)/set_1.csv` to `set_5.csv`, `test(...)/...` (`video_name,label`) | 1 happiness ... |
| ferv39k | `train_All.csv`, `test_All.csv` (`Action/Happy/0267 Happy`) | names |
| mafw | `set_1/train.txt` to `set_5/test.txt` (`02820.mp4 anger`) | names |

A clip is published as a video file or as a folder of its frames; its path here has no suffix where it may be either.
"""

from pathlib import Path, PurePosixPath

from mote.datasets.lists.manifest import ManifestError
from mote.datasets.prepare.expressions import Face, FacePlan, expression, numbered
from mote.datasets.prepare.official import read_lines, require

SEVEN = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")  # DFEW 1..7; FERV39k
MAFW = (*SEVEN, "contempt", "anxiety", "helplessness", "disappointment")
FOLDS = range(1, 6)


def dfew(labels: Path) -> FacePlan:
    """DFEW, single-labelled clips, five folds."""
    labels = labels if not (labels / "EmoLabel_DataSplit").is_dir() else labels / "EmoLabel_DataSplit"
    files = {f"{part}{k}": labels / f"{part}(single-labeled)" / f"set_{k}.csv" for k in FOLDS for part in _PARTS}
    require(labels, files.values())
    lists: dict[str, list[Face]] = {}
    for name, file in files.items():
        (where, header), *lines = read_lines(file)
        if header.replace(" ", "") != "video_name,label":
            raise ManifestError(f"{where}: expected the header video_name,label, got {header!r}")
        lists[name] = []
        for where, text in lines:
            clip, _, number = text.partition(",")
            if not clip.strip().isdigit() or not number.strip():
                raise ManifestError(f"{where}: expected `00001,3`, got {text!r}")
            expressed = numbered(where, number.strip(), SEVEN, 1)
            lists[name].append(Face(where, clip.strip().zfill(5), expressed))
    return FacePlan(SEVEN, lists, [])


def ferv39k(labels: Path) -> FacePlan:
    """FERV39k, all scenes, its one split."""
    files = {part: labels / f"{part}_All.csv" for part in _PARTS}
    require(labels, files.values())
    lists: dict[str, list[Face]] = {}
    for part, file in files.items():
        lists[part] = []
        for where, text in read_lines(file):
            path, name = _pair(where, text, "Action/Happy/0267 Happy")
            expressed = expression(where, name, SEVEN)
            folder = PurePosixPath(path).parent.name
            if expression(where, folder, SEVEN) != expressed:
                raise ManifestError(f"{where}: class {name}, but the clip lies in the folder of {folder}")
            lists[part].append(Face(where, path, expressed))
    return FacePlan(SEVEN, lists, [])


def mafw(labels: Path) -> FacePlan:
    """MAFW, single expressions, five folds; of its lists those without captions, `split/single/no_caption`."""
    files = {f"{part}{k}": labels / f"set_{k}" / f"{part}.txt" for k in FOLDS for part in _PARTS}
    require(labels, files.values())
    lists: dict[str, list[Face]] = {}
    for name, file in files.items():
        lists[name] = []
        for where, text in read_lines(file):
            path, expressed = _pair(where, text, "02820.mp4 anger")
            lists[name].append(Face(where, path, expression(where, expressed, MAFW)))
    return FacePlan(MAFW, lists, [])


def _pair(where: str, text: str, form: str) -> tuple[str, str]:
    path, name, *more = [*text.split(), "", ""][: max(2, len(text.split()))]
    if more or not name:
        raise ManifestError(f"{where}: expected `{form}`, got {text!r}")
    return path, name


_PARTS = ("train", "test")

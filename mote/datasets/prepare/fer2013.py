"""FER2013 and FERPlus: 48 x 48 pixels in a .csv file, and how ten votes become one label.

`fer2013.csv` (Goodfellow et al. 2013): `emotion,pixels,Usage`, emotion 0 anger ... 6 neutral; the pixels are 2304
numbers with blanks between them; Usage is Training, PublicTest or PrivateTest: train, val, test. Copies sorted into
`train/angry/*.jpg` and `test/...` are understood as well; they have no validation part.

`fer2013new.csv` (FERPlus, Barsoum et al. 2016): a row for every row of `fer2013.csv`, in its order, with the votes of
ten people; an image without a name was removed from the dataset. The rule that picks the label changes the dataset:

| votes | label | left out |
|---|---|---|
| argmax | most votes, of equals the first column | unknown or not a face have the most |
| emotions | most votes of the eight expressions | not a face has the most of all, or no vote for an expression |
| unique | most votes | the same as argmax, and equals |
| majority | more than half the votes, single ones dropped first | no majority, unknown, not a face |
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from mote.datasets.lists.manifest import ManifestError
from mote.datasets.prepare.expressions import Face, FacePlan, numbered, table_rows
from mote.datasets.prepare.faces import folders
from mote.datasets.prepare.official import require

FER2013 = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")  # 0..6
FER_PLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
COLUMNS = (*FER_PLUS, "unknown", "NF")  # of the votes, by their names in the header
PARTS = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
VOTES = ("argmax", "emotions", "unique", "majority")
SIDE = 48


def fer2013(labels: Path) -> FacePlan:
    """FER2013 from its .csv file, or from folders."""
    if not (labels / "fer2013.csv").is_file() and (labels / "train").is_dir():
        return folders(labels, FER2013)
    lists: dict[str, list[Face]] = {name: [] for name in PARTS.values()}
    pixels = {}
    for row, (where, cells) in enumerate(_pixel_rows(labels)):
        path = _name(row)
        lists[PARTS[cells["Usage"]]].append(Face(where, path, numbered(where, cells["emotion"].strip(), FER2013, 0)))
        pixels[path] = _pixels(where, cells["pixels"])
    return FacePlan(FER2013, {name: faces for name, faces in lists.items() if faces}, [], pixels)


def ferplus(labels: Path, votes: str = "argmax") -> FacePlan:
    """FERPlus by the rule `votes`; pixels from `fer2013.csv` where it lies beside `fer2013new.csv`.

    Without it the images are `fer0000000.png`, ..., as the dataset's own tool writes them.
    """
    if votes not in VOTES:
        raise ValueError(f"expected votes of {', '.join(VOTES)}, got {votes!r}")
    require(labels, [labels / "fer2013new.csv"])
    voted = list(_checked_rows(labels / "fer2013new.csv", ("Usage", "Image name", *COLUMNS)))
    faces = list(_pixel_rows(labels)) if (labels / "fer2013.csv").is_file() else None
    if faces is not None and len(faces) != len(voted):
        raise ManifestError(f"{labels / 'fer2013new.csv'}: {len(voted)} rows, but fer2013.csv has {len(faces)}")
    lists: dict[str, list[Face]] = {name: [] for name in PARTS.values()}
    pixels, removed, undecided = {}, 0, 0
    for row, (where, cells) in enumerate(voted):
        if faces is not None and cells["Usage"] != faces[row][1]["Usage"]:
            other = faces[row][1]["Usage"]
            raise ManifestError(
                f"{where}: Usage {cells['Usage']}, but {other} in {faces[row][0]}: the rows do not match"
            )
        name = _winner(where, [cells[column] for column in COLUMNS], votes)
        if not cells["Image name"].strip():
            removed += 1
        elif name is None:
            undecided += 1
        else:
            path = _name(row) if faces is not None else cells["Image name"].strip()
            lists[PARTS[cells["Usage"]]].append(Face(where, path, name))
            if faces is not None:
                pixels[path] = _pixels(faces[row][0], faces[row][1]["pixels"])
    notes = [f"votes {votes}: left out {undecided} images, and {removed} without a name"]
    return FacePlan(FER_PLUS, {name: faces for name, faces in lists.items() if faces}, notes, pixels)


def png(pixels: bytes) -> bytes:
    """A grey image of SIDE x SIDE bytes as a .png file."""
    from PIL import Image  # here, so that the names of the layouts cost nothing

    file = io.BytesIO()
    Image.frombytes("L", (SIDE, SIDE), pixels).save(file, "PNG")
    return file.getvalue()


def _winner(where: str, texts: list[str], votes: str) -> str | None:
    """The class that ten columns of votes give, None where the rule leaves the image out."""
    if not all(text.strip().isdigit() for text in texts) or sum(map(int, texts)) < 1:
        raise ManifestError(f"{where}: expected the votes of {','.join(COLUMNS)}, got {','.join(texts)}")
    count = [int(text) for text in texts]
    if votes == "majority":
        count = [number if number > 1 else 0 for number in count]
        if 2 * max(count) <= sum(count):
            return None
    best = count.index(max(count))  # of equals the first
    if votes == "emotions":
        named = count[: len(FER_PLUS)]
        return None if not any(named) or COLUMNS[best] == "NF" else FER_PLUS[named.index(max(named))]
    if best >= len(FER_PLUS) or (votes == "unique" and count.count(count[best]) > 1):
        return None
    return FER_PLUS[best]


def _pixel_rows(labels: Path) -> Iterator[tuple[str, dict[str, str]]]:
    require(labels, [labels / "fer2013.csv"])
    return _checked_rows(labels / "fer2013.csv", ("emotion", "pixels", "Usage"))


def _checked_rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    for where, row in table_rows(file, columns):
        if row["Usage"] not in PARTS:
            raise ManifestError(f"{where}: Usage {row['Usage']!r}; expected {', '.join(PARTS)}")
        yield where, row


def _pixels(where: str, text: str) -> bytes:
    try:
        pixels = bytes(map(int, text.split()))
    except ValueError:
        raise ManifestError(f"{where}: expected pixels as numbers in 0..255") from None
    if len(pixels) != SIDE**2:
        raise ManifestError(f"{where}: expected {SIDE**2} pixels ({SIDE} x {SIDE}), got {len(pixels)}")
    return pixels


def _name(row: int) -> str:
    return f"images/fer{row:07d}.png"

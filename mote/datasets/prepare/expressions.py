"""Expressions by name: how their names are spelled, how a number becomes a name, and what a layout's reader returns.

Every dataset numbers the expressions in an order of its own, so a number is turned into the name of its class where it
is read, and only names go on. Names are spelled alike over all datasets (`happy`, `Happiness`: happiness).
"""

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mote.datasets.lists.manifest import ManifestError
from mote.datasets.lists.overlap import letters

SPELLINGS = {
    "happiness": ("happy",), "sadness": ("sad",), "anger": ("angry",), "surprise": ("surprised",),
    "fear": ("fearful",), "disgust": ("disgusted",), "neutral": (), "contempt": ("contemptuous",),
    "anxiety": (), "helplessness": (), "disappointment": (),
}  # fmt: skip
NAMES = {letters(word): name for name, words in SPELLINGS.items() for word in (name, *words)}


class Face(NamedTuple):
    """An image or clip of a list: the line that names it, its path as published, the name of its class."""

    where: str
    path: str
    name: str


class FacePlan(NamedTuple):
    """What label files say: classes in the dataset's order, the lists (`train`, `test`, `val`; with folds `train1`...).

    `pixels`: 48 x 48 bytes of the images that have no file of their own, by path.
    """

    classes: Sequence[str]
    lists: dict[str, list[Face]]
    notes: list[str]
    pixels: Mapping[str, bytes] = {}


def own_name(text: str) -> str:
    """The name of an expression in our spelling; what is none stays as it is."""
    return NAMES.get(letters(text), text)


def expression(where: str, text: str, classes: Sequence[str]) -> str:
    """The name of the class that `text` spells; ManifestError for none of `classes`."""
    name = own_name(text)
    if name not in classes:
        raise ManifestError(f"{where}: class {text!r} is none of {', '.join(classes)}")
    return name


def numbered(where: str, text: str, classes: Sequence[str], first: int) -> str:
    """The name that the number `text` stands for, where numbers count from `first`."""
    last = first + len(classes) - 1
    if not text.isascii() or not text.isdigit() or not first <= int(text) <= last:
        meaning = f"{first} {classes[0]} to {last} {classes[-1]}"
        raise ManifestError(f"{where}: label {text!r} is outside {first}..{last}; they count from {first} ({meaning})")
    return classes[int(text) - first]


def table_rows(
    file: Path, columns: Sequence[str], without_header: Sequence[str] | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """(file:line, cells by column) of every row of a .csv file, one at a time; its header must name `columns`.

    `without_header`: the columns in order, for a file whose first line names none of them. Raises ManifestError.
    """
    csv.field_size_limit(max(csv.field_size_limit(), min(sys.maxsize, 2**31 - 1)))  # pixels, landmarks
    header: Sequence[str] | None = None
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, skipinitialspace=True)
            for cells in reader:
                where, cells = f"{file}:{reader.line_num}", [cell.strip() for cell in cells]
                if header is None:
                    bare = without_header is not None and not {*cells} & {*columns}
                    header = without_header if without_header is not None and bare else cells
                    if twice := [column for column in columns if header.count(column) > 1]:
                        raise ManifestError(f"{where}: two columns {twice[0]!r}; keep one")
                    if absent := [column for column in columns if column not in header]:
                        raise ManifestError(f"{where}: the header lacks {', '.join(absent)}")
                    if not bare:
                        continue
                if len(cells) != len(header):
                    got = f"{len(cells)} cells" if cells else "a blank line"
                    raise ManifestError(f"{where}: expected {len(header)} cells ({','.join(header)}), got {got}")
                yield where, dict(zip(header, cells, strict=True))
    except UnicodeDecodeError as error:
        raise ManifestError(f"{file}: not a text file in UTF-8 ({error.reason}); convert it") from error
    except csv.Error as error:
        raise ManifestError(f"{file}: not a .csv file: {error}") from error
    if header is None:
        raise ManifestError(f"{file}: it is empty")

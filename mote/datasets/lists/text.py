"""Lines of lists and class files, and the error that names the file and the line."""

from collections.abc import Iterator
from pathlib import Path

from mote.files.absent import absent


class ManifestError(ValueError):
    """A list that cannot be used as it stands: `file:line: what is wrong; what to do`."""


def text_lines(path: Path, comments: bool = False) -> Iterator[tuple[int, str]]:
    """(line number, stripped text); blank lines only at the end of the file. comments: leave out lines with # first.

    Raises:
        ManifestError: no such file, not UTF-8, or a blank line between others.
    """
    if not path.is_file():
        raise ManifestError(absent(path, "file"))
    blank = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, text in enumerate(file, 1):
                if comments and text.lstrip().startswith("#"):
                    continue
                if not text.strip():
                    blank = blank or number
                elif blank:
                    raise ManifestError(f"{path}:{blank}: blank line; remove it")
                else:
                    yield number, text.strip()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a text file in UTF-8 ({error.reason}); convert it") from error


def is_integer(text: str) -> bool:
    """Whether `text` is a whole number in ASCII digits, with or without a minus."""
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()


def not_empty(path: Path, items: list, kind: str = "video") -> list:
    """`items`; raises ManifestError where there are none."""
    if not items:
        raise ManifestError(f"{path}: it lists no {kind}")
    return items

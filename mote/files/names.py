"""Names as they are read: what looks alike is one name, whatever its code points; and names of folders as words.

Two names can look the same and differ: composed and decomposed letters (NFC, which most systems write, and NFD, which
file names of macOS are in), characters without width, and blanks of other kinds or number.
"""

import re
import unicodedata
from collections.abc import Iterable

CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # ApplyEyeMakeup, TVShow


def plain(name: str) -> str:
    """The name in composed letters (NFC), without characters that have no width, with single blanks between words."""
    if name.isascii():
        return " ".join(name.split())
    visible = "".join(c for c in name if unicodedata.category(c) != "Cf")
    return " ".join(unicodedata.normalize("NFC", visible).split())


def letters(name: str) -> str:
    """The plain name without case, spaces, underscores and hyphens."""
    return re.sub(r"[\s_-]+", "", plain(name).casefold())


def shown(name: str) -> str:
    """The name for a message; where it is not plain ASCII also with its code points, which show what the eye cannot."""
    return repr(name) if name.isascii() else f"{name!r} ({name!a})"


def in_words(name: str) -> str:
    """A folder's name as words: `ApplyEyeMakeup` and `brush_hair` become `Apply Eye Makeup` and `brush hair`.

    A name with blanks is words already and stays as it is.
    """
    if len(name.split()) > 1:
        return name
    return " ".join(CAMEL.sub(" ", name.replace("_", " ")).split()) or name


def check_names(names: Iterable[str], what: str = "class names") -> None:
    """Raise ValueError for an empty name, and for two that are one (see `plain`)."""
    seen: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        if not plain(name):
            raise ValueError(f"{what}: number {number} is empty; take it out (is there a comma too many?)")
        if plain(name) in seen:
            first = seen[plain(name)]
            alike = "is there twice" if first == name else f"and {shown(first)} are one name, spelled in two ways"
            raise ValueError(f"{what}: {shown(name)} {alike}; they must differ")
        seen[plain(name)] = name

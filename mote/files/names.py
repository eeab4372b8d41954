"""Names as they are read: what looks alike is one name, whatever its code points; and names of folders as words.

Two names can look the same and differ: composed and decomposed letters (NFC, which most systems write, and NFD, which
file names of macOS are in), characters without width, and blanks of other kinds or number.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

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


def made_words(folders: Sequence[str], words: Sequence[str]) -> list[str]:
    """A line that says which class names were made of folder names; none where all stayed as they were."""
    changed = [f"{a} -> {b}" for a, b in zip(folders, words, strict=True) if a != b]
    if not changed:
        return []
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return [f"class names are the folders' names in words: {', '.join(changed[:3])}{more}; a class file says otherwise"]


def name_difference(then: Sequence[str], now: Sequence[str], kind: str = "class") -> str | None:
    """In what two lists of names differ, for a message; None where they are the same names in the same order."""
    old, new = [*map(plain, then)], [*map(plain, now)]
    if old == new:
        return None
    pairs = enumerate(zip(then, now, strict=False))
    place, (a, b) = next(((i, pair) for i, pair in pairs if plain(pair[0]) != plain(pair[1])), (0, ("", "")))
    if len(old) != len(new):
        first = f"; {kind} {place} was {shown(a)}, now {shown(b)}" if a != b else ""
        return f"{len(old)} {kind} entries then, {len(new)} now{first}"
    order = f"the same {kind} entries in another order: " if sorted(old) == sorted(new) else ""
    return f"{order}{kind} {place} was {shown(a)}, now {shown(b)}"


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

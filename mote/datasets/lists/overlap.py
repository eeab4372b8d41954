"""What two vocabularies or two lists of videos have in common, so that "zero-shot" and "test" mean what they say.

`overlap(a, b)`: the class names of `b` that also stand in `a`. Three kinds, the strictest that applies:

- "literal": the same string;
- "case/space": the same letters once case, spaces, underscores and hyphens are dropped (`PoleVault`, `pole vault`);
- "inflection": the same words up to the English endings -s, -ed, -er and -ing, with doubled consonants, silent e and
  y/i (`clap`, `clapping`; `smoke`, `smoking`; `push up`, `pushups`). Irregular forms, articles, word order and synonyms
  are not seen; `archery` and `archer` are different words.

`train_test_duplicates(train, test)`: videos of the test list that are also in the training list, under whatever name.
"""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from mote.datasets.lists.manifest import Record
from mote.files.names import letters, plain

VOWELS = set("aeiouy")
# fmt: off
UNINFLECTED = {  # words that end like an inflected form of another English word, and are none
    "butter", "clothing", "copper", "corner", "counter", "cover", "dinner", "during", "earring", "evening", "flower",
    "glasses", "hammer", "hundred", "ladder", "latter", "layer", "ledger", "letter", "litter", "lower", "manner",
    "master", "matter", "meter", "morning", "mother", "news", "number", "offer", "pants", "pepper", "poker", "poster",
    "powder", "pudding", "quarter", "river", "rubber", "shorts", "shower", "sibling", "sober", "something", "summer",
    "supper", "tender", "thing", "tower", "under", "upper", "winter",
}
# fmt: on


class Match(NamedTuple):
    """Class `b_name` of the second list, the class of the first that it matches, and how."""

    b_name: str
    a_name: str
    kind: Literal["literal", "case/space", "inflection"]


def overlap(a: Sequence[str], b: Sequence[str]) -> list[Match]:
    """Names of `b` that occur in `a`, in the order of `b`; each with its first match of the strictest kind."""
    literal = {plain(name): name for name in reversed(a)}
    spelled: dict[str, str] = {}
    for name in a:
        spelled.setdefault(letters(name), name)
    inflected = [(name, *_forms(name)) for name in a]
    matches = []
    for name in b:
        if plain(name) in literal:
            matches.append(Match(name, literal[plain(name)], "literal"))
        elif letters(name) in spelled:
            matches.append(Match(name, spelled[letters(name)], "case/space"))
        else:
            words, joined = _forms(name)
            same = (other for other, theirs, whole in inflected if joined & whole or _agree(words, theirs))
            if (other := next(same, None)) is not None:
                matches.append(Match(name, other, "inflection"))
    return matches


def train_test_duplicates(train: Sequence[Record], test: Sequence[Record]) -> list[tuple[Path, Path]]:
    """(train path, test path) of every video that is in both lists: one file, or two of the same content.

    Only files of equal size are read. Files that do not exist are compared by path, empty ones are all different.
    """
    places: dict[Path, Path] = {}
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in dict.fromkeys(record.path for record in train):
        places.setdefault(path.resolve(), path)
        sizes[_size(path)].append(path)
    hashes: dict[int, dict[bytes, Path]] = {}
    pairs = []
    for path in dict.fromkeys(record.path for record in test):
        twin, size = places.get(path.resolve()), _size(path)
        if twin is None and size > 0 and size in sizes:
            if size not in hashes:  # the first file of equal content stands for all of them
                hashes[size] = {_content(other): other for other in reversed(sizes[size])}
            twin = hashes[size].get(_content(path))
        if twin is not None:
            pairs.append((twin, path))
    return pairs


def _size(path: Path) -> int:
    return os.path.getsize(path) if path.is_file() else 0


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _forms(name: str) -> tuple[list[frozenset[str]], frozenset[str]]:
    """Base forms of each word, and of all words written as one (`push ups` -> pushups, pushup)."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)  # PushUps: push ups
    words = re.split(r"[\s_-]+", spaced.casefold().strip(" _-"))
    return [base_forms(word) for word in words], base_forms("".join(words))


def _agree(words: list[frozenset[str]], others: list[frozenset[str]]) -> bool:
    return len(words) == len(others) and all(one & two for one, two in zip(words, others, strict=True))


@lru_cache(maxsize=100_000)
def base_forms(word: str) -> frozenset[str]:
    """`word` itself and what it may be an inflected form of; strings that are no words are harmless among them."""
    forms = {word}
    if word in UNINFLECTED or not word.isalpha():
        return frozenset(forms)
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        forms |= base_forms(word[:-1])
        if word.endswith("ies") and len(word) > 4:
            forms |= base_forms(word[:-3] + "y")
        if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
            forms.add(word[:-2])
    for ending in ("ing", "ed", "er"):
        if word.endswith(ending) and not word.endswith(("eed", "eer")):
            forms |= _without_ending(word[: -len(ending)], ending)
    return frozenset(forms)


def _without_ending(stem: str, ending: str) -> set[str]:
    """Verbs whose form with `ending` begins with `stem`: swimm -> swim, smok -> smoke, carri -> carry, bowl -> bowl."""
    if len(stem) < 2 or not VOWELS & set(stem):  # king, swing, red, her
        return set()
    if stem.endswith("i") and ending != "ing":  # carried, skier, tied
        return {stem[:-1] + "y", stem, stem + "e"}
    if ending == "ing" and stem in ("dy", "ly", "ty"):  # dying, lying, tying
        return {stem[:-1] + "ie", stem + "e"}
    if stem[-1] == stem[-2] and stem[-1] not in VOWELS:  # hugging: hug; kissing: kiss
        return {stem, stem[:-1]} if stem[-1] in "lsfz" else {stem[:-1]}
    # hop makes hopping, so that hoping is of hope alone: one vowel between consonants asks for doubling or an e
    short = re.fullmatch(r"[^aeiouy]*[aeiouy][^aeiouywx]", stem) is not None
    return {stem + "e"} if short else {stem, stem + "e"}

"""Parts of a list of videos, drawn once and stored: few-shot lists, and a validation split of a training list.

A draw depends on the seed, the label and the names of the label's clips, not on the order of the list, so the same
command gives the same file anywhere. Beside every file lies `FILE.json`: seed, counts, and SHA-256 of the source and of
the result. Rows are written as they were read (paths too: `data.root` stays what it was).
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mote.datasets.lists.manifest import ManifestError, read_rows
from mote.files.writing import csv_text, replacing_together

UCF_GROUP = re.compile(r"^(.+_g\d+)_c\d+$")  # v_YoYo_g01_c04: clips of one group are cut from one video
HMDB_SOURCE = re.compile(r"^(.+)_[fhlu]_(?:cm|nm)_np\d+_(?:fr|ba|le|ri)_(?:bad|med|goo)_\d+$")  # NAME_action_u_nm_...


class Clip(NamedTuple):
    """A row of a list: path and label as written."""

    path: str
    label: str


def read_clips(path: Path | str, root: Path | str | None = None, select: str | None = None) -> list[Clip]:
    """The rows of a list, see `mote.datasets.lists.manifest.read_rows`; raises ManifestError."""
    return [Clip(row.path, row.label) for row in read_rows(path, root, select)]


def few_shot(
    rows: Sequence[Clip], shots: int, seed: int, *, names: Mapping[str, str] | None = None, allow_fewer: bool = False
) -> list[Clip]:
    """`shots` clips of every class, in the order of labels and names; the same seed gives nested sets as shots grow.

    Args:
        rows: a training list.
        shots: K >= 1.
        seed: of the draw.
        names: {label as written: name of the class}; all these classes must be there. None: the labels of the list.
        allow_fewer: take what there is where a class has fewer than K clips.

    Raises:
        ManifestError: classes with fewer clips, by name.
        ValueError: shots < 1.
    """
    if shots < 1:
        raise ValueError(f"expected at least 1 shot, got {shots}")
    clips = _by_label(rows)
    short = {label: len(clips.get(label, ())) for label in names or clips if len(clips.get(label, ())) < shots}
    if short and not allow_fewer:
        listed = ", ".join(f"{(names or {}).get(label, label)} ({count})" for label, count in list(short.items())[:10])
        more = f" and {len(short) - 10} more" if len(short) > 10 else ""
        raise ManifestError(f"classes with fewer than {shots} clips: {listed}{more}; take fewer shots or --allow-fewer")
    chosen = []
    for label, members in clips.items():
        order = _generator(seed, label).permutation(len(members))[:shots]
        chosen += [members[i] for i in sorted(order)]
    return chosen


def repeated(rows: Sequence[Clip], length: int) -> list[Clip]:
    """The rows again and again until there are `length` of them (MoTE, appendix B: few-shot epochs of full length)."""
    return [rows[i % len(rows)] for i in range(max(length, len(rows)))]


def source_of(path: str) -> str:
    """What a clip was cut from, where its name says so (UCF101 `..._g01_c04`, HMDB51 `..._u_nm_np1_fr_goo_0`)."""
    stem = path.replace("\\", "/").rpartition("/")[2].rpartition(".")[0]
    found = UCF_GROUP.match(stem) or HMDB_SOURCE.match(stem)
    return found[1] if found else path


def split(rows: Sequence[Clip], fraction: float, seed: int) -> tuple[list[Clip], list[Clip]]:
    """(training, validation): about `fraction` of every class, never two clips of one source on both sides.

    A class goes to validation source by source (see `source_of`; else clip by clip) until adding another would take it
    further from its share; at least one source where a class has two, none where it has one.

    Raises:
        ValueError: a fraction outside (0, 1), or one that leaves a side empty.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"expected a fraction between 0 and 1, got {fraction}")
    held: set[Clip] = set()
    for label, members in _by_label(rows).items():
        groups: dict[str, list[Clip]] = {}
        for row in members:
            groups.setdefault(source_of(row.path), []).append(row)
        sources = list(groups.values())
        drawn = [sources[i] for i in _generator(seed, label).permutation(len(sources))]
        wanted, count = fraction * len(members), 0
        for number, group in enumerate(drawn[:-1]):  # one source stays for training
            if number == 0 or abs(count + len(group) - wanted) < abs(count - wanted):
                held.update(group)
                count += len(group)
    training, validation = [row for row in rows if row not in held], [row for row in rows if row in held]
    if not validation:
        raise ValueError("no class has two sources of clips, so there is nothing to hold out")
    return training, validation


def write_rows(lists: Mapping[Path, tuple[Sequence[Clip], Mapping[str, object]]], source: Path) -> None:
    """Write lists of one folder (CSV by the suffix, else `path label` lines), each with `FILE.json`: all or nothing.

    Args:
        lists: the rows of each file, and the facts for its .json.
        source: the list that the rows are from.

    Raises:
        FileExistsError: one of the files is there already.
        ManifestError: names as labels in a list that is no .csv.
    """
    contents: dict[Path, str] = {}
    for file, (rows, facts) in lists.items():
        beside = file.with_name(file.name + ".json")
        for path in (file, beside):
            if path.exists():
                raise FileExistsError(f"{path}: is there already; remove it or choose another name")
        contents[file], contents[beside] = _contents(file, rows, source, facts)
    (folder,) = {file.parent for file in contents}
    with replacing_together(folder) as stage:
        for file, content in contents.items():
            (stage / file.name).write_bytes(content.encode("utf-8", "surrogateescape"))


def _contents(file: Path, rows: Sequence[Clip], source: Path, facts: Mapping[str, object]) -> tuple[str, str]:
    """The list, and the JSON beside it."""
    if file.suffix.lower() == ".csv":
        content = csv_text(Clip._fields, rows)
    elif all(row.label.isdigit() for row in rows):
        content = "".join(f"{row.path} {row.label}\n" for row in rows)
    else:
        raise ManifestError(f"{file}: the labels are names, which only a .csv list can hold; choose a name with .csv")
    hashes = {
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest() if source.is_file() else None,
    }
    document = {**facts, "source": str(source), "clips": len(rows), "distinct": len(set(rows)), **hashes}
    return content, json.dumps(document, indent=1) + "\n"


def _by_label(rows: Sequence[Clip]) -> dict[str, list[Clip]]:
    """Distinct clips of every label, sorted; labels in the order of numbers, names behind."""
    clips: dict[str, set[Clip]] = {}
    for row in rows:
        clips.setdefault(row.label, set()).add(row)
    labels = sorted(clips, key=lambda label: (not label.isdigit(), int(label) if label.isdigit() else 0, label))
    return {label: sorted(clips[label]) for label in labels}


def _generator(seed: int, label: str) -> np.random.Generator:
    return np.random.default_rng([seed, *label.encode()])

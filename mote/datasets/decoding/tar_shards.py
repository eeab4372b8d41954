"""Many videos in few tar archives, byte for byte, and each found again by its place: one ranged read.

`write_shards` makes 00000.tar, 00001.tar, ... in the order of a list, and `list.csv`, which is read like any list of
videos. Its paths look as if archives were folders: `00000.tar/@1536+88064/Archery/v1.avi` is 88064 bytes from byte 1536
on. So there is no index to load or to share, an item is what it is from the file itself, and sampler, seeds and resume
know nothing of archives.

The archives are those of WebDataset: NAME.SUFFIX is followed by NAME.cls, the label as text. A dot within NAME would
end it there, and is written as %2E.
"""

import io
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64
from tqdm import tqdm

from mote.datasets.lists.manifest import ManifestError, Row
from mote.files.writing import csv_text, refuse_filled, replacing_folder, write_atomic

PLACE = re.compile(r"(.+\.tar)/@(\d+)\+(\d+)/[^/].*")
LIST = "list.csv"


class Part(NamedTuple):
    """`size` bytes of `archive` from byte `offset` on."""

    archive: str
    offset: int
    size: int


def part_of(path: Path | str) -> Part | None:
    """Where the video of such a path lies; None for a path of a file of its own."""
    found = PLACE.fullmatch(os.fspath(path))
    return Part(found[1], int(found[2]), int(found[3])) if found else None


def shard_numbers(paths: Sequence[Path]) -> Int64[np.ndarray, "N"]:
    """For each path the number of its archive, from 0 in order of appearance. Raises ValueError where one has none."""
    seen: dict[str, int] = {}
    parts = [part_of(path) for path in paths]
    if None in parts:
        path = paths[parts.index(None)]
        raise ValueError(f"{path}: lies in no archive; data.shuffle_shards is for lists that `mote data shard` wrote")
    return np.array([seen.setdefault(part.archive, len(seen)) for part in parts if part], dtype=np.int64)


def write_shards(rows: Sequence[Row], base: Path, out: Path, shard_bytes: int = 10**9) -> dict[str, int]:
    """Numbers of `videos`, `shards` and `bytes` written into the new folder `out`: archives and their list.

    Args:
        rows: the videos; one that is listed more than once is stored once.
        base: where relative paths start.
        out: the folder, which appears when it is complete.
        shard_bytes: size of an archive, about, but at least one video each.

    Raises:
        ManifestError: a listed file that is not there.
        FileExistsError: `out` is a file, or a folder that holds something.
    """
    refuse_filled(out)
    sizes = {}
    for row in rows:
        if not (base / row.path).is_file():
            raise ManifestError(
                f"{row.where}: {base / row.path} is not a file, as archives need it; take it off the list"
            )
        sizes.setdefault(row.path, (base / row.path).stat().st_size)
    labels, places = {row.path: row.label for row in rows}, {}
    shards = _cut(sizes, shard_bytes)
    with replacing_folder(out) as folder, tqdm(total=len(sizes), desc="shard", unit="video", disable=None) as bar:
        for number, paths in enumerate(shards):
            with tarfile.open(folder / f"{number:05d}.tar", "w", format=tarfile.PAX_FORMAT) as archive:
                for path, place in _fill(archive, paths, base, labels):
                    places[path] = f"{number:05d}.tar/{place}"
                    bar.update()
        write_atomic(folder / LIST, csv_text(("path", "label"), ((places[row.path], row.label) for row in rows)))
    return {"videos": len(sizes), "shards": len(shards), "bytes": sum(sizes.values())}


def _cut(sizes: dict[str, int], shard_bytes: int) -> list[list[str]]:
    """Paths in their order, a new list wherever the last one has reached `shard_bytes`."""
    shards: list[list[str]] = []
    filled = shard_bytes
    for path, size in sizes.items():
        if filled >= shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(path)
        filled += size
    return shards


def _fill(
    archive: tarfile.TarFile, paths: Sequence[str], base: Path, labels: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """Add files and labels to an archive; yields (path, where its bytes are) of each."""
    names: set[str] = set()
    for path in paths:
        name, label = _member_name(path, names), labels[path].encode()
        with (base / path).open("rb") as file:
            size = _add(archive, name, file, os.fstat(file.fileno()).st_size)
        start = archive.offset - -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        yield path, f"@{start}+{size}/{name}"
        _add(archive, f"{name.rpartition('.')[0] or name}.cls", io.BytesIO(label), len(label))


def _member_name(path: str, taken: set[str]) -> str:
    """The path below its root, without what leads out of a folder; different from those taken, to which it is added."""
    parts = [part for part in PurePosixPath(Path(path).as_posix()).parts if part not in ("/", "..")]
    stem, dot, suffix = parts[-1].rpartition(".")
    parts[-1] = f"{stem.replace('.', '%2E')}{dot}{suffix}" if stem else parts[-1]
    name = "/".join(parts)
    while (key := name.rpartition(".")[0] or name) in taken:  # the same key in one archive would be one sample
        name = f"again/{name}"
    taken.add(key)
    return name


def _add(archive: tarfile.TarFile, name: str, file: io.BufferedIOBase, size: int) -> int:
    """Add a member without time, owner and mode, so that equal files give equal archives; the value is `size`."""
    member = tarfile.TarInfo(name)
    member.size = size
    archive.addfile(member, file)
    return size

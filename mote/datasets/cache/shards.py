"""Arrays of one shape in a pair of files: one writer, any number of readers, an interruption at any byte.

SHAPE-TOKEN.bin holds the rows, each a (V, T, D) array of float32 (4 V T D bytes, little-endian). SHAPE-TOKEN.index has
a line per row: key, row number, CRC-32 of key and row.

A pair has one writer, which never continues a pair begun earlier; a row is written before its line; and a line counts
only when it is complete, its row lies within the file and the checksum agrees. So a reader sees whole rows under their
own keys, or nothing; nothing is locked, and nothing needs repair.
"""

import math
import mmap
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32

KEY = re.compile(r"[0-9a-f]{64}")
PAIR = re.compile(r"[1-9]\d*x[1-9]\d*x[1-9]\d*-[0-9a-f]{16}\.(bin|index)")
LINE = re.compile(rb"(?m)^([0-9a-f]{64}) (\d{1,9}) ([0-9a-f]{8})\n")


def checksum(key: str, row: np.ndarray) -> int:
    """CRC-32 of a key and the bytes of its row: a line whose key or row number is damaged matches no row."""
    return zlib.crc32(_bytes(row), zlib.crc32(key.encode()))


class Shard:
    """One pair of files, as its readers see it."""

    def __init__(self, folder: Path, name: str):
        self.name, self.rows_file, self.index_file = name, folder / f"{name}.bin", folder / f"{name}.index"
        self.shape = tuple(int(size) for size in name.partition("-")[0].split("x"))
        self.row_bytes = 4 * math.prod(self.shape)
        self.index_read = 0  # bytes of the index already seen
        self._map: mmap.mmap | None = None

    def new_lines(self) -> Iterator[tuple[str, int, int]]:
        """(key, row, checksum) of the lines completed since the last call."""
        try:
            with self.index_file.open("rb") as file:
                file.seek(self.index_read)
                text = file.read()
        except FileNotFoundError:
            return
        self.index_read += text.rfind(b"\n") + 1
        for key, row, expected in LINE.findall(text):
            yield key.decode(), int(row), int(expected, 16)

    def row(self, number: int) -> Float32[np.ndarray, "V T D"] | None:
        """Read-only view of one row in the mapped file; None where the file is too short for it."""
        start = number * self.row_bytes
        if self._map is None or len(self._map) < start + self.row_bytes:
            self._map = _mapped(self.rows_file)
        if self._map is None or len(self._map) < start + self.row_bytes:
            return None
        return np.frombuffer(self._map, "<f4", self.row_bytes // 4, start).reshape(self.shape)

    def release(self) -> None:
        """Give the touched pages back: they would count as memory of this process. Views stay good."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


class Writer:
    """The end of a new pair of files that this process alone writes. FileExistsError when the pair is not new."""

    def __init__(self, shard: Shard):
        self.shard, self.rows, self.process = shard, 0, os.getpid()
        self._rows_file = shard.rows_file.open("xb", buffering=0)
        try:
            self._index_file = shard.index_file.open("xb", buffering=0)
        except BaseException:
            self._rows_file.close()
            raise

    def append(self, key: str, row: np.ndarray, check: int) -> int:
        """Write the row, then its line; returns the row's number. After an exception the writer is of no more use."""
        line = f"{key} {self.rows} {check:08x}\n".encode()
        _write_all(self._rows_file, _bytes(row))
        _write_all(self._index_file, line)
        self.shard.index_read += len(line)
        self.rows += 1
        return self.rows - 1

    def close(self) -> None:
        """Close both files."""
        self._rows_file.close()
        self._index_file.close()


def _bytes(row: np.ndarray) -> memoryview:
    return row.reshape(-1).view(np.uint8).data


def _mapped(path: Path) -> mmap.mmap | None:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, ValueError):  # ValueError: an empty file cannot be mapped
        return None


def _write_all(file, data: memoryview | bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]

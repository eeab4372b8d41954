"""A file at an address as a file that can be read from anywhere, of which only what is read is fetched, and once.

What was fetched lies in a temporary file without a name, which ends with the process, whatever ends it. An MP4 says
where its frames are: while they are numbered their bytes are not fetched, see `frame_data`.
"""

import io
import re
import tempfile
from bisect import bisect_right
from contextlib import suppress
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from mote.datasets.decoding.addresses import check_room, open_store
from mote.datasets.decoding.errors import RemoteError
from mote.datasets.decoding.reading import CHANGED
from mote.datasets.decoding.tar_shards import part_of

BLOCK = 2**16  # bytes fetched at least
AHEAD = 64  # blocks fetched at once at most, where a file is read from block to block
FEW = 16  # boxes of an MP4 that is not cut into fragments


class RemoteFile(io.RawIOBase):
    """The bytes at an address, or of one video in an archive there (`https://host/a.tar/@512+1024/b.mp4`).

    Attributes:
        name: for FFmpeg, which looks at the suffix.
        size: bytes.
        fetched: bytes that came over the network so far.
        hollow: ascending (start, end), in which bytes read as zeros and nothing is fetched.
        failed: the error that a read met; FFmpeg may take it for the end of the file.
    """

    def __init__(self, address: str):
        """Raises RemoteError: it cannot be read from, or is empty."""
        part = part_of(address)
        self.name = suffix_name(address)
        self.fetched, self.hollow, self.failed = 0, [], None
        self._position, self._next, self._ahead = 0, 0, 1
        self._have: set[int] = set()
        self._kept = tempfile.TemporaryFile(prefix="mote-")  # noqa: SIM115
        try:
            self._store = open_store(address if part is None else part.archive, self._keep)
            self._total = self._store.state.size
            self._start, self.size = (0, self._total) if part is None else (part.offset, part.size)
            if self._start + self.size > self._total:
                raise RemoteError("its archive is cut off; copy it again")
            if self.size <= 0:
                raise RemoteError("the file is empty; check the address")
            if not self._store.whole:
                self._have = set(range(-(-self.fetched // BLOCK))) if self.fetched >= min(BLOCK, self._total) else set()
        except BaseException:
            self._kept.close()
            raise

    def close(self) -> None:
        """Give the temporary file back."""
        self._kept.close()
        super().close()

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The next byte's number."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Read on elsewhere."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, count: int = -1) -> bytes:
        """Up to `count` bytes, fewer only at the end of the file or of a hollow. Raises RemoteError."""
        start, end = self._position, self.size if count < 0 else min(self._position + count, self.size)
        if start >= end:
            return b""
        index = bisect_right(self.hollow, (start, self.size + 1))
        if index and start < self.hollow[index - 1][1]:
            data = bytes(min(end, self.hollow[index - 1][1]) - start)
        else:
            end = min(end, self.hollow[index][0]) if index < len(self.hollow) else end
            try:
                self._fetch(self._start + start, self._start + end)
                self._kept.seek(self._start + start)
                data = self._kept.read(end - start)
            except RemoteError as error:
                self.failed = error
                raise
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        """The rest. Raises RemoteError."""
        return self.read()

    def changed(self) -> bool:
        """Whether what was read may be of two versions of the file. Raises RemoteError."""
        return (self.failed is not None and str(self.failed) == CHANGED) or self._store.changed()

    def check(self) -> None:
        """Raise the error that a read met."""
        if self.failed is not None:
            raise self.failed

    def _fetch(self, start: int, end: int) -> None:
        if self._store.whole:
            return
        block, last = start // BLOCK, (end - 1) // BLOCK
        while block <= last:
            if block in self._have:
                block += 1
                continue
            self._ahead = min(2 * self._ahead, AHEAD) if block == self._next else 1
            stop, most = block + 1, -(-self._total // BLOCK)
            while (
                stop < min(block + max(self._ahead, last - block + 1), block + AHEAD, most) and stop not in self._have
            ):
                stop += 1
            self._keep(block * BLOCK, self._store.part(block * BLOCK, min(stop * BLOCK, self._total)))
            self._have.update(range(block, stop))
            self._next = block = stop

    def _keep(self, start: int, data: bytes) -> None:
        check_room(len(data))
        try:
            self._kept.seek(start)
            self._kept.write(data)
            self._kept.flush()
        except OSError as error:
            raise RemoteError(f"{error.strerror} in {tempfile.gettempdir()}; make room, or set TMPDIR") from None
        self.fetched += len(data)


def frame_data(file: RemoteFile) -> list[tuple[int, int]]:
    """(start, end) of the boxes of an MP4 or MOV in which its frames lie; none where they are spread over fragments."""
    found, position = [], 0
    for _ in range(FEW):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return found
        size, kind, start = int.from_bytes(head[:4], "big"), head[4:], position + 8
        if size == 1:
            size, start = int.from_bytes(file.read(8), "big"), position + 16
        end = position + size if size else file.size
        if kind in (b"moof", b"sidx") or end < start:
            return []
        if kind == b"mdat":
            found.append((start, min(end, file.size)))
        position = end
        if position >= file.size:
            return found
    return []


def suffix_name(address: str) -> str:
    """The last part of an address, for its suffix: `a.mp4` of `https://host/x/a.mp4?key=1`."""
    part = part_of(address)
    text = address if part is not None else address.partition("?")[0].partition("#")[0]
    with suppress(ValueError):
        text = text if part is not None else urlsplit(text).path
    return re.sub(r"[^\w.-]", "_", PurePosixPath(text).name, flags=re.ASCII) or "video"

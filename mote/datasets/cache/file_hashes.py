"""SHA-256 of files, read again only when their size or time of modification is not as remembered."""

import errno
import hashlib
import json
import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from mote.datasets.decoding.addresses import address_key
from mote.datasets.decoding.frame_folder import frame_files
from mote.datasets.decoding.tar_shards import part_of
from mote.files.addresses import scheme

SETTLED = 2_000_000_000  # ns: a file younger than this could change again without a new modification time


class FileHashes:
    """Call it with a path for 64 hexadecimal digits; `index` is the file of JSON lines that remembers them.

    Lines are [absolute path, size, time of modification in ns, SHA-256], and only added, by any number of processes;
    one that is cut off or damaged is passed over. An index that cannot be written costs time, not correctness.
    Raises OSError when a file cannot be read.
    """

    def __init__(self, index: Path):
        self._index = index
        self._known: dict[tuple[str, int, int], str] | None = None

    def __call__(self, path: Path | str) -> str:
        """The hash of the content of `path`; of a folder, of the frames in it; of an address, see `address_key`."""
        if scheme(path) is not None:
            return address_key(str(path))
        if os.path.isdir(path):
            return self._folder(Path(path))
        name, part = os.path.abspath(path), part_of(path)
        source = name if part is None else part.archive
        status, now = os.stat(source), time.time_ns()  # before reading: a change meanwhile shows in the time
        if not stat.S_ISREG(status.st_mode):  # a named pipe would keep us waiting
            raise OSError(errno.EINVAL, "it is not a file", name)
        key = name, status.st_size, status.st_mtime_ns
        known = self._load()
        if key not in known:
            with open(source, "rb") as file:
                if part is None:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                else:  # a video's worth of memory, once for each video
                    file.seek(part.offset)
                    digest = hashlib.sha256(file.read(part.size)).hexdigest()
            return self._keep(key, digest, now - status.st_mtime_ns)
        return known[key]

    def _folder(self, path: Path) -> str:
        """One line of the index for all frames: their sizes and times, and the folder's, are added up."""
        if not (files := frame_files(path)):
            raise OSError(errno.EINVAL, "the folder holds no image", str(path))
        found, now = [os.stat(file) for file in files], time.time_ns()
        times = [path.stat().st_mtime_ns, *(one.st_mtime_ns for one in found)]
        key = os.path.abspath(path), sum(one.st_size for one in found), sum(times)
        known = self._load()
        if key in known:
            return known[key]
        whole = hashlib.sha256()
        for file in files:
            whole.update(hashlib.sha256(file.read_bytes()).digest())
        return self._keep(key, whole.hexdigest(), now - max(times))

    def _keep(self, key: tuple[str, int, int], digest: str, age: int) -> str:
        """The digest, remembered where nothing can have changed within the resolution of the time."""
        if age >= SETTLED:
            self._load()[key] = digest
            with suppress(OSError), self._index.open("ab", buffering=0) as file:
                file.write(json.dumps([*key, digest]).encode() + b"\n")  # one write, so that lines do not mix
        return digest

    def _load(self) -> dict[tuple[str, int, int], str]:
        if self._known is None:
            self._known = {}
            for line in self._index.read_bytes().split(b"\n") if self._index.exists() else ():
                with suppress(ValueError, TypeError):
                    name, size, modified, digest = json.loads(line)
                    self._known[name, size, modified] = str(digest)
        return self._known

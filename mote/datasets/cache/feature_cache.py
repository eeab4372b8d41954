"""Frame features on disk: encoded once, scored many times, returned bit for bit or not at all.

A cache folder holds one folder per namespace (one tower, one way of cutting clips; see `namespace_key`), and in it
pairs of files of (V, T, D) float32 rows (see `shards`, also for why an interruption does no harm). An
entry that is incomplete or damaged is missing, and is encoded again. `files.jsonl` remembers hashes of video files.

Views: V = clips * crops; T frames; D embedding.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from mote.datasets.cache.file_hashes import FileHashes
from mote.datasets.cache.shards import KEY, PAIR, Shard, Writer, checksum
from mote.files.locking import share, unshared

MARKER = "mote-feature-cache-1"  # empty file that says whose folder this is; the number is that of the format
FILES = "files.jsonl"
SHARD_BYTES = 256 * 2**20


def default_folder() -> Path:
    """The feature cache in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mote" / "features"


class Usage(NamedTuple):
    """What a namespace holds: number of entries, and bytes on disk."""

    entries: int
    size: int


def namespace_key(**settings: str | int | float | bool | None) -> str:
    """64 hexadecimal digits that stand for `settings`: all that decides a feature besides the file and its frames.

    That is: weights and architecture of the visual tower (equal weights under another activation are another tower),
    pixel statistics, transform, size, frames, clips, crops, sampling, precision, device type, decoder version.
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def entry_key(file_key: str, indices: str | Sequence[int] | np.ndarray) -> str:
    """The key of an entry: SHA-256 of the file's content hash and the frame indices.

    `indices`: the numbers, or the text of the rule that computes them from the file, which says as much and is known
    without opening it.
    """
    frames = indices if isinstance(indices, str) else np.asarray(indices, dtype=np.int64).tolist()
    return hashlib.sha256(json.dumps([file_key, frames]).encode()).hexdigest()


class _Place(NamedTuple):
    shard: Shard
    row: int
    check: int


class FeatureCache:
    """The entries of one namespace in a cache folder, which is made where it is missing.

    Any number of processes may read and write at once; each sees its own entries, and those of others as of the last
    `refresh` (or `missing`). Not for several threads. Copies sent to another process open the folder anew.
    Raises ValueError for a folder that holds other things, or a namespace that is not from `namespace_key`, InUseError
    for one that is being cleared.
    """

    def __init__(self, folder: Path | str, namespace: str):
        if not KEY.fullmatch(namespace):
            raise ValueError(f"namespace must be 64 hexadecimal digits from namespace_key, got {namespace!r}")
        self.folder, self.namespace = Path(folder), namespace
        self._path = self.folder / namespace
        self._shards: dict[str, Shard] = {}
        self._places: dict[str, list[_Place]] = {}  # the same entry may have been written more than once
        self._writer: Writer | None = None
        self._hashes = FileHashes(self.folder / FILES)
        _claim(self.folder)
        self.refresh()

    def __reduce__(self) -> tuple:
        return FeatureCache, (self.folder, self.namespace)

    def __enter__(self) -> "FeatureCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._places)

    def close(self) -> None:
        """End writing. Views handed out stay good; a later `put` begins new files."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def refresh(self) -> None:
        """Take notice of what other processes have written."""
        for file in sorted(self._path.glob("*.index")):
            if file.stem not in self._shards and PAIR.fullmatch(file.name):
                self._shards[file.stem] = Shard(self._path, file.stem)
        for shard in self._shards.values():
            for key, row, check in shard.new_lines():
                self._places.setdefault(key, []).append(_Place(shard, row, check))

    def file_key(self, path: Path | str) -> str:
        """SHA-256 of a file's content, read again only when its size or time of modification is not as remembered.

        Raises OSError when the file cannot be read.
        """
        return self._hashes(path)

    def get(self, key: str) -> Float32[np.ndarray, "V T D"] | None:
        """The entry as a read-only view of the file, checked; None where it is missing or damaged.

        The pages a view touches count as memory of this process; the other ways of reading give them back.
        """
        places = self._places.get(key, [])
        while places:
            row = places[-1].shard.row(places[-1].row)
            if row is not None and checksum(key, row) == places[-1].check:
                return row
            places.pop()
        self._places.pop(key, None)
        return None

    def put(self, key: str, features: np.ndarray) -> None:
        """Add an entry (V, T, D) float32; one that is there already stays as it is.

        Raises:
            ValueError: not such an array, another shape than the namespace's, or a malformed key.
            OSError: it could not be written (a full disk, say); the entry is then not there.
        """
        if not KEY.fullmatch(key):
            raise ValueError(f"key must be 64 hexadecimal digits from entry_key, got {key!r}")
        if features.dtype != np.float32 or features.ndim != 3 or 0 in features.shape:
            raise ValueError(f"an entry must be (V, T, D) of float32, got {features.shape} of {features.dtype}")
        if self._shards and features.shape != (shape := next(iter(self._shards.values())).shape):
            raise ValueError(f"the entries of this namespace are {shape}, got {features.shape}")
        if self.get(key) is not None:
            return
        row = np.ascontiguousarray(features, dtype="<f4")
        try:
            writer = self._writer_for(row)
            check = checksum(key, row)
            place = _Place(writer.shard, writer.append(key, row, check), check)
        except BaseException as error:
            self.close()  # what follows half a row would be misplaced, so these files end here
            if isinstance(error, OSError):
                reason = f"cannot write the feature cache: {error.strerror}; make room, or go without the cache"
                raise OSError(error.errno, reason, str(self.folder)) from error
            raise
        self._places[key] = [place]

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of `keys`, each once and in their order, that are not there or damaged; reads every entry asked for."""
        self.refresh()
        wanted = list(dict.fromkeys(keys))
        sound = set()
        for key in sorted(wanted, key=self._position):
            if self.get(key) is not None:
                sound.add(key)
                self._places[key][-1].shard.release()
        return [key for key in wanted if key not in sound]

    def read(self, key: str) -> Float32[np.ndarray, "V T D"] | None:
        """A copy of the entry; None where it is missing or damaged."""
        row = self.get(key)
        if row is None:
            return None
        copy = row.copy()
        self._places[key][-1].shard.release()
        return copy

    def size_bytes(self) -> int:
        """Bytes of this namespace on disk."""
        return sum(file.stat().st_size for file in _own_files(self._path))

    def _position(self, key: str) -> tuple[str, int]:
        places = self._places.get(key)
        return (places[-1].shard.name, places[-1].row) if places else ("", 0)

    def _writer_for(self, row: np.ndarray) -> Writer:
        """The open writer; a new one when it is full, or belongs to the process this one was forked from."""
        writer = self._writer
        full = writer is not None and (writer.rows + 1) * row.nbytes > SHARD_BYTES
        if writer is None or full or writer.process != os.getpid():
            self.close()
            _claim(self.folder)
            self._path.mkdir(exist_ok=True)
            name = f"{'x'.join(map(str, row.shape))}-{secrets.token_hex(8)}"
            self._writer = writer = Writer(Shard(self._path, name))
            self._shards[name] = writer.shard
        return writer


def cache_size(folder: Path | str) -> dict[str, Usage]:
    """Entries and bytes of every namespace in a cache folder. Raises ValueError when it is none."""
    usage = {}
    for path in _namespaces(folder):
        with FeatureCache(folder, path.name) as cache:
            usage[path.name] = Usage(len(cache), cache.size_bytes())
    return usage


def usage_line(folder: Path) -> str:
    """One line on what a cache folder holds."""
    found = cache_size(folder).values()
    entries, size = sum(part.entries for part in found), sum(part.size for part in found)
    return f"{folder}: features of {entries} videos, frames and class lists, {size / 1e9:.3g} GB"


def clear(folder: Path | str) -> int:
    """Remove a cache folder's own files, and the folders they leave empty; returns the bytes freed.

    Files of another origin stay. Raises ValueError when the folder is no feature cache, or InUseError when another
    process uses it; nothing is removed then.
    """
    folder, freed = Path(folder), 0
    namespaces = _namespaces(folder)
    with unshared(folder / MARKER):
        files = [file for path in namespaces for file in _own_files(path)]
        for file in [*files, folder / FILES, folder / MARKER]:  # the marker last: what is interrupted can be repeated
            if file.exists():
                freed += file.stat().st_size
                file.unlink()
    for path in [*namespaces, folder]:
        if not any(path.iterdir()):
            path.rmdir()
    return freed


def _claim(folder: Path) -> None:
    """Make the folder and mark it; refuse one that holds other things. It counts as in use until the process ends."""
    marker = folder / MARKER
    if marker.exists():
        share(marker)
        return
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not marker.exists())):
        raise ValueError(f"{folder}: not a feature cache of this version (no file {MARKER}); give an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()
    share(marker)


def _namespaces(folder: Path | str) -> list[Path]:
    if not (Path(folder) / MARKER).exists():
        raise ValueError(f"{folder}: not a feature cache (no file {MARKER}); nothing was touched")
    paths = (path for path in Path(folder).iterdir() if KEY.fullmatch(path.name))
    return sorted(path for path in paths if path.is_dir() and not path.is_symlink())


def _own_files(namespace: Path) -> list[Path]:
    return [file for file in namespace.glob("*") if PAIR.fullmatch(file.name) and file.is_file()]

"""What every open video does: its frames in any order, each handed to a function as it comes."""

import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from mote.datasets.decoding.errors import DecodeError, RemoteError, checked_indices, reported
from mote.datasets.decoding.tar_shards import part_of
from mote.files.addresses import scheme

Frame = UInt8[np.ndarray, "H W 3"]
CHANGED = "it changed while it was read; read it again when nothing writes to it"


def file_state(path: Path | str) -> Hashable:
    """What changes when a file, or the archive of a part, is written to, replaced or removed."""
    part = part_of(path)
    try:
        found = os.stat(path if part is None else part.archive)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


class OpenVideo:
    """An open video: `num_frames`, `fps` (0.0 if unknown), `decoder`, `read(indices)`; use it in a `with`.

    A subclass knows how many frames there are, and yields those at ascending indices (`frames`).
    """

    decoder = ""
    fps = 0.0

    def __init__(self, path: Path | str):
        self._path, self.num_frames = str(path), 0
        self._before = None if scheme(path) else file_state(path)

    def __enter__(self) -> "OpenVideo":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _changed(self) -> bool:
        """Whether the file is another than the one that was opened."""
        return file_state(self._path) != self._before

    @contextmanager
    def _steady(self) -> Iterator[None]:
        """Raise DecodeError for a file that changed since it was opened, also in the place of what is said of it."""
        try:
            yield
        except DecodeError:
            with suppress(RemoteError):
                if self._changed():
                    raise DecodeError(self._path, self.decoder, CHANGED) from None
            raise
        with reported(self._path, self.decoder):
            if self._changed():
                raise RemoteError(CHANGED)

    @property
    def keyframes(self) -> list[int]:
        """Frames that can be decoded without any other, ascending, where that is known."""
        return []

    @property
    def times(self) -> Float64[np.ndarray, "N"]:
        """Seconds from the first frame to each, ascending; all equally apart where the file says no more than `fps`.

        Raises:
            DecodeError: it does not even say that.
        """
        if not 0 < self.fps < float("inf"):
            raise DecodeError(self._path, self.decoder, "nothing in it says when its frames are shown")
        return np.arange(self.num_frames) / self.fps

    @property
    def end(self) -> float:
        """Seconds from the first frame to the end of the last, which lasts as long as the one before; see `times`."""
        times = self.times
        return float(times[-1] + (times[-1] - times[-2] if len(times) > 1 else 1 / self.fps if self.fps > 0 else 0.0))

    def frames(self, wanted: Int64[np.ndarray, "N"]) -> Iterator[Frame]:
        """Frames at ascending `wanted`, upright and all of one size; each is good until the next one is asked for.

        Raises:
            DecodeError: naming the file, where it cannot be decoded.
        """
        raise NotImplementedError(f"{type(self).__name__} yields no frames: {wanted}")

    def read(
        self, indices: Sequence[int] | np.ndarray, each: Callable[[Frame], np.ndarray] | None = None
    ) -> np.ndarray:
        """Frames at `indices` (T,), any order, duplicates allowed: uint8 (T, H, W, 3).

        Args:
            indices: frame numbers in 0..num_frames-1.
            each: what is kept of a frame, called once for each of them, as soon as it is decoded: the value is then
                (T, ...) of its values, and only one frame is held in full size.

        Raises:
            DecodeError: the file cannot be decoded, or it changed since it was opened.
            IndexError: it has no such frame.
        """
        wanted, place = np.unique(checked_indices(self._path, indices, self.num_frames), return_inverse=True)
        kept = np.empty(0)
        with self._steady():
            for number, frame in enumerate(self.frames(wanted)):
                value = frame if each is None else each(frame)
                if number == 0:
                    kept = np.empty((len(wanted), *value.shape), value.dtype)
                kept[number] = value
        return kept if np.array_equal(place, np.arange(len(wanted))) else kept[place]

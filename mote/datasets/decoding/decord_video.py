"""Frames through decord (`data.decoder=decord`), for comparison with numbers that were made with it.

decord does not report the time of the frames it hands out, and numbers them by the order of packets. On MPEG-4 in AVI
(HMDB51, UCF101), on MPEG-TS, on HEVC and on H.264 with open groups of pictures it returns other frames than those asked
for, without an error: up to 22 frames away in our measurements of decord 0.6. Its maintained continuation decord2 3.4,
which is meant here, is right on more of them, but still not on the MPEG-4 files of HMDB51. It is exact for closed
groups of pictures in MP4 and Matroska.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import UInt8

from mote.datasets.decoding.errors import checked_indices, reported


def import_decord() -> ModuleType:
    """The package, set up; raises ValueError, saying what to install, where it is missing."""
    os.environ.setdefault("DECORD_EOF_RETRY_MAX", "1024")  # decord's default waits ten times longer on cut files
    try:
        import decord
    except ImportError as error:
        raise ValueError("data.decoder=decord: decord is not installed; pip install decord2, or take pyav") from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord


class DecordVideo:
    """An open video with the interface of `decode.PyAVVideo`; which frames it gives, see the top of this file."""

    decoder = "decord"
    keyframes = ()

    def __init__(self, path: Path | str):
        self._path, decord = str(path), import_decord()
        self._errors = decord.DECORDError, RuntimeError, AssertionError
        with reported(self._path, self.decoder, *self._errors):
            # fault_tol: a frame copied from its neighbour because it could not be decoded is an error.
            self._reader = decord.VideoReader(os.path.abspath(path), num_threads=1, fault_tol=1e-6)
            self.num_frames, self.fps = len(self._reader), float(self._reader.get_avg_fps())

    def __enter__(self) -> "DecordVideo":
        return self

    def __exit__(self, *_: object) -> None:
        del self._reader

    def read(self, indices: Sequence[int] | np.ndarray) -> UInt8[np.ndarray, "T H W 3"]:
        """As `PyAVVideo.read`."""
        wanted, place = np.unique(checked_indices(self._path, indices, self.num_frames), return_inverse=True)
        with reported(self._path, self.decoder, *self._errors):
            frames = self._reader.get_batch(wanted).asnumpy()
        return frames if np.array_equal(place, np.arange(len(wanted))) else frames[place]

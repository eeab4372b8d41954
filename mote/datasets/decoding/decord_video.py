"""Frames through decord (`data.decoder=decord`, `decord_single`), for comparison with numbers that were made with it.

decord does not report the time of the frames it hands out, and numbers them by the order of packets. On MPEG-4 in AVI
(HMDB51, UCF101), on MPEG-TS, on HEVC and on H.264 with open groups of pictures it returns other frames than those asked
for, without an error: up to 22 frames away in our measurements of decord 0.6. Its maintained continuation decord2 3.4,
which is meant here, is right on more of them, but still not on the MPEG-4 files of HMDB51. It is exact for closed
groups of pictures in MP4 and Matroska. Frames asked for one by one, as by many published loaders, are others again on
those files: each then also depends on what was read before, and after a step back most are one frame early.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import av
import numpy as np
from jaxtyping import Int64

from mote.datasets.decoding.errors import checked_indices, reported
from mote.datasets.decoding.reading import Frame, OpenVideo
from mote.datasets.decoding.streams import OPTIONS, UPRIGHT, display_matrix, video_stream


def import_decord(decoder: str = "decord") -> ModuleType:
    """The package, set up; raises ValueError, saying what to install, where it is missing."""
    os.environ.setdefault("DECORD_EOF_RETRY_MAX", "1024")  # decord's default waits ten times longer on cut files
    try:
        import decord
    except ImportError as error:
        problem = "decord is not installed; pip install decord2, or take pyav"
        raise ValueError(f"data.decoder={decoder}: {problem}") from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord


class DecordVideo(OpenVideo):
    """A video file that decord opens; which frames it gives, see the top of this file."""

    decoder = "decord"
    fault_tol = 1e-6  # a frame copied from its neighbour because it could not be decoded is an error

    def __init__(self, path: Path | str):
        super().__init__(path)
        decord = import_decord(self.decoder)
        self._errors = decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, AssertionError
        with reported(self._path, self.decoder, *self._errors):
            _refuse_mirrored(self._path)
            self._reader = decord.VideoReader(os.path.abspath(path), num_threads=1, fault_tol=self.fault_tol)
            self.num_frames, self.fps = len(self._reader), float(self._reader.get_avg_fps())

    def __exit__(self, *_: object) -> None:
        del self._reader

    def frames(self, wanted: Int64[np.ndarray, "N"]) -> Iterator[Frame]:
        """See `OpenVideo.frames`; all are held at once: asked for one by one, decord gives others of an AVI file."""
        with reported(self._path, self.decoder, *self._errors):
            yield from self._reader.get_batch(wanted).asnumpy()


class DecordSingleVideo(DecordVideo):
    """The same, where frames are read one by one, in the order in which they are asked for and as often.

    As by the loaders that read so, a frame that decord takes from its neighbour is no error. Twelve readings of five
    files of HMDB51 gave the same frames (`get_batch` gave two versions of three of them); of small MPEG-4 files that we
    made with B frames they differ from one reading to the next.
    """

    decoder = "decord_single"
    fault_tol = -1  # decord's default

    def read(
        self, indices: Sequence[int] | np.ndarray, each: Callable[[Frame], np.ndarray] | None = None
    ) -> np.ndarray:
        """See `OpenVideo.read`."""
        wanted = checked_indices(self._path, indices, self.num_frames)
        with self._steady():
            return np.stack([frame if each is None else each(frame) for frame in self.frames(wanted)])

    def frames(self, wanted: Int64[np.ndarray, "N"]) -> Iterator[Frame]:
        """Frames at `wanted`, in any order; see `OpenVideo.frames`."""
        with reported(self._path, self.decoder, *self._errors):
            for number in wanted.tolist():
                yield self._reader[number].asnumpy()


def _refuse_mirrored(path: str) -> None:
    """Raise ValueError for what decord takes for a video and is none, or would show as it is not: it never mirrors."""
    with av.open(os.path.abspath(path), options=OPTIONS) as container:
        frame = next(container.decode(video_stream(container)), None)
        a, b, c, d = UPRIGHT if frame is None else display_matrix(frame)
        if a * d - b * c < 0:
            raise ValueError("its display matrix mirrors frames, which decord does not; take data.decoder=pyav")

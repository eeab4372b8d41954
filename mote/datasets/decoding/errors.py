"""What is said of videos that cannot be decoded, whatever decodes them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from jaxtyping import Int64


class DecodeError(Exception):
    """A video that cannot be decoded: `path` (str), `decoder` tried (str), `cause` (str). One line, and it pickles."""

    def __init__(self, path: Path | str, decoder: str = "", cause: str = ""):
        super().__init__(str(path), decoder, cause)
        self.path, self.decoder, self.cause = str(path), decoder, cause

    def __str__(self) -> str:
        if not self.cause:  # re-raised by DataLoader as type(traceback text), whose last line is the message
            return self.path.strip().rsplit("\n", 1)[-1].removeprefix(f"{__name__}.DecodeError: ")
        advice = "replace the file or take it off the list"
        return f"{self.path}: cannot be decoded by {self.decoder}: {self.cause}; {advice}"


class FrameOrderError(DecodeError):
    """The list of times contradicts the frames; the video counts frames from now on, so sample again and re-read."""


def checked_indices(path: str, indices: Sequence[int] | np.ndarray, num_frames: int) -> Int64[np.ndarray, "T"]:
    """Frame numbers (T,) as an array; ValueError for something else, IndexError outside 0..num_frames-1."""
    array = np.asarray(indices)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise ValueError(f"{path}: expected a list of frame numbers, got {indices!r}")
    if array.min() < 0 or array.max() >= num_frames:
        raise IndexError(f"{path}: frames {array.min()}..{array.max()} asked for, but it has 0..{num_frames - 1}")
    return array.astype(np.int64)


@contextmanager
def reported(path: str, decoder: str, *kinds: type[Exception]) -> Iterator[None]:
    """What FFmpeg, the system, or a check here says against a file becomes one DecodeError."""
    try:
        yield
    except (FFmpegError, OSError, ValueError, *kinds) as error:
        lines = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().splitlines()
        raise DecodeError(path, decoder, lines[0]) from error

"""What is said of videos that cannot be decoded, whatever decodes them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from jaxtyping import Int64

from mote.files.addresses import without_secrets

ADVICE = "replace the file or take it off the list"  # where the cause has none, after a semicolon


class DecodeError(Exception):
    """A video that cannot be decoded: `path` (str), `decoder` tried (str), `cause` (str). One line, and it pickles.

    Of an address `path` holds what may be shown, see `without_secrets`.
    """

    def __init__(self, path: Path | str, decoder: str = "", cause: str = ""):
        shown = without_secrets(path) if cause else str(path)
        super().__init__(shown, decoder, cause)
        self.path, self.decoder, self.cause = shown, decoder, cause

    def __str__(self) -> str:
        if not self.cause:  # re-raised by DataLoader as type(traceback text), whose last line is the message
            return self.path.strip().rsplit("\n", 1)[-1].removeprefix(f"{__name__}.DecodeError: ")
        advice = "" if "; " in self.cause else f"; {ADVICE}"
        return f"{self.path}: cannot be decoded by {self.decoder}: {self.cause}{advice}"


class RemoteError(ValueError):
    """What is wrong with a file at an address: a few words and what to do, without credentials."""


class FrameOrderError(DecodeError):
    """The list of times contradicts the frames; the video counts frames from now on, so sample again and re-read."""


def checked_indices(path: str, indices: Sequence[int] | np.ndarray, num_frames: int) -> Int64[np.ndarray, "T"]:
    """Frame numbers (T,) as an array; ValueError for something else, IndexError outside 0..num_frames-1."""
    path, array = without_secrets(path), np.asarray(indices)
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
    except RemoteError as error:
        raise DecodeError(path, decoder, str(error)) from None  # its cause may hold credentials
    except (FFmpegError, OSError, ValueError, *kinds) as error:
        lines = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().splitlines()
        raise DecodeError(path, decoder, lines[0]) from error

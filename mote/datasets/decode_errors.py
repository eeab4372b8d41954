"""What is said against a video file: one line that names it, its decoder and the cause."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from av.error import FFmpegError


class DecodeError(Exception):
    """A video that cannot be decoded: `path` (str), `backend` tried (str), `cause` (str). One line, and it pickles."""

    def __init__(self, path: Path | str, backend: str = "", cause: str = ""):
        super().__init__(str(path), backend, cause)
        self.path, self.backend, self.cause = str(path), backend, cause

    def __str__(self) -> str:
        if not self.cause:  # re-raised by DataLoader as type(traceback text), whose last line is the message
            return self.path.strip().rsplit("\n", 1)[-1].removeprefix(f"{__name__}.DecodeError: ")
        advice = "replace the file or take it off the list"
        return f"{self.path}: cannot be decoded by {self.backend}: {self.cause}; {advice}"


class FrameOrderError(DecodeError):
    """The list of times contradicts the frames; the video counts frames from now on, so sample again and re-read."""


@contextmanager
def reported(path: str, backend: str, *kinds: type[Exception]) -> Iterator[None]:
    """What FFmpeg, the system, or a check here says against a file becomes one DecodeError."""
    try:
        yield
    except (FFmpegError, OSError, ValueError, *kinds) as error:
        lines = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().splitlines()
        raise DecodeError(path, backend, lines[0]) from error

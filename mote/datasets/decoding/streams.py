"""What a file says of its video: which stream of it is one, and which way up its frames are shown."""

import os
from io import RawIOBase
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from jaxtyping import UInt8

NOT_MOVING = Disposition.attached_pic | Disposition.timed_thumbnails  # the cover of a song, pictures for a seek bar
OPTIONS = {"protocol_whitelist": "file,subfile"}  # a playlist in the place of a video opens nothing from elsewhere
REMOTE_OPTIONS = {"protocol_whitelist": "none"}  # what lies at an address opens nothing at all, here or elsewhere
NO_VIDEOS = {"tty": "a text", "hls": "a playlist", "dash": "a playlist", "concat": "a playlist", "sdp": "a playlist"}
UPRIGHT = (1, 0, 0, 1)
QUARTERS = (UPRIGHT, (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))  # counter-clockwise
TOLERANCE = 0.0175  # sine of one degree


def video_stream(container: InputContainer) -> av.VideoStream:
    """The stream of moving images of an open file.

    Raises:
        ValueError: it has none that can be decoded; the cover of a song is none, nor is text drawn as images.
    """
    for name in set(container.format.name.split(",")) & NO_VIDEOS.keys():
        raise ValueError(f"it is {NO_VIDEOS[name]}")
    moving = [stream for stream in container.streams.video if not stream.disposition & NOT_MOVING]
    if not moving:
        raise ValueError("it has no video stream" + (", only a cover picture" if container.streams.video else ""))
    best = container.streams.best("video")
    stream = best if isinstance(best, av.VideoStream) and best in moving else moving[0]
    if stream.codec_context is None:
        raise ValueError("there is no decoder for its codec")
    return stream


def is_video(file: Path | str | RawIOBase) -> bool:
    """Whether FFmpeg opens a file, whatever its name says, and finds moving images in it."""
    try:
        opened, options = (file, REMOTE_OPTIONS) if isinstance(file, RawIOBase) else (os.path.abspath(file), OPTIONS)
        with av.open(opened, "r", options=options) as container:
            still = container.format.name.endswith("_pipe") or container.format.name == "image2"
            return not still and bool(video_stream(container))
    except (FFmpegError, OSError, ValueError):
        return False


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d), each of -1, 0, 1: the pixel at (x, y) is shown at (a x + c y, b x + d y), but for a shift.

    What FFmpeg's autorotation, hence a player, makes of the matrix of the file: its scale is left out, and a matrix of
    zeros is none.

    Raises:
        ValueError: the matrix is none of the eight that turn by quarters and mirror.
    """
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV knows not all kinds of side data, such as EXIF in Motion JPEG; it still tells the angle
        return QUARTERS[round(frame.rotation / 90) % 4]
    if data is None:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    rows = np.array([[a, c], [b, d]], dtype=float)
    if not rows.any():
        return UPRIGHT
    lengths = np.hypot(rows[:, 0], rows[:, 1])[:, None]
    turned = rows / np.where(lengths, lengths, 1.0)
    whole = np.rint(turned)
    if abs(turned - whole).max() > TOLERANCE or abs(whole).sum(0).tolist() != [1, 1]:
        raise ValueError("its display matrix turns frames by other than quarters of a circle; encode it upright")
    (a, c), (b, d) = whole.astype(int).tolist()
    return a, b, c, d


def upright(pixels: UInt8[np.ndarray, "H W 3"], matrix: tuple[int, int, int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """A frame as it is shown, from the pixels as they are stored."""
    if matrix == UPRIGHT:
        return pixels
    a, b, c, d = matrix
    if a == 0:
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[::d, ::a])

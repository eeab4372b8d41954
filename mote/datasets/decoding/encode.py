"""From frames to a small video file: H.264 (4:2:0) in MP4 through PyAV, the same bytes for the same frames."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from mote.files.writing import replacing

# With B-frames or weighted prediction x264 gave up to 15 different files in 60 runs for the same frames of this size
# (its look-ahead reads memory that nobody wrote); without its look-ahead it gave one.
X264 = {"preset": "veryfast", "crf": "20", "threads": "1"}
X264["x264-params"] = "bframes=0:weightp=0:mbtree=0:rc-lookahead=0:scenecut=0"

AT_ONCE = 32  # frames whose colours are converted together
BT601 = ((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214))  # rows Y, U, V of RGB in 0..1


def write_video(path: Path | str, frames: Iterable[UInt8[np.ndarray, "H W 3"]], fps: int = 12) -> None:
    """Write `frames`, (T, H, W, 3) or as they come, as H.264 in mp4 (yuv420p, one thread: same frames, same file).

    Raises:
        ValueError: no frame.
    """
    rest = iter(frames)
    if (first := next(rest, None)) is None:
        raise ValueError(f"{path}: a video needs at least one frame")
    with replacing(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=X264)
        stream.height, stream.width, stream.pix_fmt = *first.shape[:2], "yuv420p"
        stream.codec_context.thread_count = 1
        for planes in _planes(chain([first], rest)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode())


def _planes(frames: Iterator[UInt8[np.ndarray, "H W 3"]]) -> Iterator[UInt8[np.ndarray, "planes W"]]:
    while some := list(islice(frames, AT_ONCE)):
        yield from yuv420(np.stack(some))


def yuv420(frames: UInt8[np.ndarray, "T H W 3"]) -> UInt8[np.ndarray, "T planes W"]:
    """RGB to planar YUV 4:2:0, BT.601 studio range: rows of Y, then of U and V at half size; H and W are even.

    Done here because the converter of FFmpeg starts threads for every frame (20 times slower on busy cores).
    """
    num_frames, height, width, _ = frames.shape
    rgb = np.moveaxis(frames, -1, 0).astype(np.float32)  # (3, T, H, W)
    half = rgb.reshape(3, num_frames, height // 2, 2, width // 2, 2).mean(axis=(3, 5))
    planes = (rgb, half, half)
    y, u, v = (
        sum(np.float32(w / 255) * c for w, c in zip(*pair, strict=True)) for pair in zip(BT601, planes, strict=True)
    )
    chroma = np.concatenate([u, v], axis=1).reshape(num_frames, height // 2, width) + 128.5
    return np.concatenate([y + 16.5, chroma], axis=1).astype(np.uint8)  # + 0.5: rounded when cut to integers

"""Long videos made of short ones, with a list of what happens when: to measure timelines against known segments."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from mote.datasets.decoding.decode import open_video
from mote.datasets.decoding.encode import write_video
from mote.datasets.decoding.reading import Frame
from mote.datasets.lists.segments import COLUMNS
from mote.files.writing import csv_text, refuse_filled, write_atomic

Clip = tuple[Path, str | None]  # a video and the name of its class; None: of no class that is listed
SEGMENTS = "segments.csv"


def join_clips(
    clips: Sequence[Clip], folder: Path, *, per_video: int, size: tuple[int, int], fps: int, seed: int = 0
) -> Path:
    """Shuffle the clips, lay `per_video` of them end to end in each video, and list the segments.

    Neighbours of one class are one segment; a clip whose name is None is in the video and not in the list. Frames are
    taken at `fps` moments a second of each clip and brought to `size` without distortion, on black.

    Args:
        clips: each is used once; those left over after the last full video make a shorter one.
        folder: for the videos and `segments.csv`; missing or empty.
        per_video: clips of a video, at least 1.
        size: (width, height) of the videos in pixels, even numbers.
        fps: frames a second.
        seed: of the order.

    Returns:
        `segments.csv`, with the columns path, start, end (seconds from the first frame) and label.

    Raises:
        ValueError: no clips, or numbers out of range.
        FileExistsError: there is something in the folder.
        DecodeError: a clip cannot be decoded.
    """
    if not clips or per_video < 1 or fps < 1 or any(side < 2 or side % 2 for side in size):
        raise ValueError(
            f"expected some clips, at least 1 per video, fps of at least 1 and an even size, "
            f"got {len(clips)} clips, {per_video}, {fps} and {size[0]}x{size[1]}"
        )
    refuse_filled(folder)
    order = np.random.default_rng(seed).permutation(len(clips))
    rows: list[tuple[object, ...]] = []
    with tqdm(total=len(clips), desc="long videos", unit="clip", disable=None) as bar:
        for number, start in enumerate(range(0, len(clips), per_video)):
            parts, lengths = [clips[i] for i in order[start : start + per_video]], list[int]()

            def frames(parts: Sequence[Clip] = parts, lengths: list[int] = lengths) -> Iterator[Frame]:
                for path, _ in parts:
                    clip = _clip(path, size, fps)
                    lengths.append(len(clip))
                    yield from clip
                    bar.update()

            name = f"{number:04d}.mp4"
            write_video(folder / name, frames(), fps)
            rows += _segments(name, [label for _, label in parts], lengths, fps)
    write_atomic(folder / SEGMENTS, csv_text(COLUMNS, rows))
    return folder / SEGMENTS


def _clip(path: Path, size: tuple[int, int], fps: int) -> UInt8[np.ndarray, "T H W 3"]:
    """Frames shown at the middle of every 1/fps second of a video, at `size`."""
    with open_video(path) as video:
        count = max(1, round(video.end * fps))
        shown = np.searchsorted(video.times, (np.arange(count) + 0.5) / fps, side="right") - 1
        return video.read(shown, lambda frame: _fitted(frame, size))


def _fitted(frame: Frame, size: tuple[int, int]) -> Frame:
    """The frame as large as `size` allows, in the middle of a black one."""
    height, width = frame.shape[:2]
    if (width, height) == size:
        return frame
    scale = min(size[0] / width, size[1] / height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    whole = Image.new("RGB", size)
    small = Image.fromarray(frame).resize(inner, Image.Resampling.BICUBIC)
    whole.paste(small, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return np.asarray(whole)


def _segments(video: str, labels: Sequence[str | None], lengths: Sequence[int], fps: int) -> list[tuple[object, ...]]:
    """Lines of the list for one video; one that says so where nothing is in it."""
    ends = np.cumsum(lengths)
    rows: list[tuple[object, ...]] = []
    begin = 0
    for k, label in enumerate(labels):
        if k + 1 < len(labels) and labels[k + 1] == label:
            continue  # goes on
        if label is not None:
            rows.append((video, f"{begin / fps:.6f}", f"{ends[k] / fps:.6f}", label))
        begin = int(ends[k])
    return rows or [(video, "", "", "")]

"""Small clips of the synthetic world, each of another length."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip

NAMES = ["red star", "blue arrow", "green ball"]


def write_videos(folder: Path, count: int, damaged: Collection[int] = ()) -> list[Path]:
    """Clips 0.mp4, 1.mp4, ... of 5, 8, 11, ... frames; the `damaged` ones hold no video."""
    files = [folder / f"{number}.mp4" for number in range(count)]
    for number, file in enumerate(files):
        write_video(file, render_clip(np.random.default_rng(number), NAMES[number % 3], "growing", 5 + 3 * number))
        if number in damaged:
            file.write_bytes(b"no video")
    return files

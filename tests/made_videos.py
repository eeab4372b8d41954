"""Small clips of the synthetic world: each of another length, or in the folders and lists of a published data set."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from mote.datasets.decoding.encode import write_video
from mote.datasets.lists.manifest import read_class_ids
from mote.datasets.synthetic.clips import render_clip

NAMES = ["red star", "blue arrow", "green ball"]
CLASSES = Path(__file__).parents[1] / "data" / "classes"
UCF101 = {"Archery": 2, "Bowling": 15, "MoppingFloor": 54, "SkyDiving": 82}  # as classInd.txt has them, minus 1


def write_videos(folder: Path, count: int, damaged: Collection[int] = ()) -> list[Path]:
    """Clips 0.mp4, 1.mp4, ... of 5, 8, 11, ... frames; the `damaged` ones hold no video."""
    files = [folder / f"{number}.mp4" for number in range(count)]
    for number, file in enumerate(files):
        write_video(file, render_clip(np.random.default_rng(number), NAMES[number % 3], "growing", 5 + 3 * number))
        if number in damaged:
            file.write_bytes(b"no video")
    return files


def write_ucf101(videos: Path, splits: Path) -> None:
    """UCF101 as it is published, with four videos of four classes, one of each in each of the three test lists."""
    splits.mkdir()
    every = []
    for i, folder in enumerate(UCF101):
        (videos / folder).mkdir(parents=True)
        for n in range(4):
            frames = render_clip(np.random.default_rng(10 * i + n), "red star", "moving left", 12)
            write_video(videos / folder / f"v{n}.mp4", frames)
            every.append((f"{folder}/v{n}.avi", UCF101[folder] + 1, n))
    for k in (1, 2, 3):
        (splits / f"testlist0{k}.txt").write_text("".join(f"{path}\n" for path, _, n in every if n == k))
        (splits / f"trainlist0{k}.txt").write_text("".join(f"{p} {label}\n" for p, label, n in every if n != k))
    ids = read_class_ids(CLASSES / "ucf101.csv") or []
    (splits / "classInd.txt").write_text("".join(f"{n} {name}\n" for n, name in enumerate(ids, 1)))

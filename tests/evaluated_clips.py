"""A few real clips, some of them of no listed class, with the lists that `mote eval` takes."""

from pathlib import Path

import numpy as np

from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip

CLASSES = ("red star moving left", "blue arrow growing", "green ball circling")


def write_clips(folder: Path, count: int = 7) -> None:
    """clip 0..count-1.mp4, list.txt, classes.txt; other/*.mp4 of no such class, and other.csv that lists them."""
    (folder / "other").mkdir(parents=True)
    lines = []
    for i in range(count):
        thing, motion = CLASSES[i % 3].split(" ", 2)[:2], CLASSES[i % 3].split(" ", 2)[2]
        write_video(folder / f"clip {i}.mp4", render_clip(np.random.default_rng(i), " ".join(thing), motion, 12))
        lines.append(f"clip {i}.mp4 {i % 3}\n")
    (folder / "list.txt").write_text("".join(lines))
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    for i in range(3):
        frames = render_clip(np.random.default_rng(50 + i), "purple heart", "shaking", 12)
        write_video(folder / "other" / f"{i}.mp4", frames)
    rows = [f"other/{i}.mp4,purple heart shaking\n" for i in range(3)]
    (folder / "other.csv").write_text("path,label\n" + "".join(rows))


def settings(folder: Path, *more: str) -> list[str]:
    """Overrides for `mote eval` on the clips."""
    where = [f"evaluation.manifest={folder / 'list.txt'}", f"evaluation.classes={folder / 'classes.txt'}"]
    return [*where, "data.workers=0", *more]

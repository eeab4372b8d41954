"""A second synthetic world: faded clips of objects that each have one habitual motion.

In the world of `clips.py` nearly every zero-shot test needs a motion, which a still-image model cannot know. Here the
regime is that of action recognition with CLIP: most classes can be told from a single frame, though not reliably
(colours are faded, frames blurred and noisy), and training classes are also tied to a motion. A temporal head gains on
them by learning the motions, at the risk of unlearning what the image-text model knows of other objects.

A class is an object and its habit, "red star moving left"; no object has two. All objects are among those that tiny
CLIP was pretrained on. Splits of `make_habits` (classes x clips by default):

- `train`, `closed_choice`, `closed_test`: 24 seen objects, new clips in each split;
- `choice`: 12 objects of no training clip, to choose settings on;
- `unseen`: 28 more objects of no training clip, for the zero-shot test. `unseen_objects_classes.txt` names them
  without their motions, for the same clips.

`closed_choice` and `choice` are for choosing, `closed_test` and `unseen` for reporting.
"""

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from mote.datasets.synthetic.clips import MOTIONS, PRETRAINED, render_clip, split_class
from mote.datasets.synthetic.world import Split, write_world
from mote.files.writing import write_atomic

SIZES = {"seen": 24, "choice": 12, "unseen": 28}  # objects of each group, 64 in all
CLIPS_PER_CLASS = {"train": 40, "closed_choice": 10, "closed_test": 20, "choice": 20, "unseen": 20}
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
VERSION = 1  # of rendering, splits and encoding: a folder made by another version is not reused


def _habits() -> dict[str, tuple[str, ...]]:
    """Class names of each group; the motions come in turn, so every group has each of them nearly equally often."""
    objects = [PRETRAINED[i] for i in np.random.default_rng(0).permutation(len(PRETRAINED))]
    groups, start = {}, 0
    for name, size in SIZES.items():
        part = objects[start : start + size]
        groups[name] = tuple(f"{thing} {MOTIONS[i % len(MOTIONS)]}" for i, thing in enumerate(part))
        start += size
    return groups


HABITS = _habits()
CLASSES = {
    "train": HABITS["seen"],
    "closed_choice": HABITS["seen"],
    "closed_test": HABITS["seen"],
    "choice": HABITS["choice"],
    "unseen": HABITS["unseen"],
}


def make_habits(
    folder: Path | str,
    *,
    seed: int = 0,
    clips_per_class: dict[str, int] | None = None,
    num_frames: int = 16,
    fps: int = 12,
    workers: int | None = None,
) -> dict[str, Split]:
    """Files of each split by name, written under `folder`; `unseen_objects` is `unseen` with the motions left out.

    Args:
        folder: of the world; a complete one with the same settings is reused.
        seed: the clips depend on it and on their split and number alone.
        clips_per_class: instead of entries of `CLIPS_PER_CLASS`.
        num_frames, fps: of a clip.
        workers: processes; None: all cores; 0: this one.

    Raises:
        ValueError: a split in `clips_per_class` that there is not.
    """
    folder = Path(folder)
    names = folder / "unseen_objects_classes.txt"
    write_atomic(names, "".join(f"{split_class(title)[0]}\n" for title in HABITS["unseen"]))
    splits = write_world(
        folder,
        CLASSES,
        CLIPS_PER_CLASS,
        clips_per_class or {},
        partial(render_habit, num_frames=num_frames),
        {"habits": VERSION, "seed": seed, "num_frames": num_frames, "fps": fps},
        workers,
    )
    return {**splits, "unseen_objects": Split(splits["unseen"].manifest, names)}


def render_habit(rng: np.random.Generator, title: str, num_frames: int = 16) -> UInt8[np.ndarray, "T H W 3"]:
    """Faded clip of a class, "red star moving left": uint8 (num_frames, SIZE, SIZE, 3)."""
    return fade(rng, render_clip(rng, *split_class(title), num_frames))


def fade(rng: np.random.Generator, frames: UInt8[np.ndarray, "T H W 3"]) -> UInt8[np.ndarray, "T H W 3"]:
    """Frames with less colour and contrast, blurred, and noisy, each alike in all frames of the clip.

    Saturation is multiplied by 0.35 to 0.75, contrast around the mean of the clip by 0.5 to 0.85; the blur is the mean
    of a square of 2 or 3 pixels; noise is uniform, up to 2 to 7 levels either way, equal in the three colours.
    """
    x = frames.astype(np.float32)
    grey = (x @ LUMA)[..., None]
    x = grey + np.float32(rng.uniform(0.35, 0.75)) * (x - grey)
    mean = x.mean(dtype=np.float64).astype(np.float32)
    x = _blurred(mean + np.float32(rng.uniform(0.5, 0.85)) * (x - mean), int(rng.integers(2, 4)))
    amplitude = int(rng.integers(2, 8))
    x += rng.integers(-amplitude, amplitude + 1, (*x.shape[:3], 1), dtype=np.int8)
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def _blurred(frames: Float32[np.ndarray, "T H W 3"], side: int) -> Float32[np.ndarray, "T H W 3"]:
    """Mean over a square of `side` pixels, the border repeated."""
    before, height, width = (side - 1) // 2, *frames.shape[1:3]
    edges = (before, side - 1 - before)
    padded = np.pad(frames, ((0, 0), edges, edges, (0, 0)), mode="edge")
    rows = np.stack([padded[:, i : i + height] for i in range(side)]).mean(axis=0)
    return np.stack([rows[:, :, i : i + width] for i in range(side)]).mean(axis=0)

"""The synthetic world of `mote demo`: small H.264 clips of coloured shapes whose motion no single frame gives away.

An *object* is a colour and a shape ("red star"), a *class* an object and a motion ("red star moving left"). Objects
have a random size, angle and texture and stand before a random panning background among drifting discs; a still image
is one frame of a clip with a random motion, so that stills and clips look alike. Per frame, opposite motions have
exactly the same distribution (they are the same tracks run backward), and sizes, angles and opacities are matched
between all motions; position ranges differ slightly between motions that need room and those that do not.

Splits of `make_world` (classes x clips by default):

- `train`, `closed_test`: 72 of the 120 pairs of 10 objects and 12 motions, new clips for the test;
- `unseen_pairs`: the other 48 pairs;
- `unseen_objects`: 6 objects that are in no training clip, doing the 12 motions;
- `appearance`: 24 objects that are in no training clip, named without motion.

Every object of these splits was in the still images that tiny CLIP was pretrained on; `HELD_OUT` objects were not.
"""

from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from mote.datasets.synthetic.drawing import (
    BACKGROUNDS,
    COLOURS,
    MARGIN,
    SHAPES,
    SIZE,
    Track,
    draw_background,
    draw_disc,
    draw_object,
)
from mote.datasets.synthetic.world import Split, write_world

MOTIONS = (
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "turning clockwise",
    "turning counterclockwise",
    "growing",
    "shrinking",
    "bouncing",
    "blinking",
    "circling",
    "shaking",
)
OBJECTS = tuple(f"{colour} {shape}" for colour, shape in product(COLOURS, SHAPES))
# Two of every ten objects, each colour twice: never shown to tiny CLIP in pretraining, never used in the clips.
HELD_OUT = tuple(f"{c} {SHAPES[(3 * i + step) % 10]}" for i, c in enumerate(COLOURS) for step in (1, 6))
PRETRAINED = tuple(name for name in OBJECTS if name not in HELD_OUT)

# The objects of the videos.
SEEN_OBJECTS = ("red star", "blue arrow", "green ball", "yellow moon", "purple heart")
SEEN_OBJECTS += ("orange cross", "cyan ring", "pink triangle", "red bolt", "blue square")
UNSEEN_OBJECTS = ("green star", "orange heart", "cyan arrow", "yellow ring", "purple moon", "pink square")
APPEARANCE = tuple(name for name in PRETRAINED if name not in SEEN_OBJECTS + UNSEEN_OBJECTS)[::2]

# Of every object two residues of five are unseen: 72 seen and 48 unseen pairs, 6 seen objects for every motion.
SEEN_PAIRS = tuple(
    f"{thing} {motion}"
    for (i, thing), (j, motion) in product(enumerate(SEEN_OBJECTS), enumerate(MOTIONS))
    if (2 * i + j) % 5 > 1
)
UNSEEN_PAIRS = tuple(f"{thing} {motion}" for thing, motion in product(SEEN_OBJECTS, MOTIONS))
UNSEEN_PAIRS = tuple(name for name in UNSEEN_PAIRS if name not in SEEN_PAIRS)
UNSEEN_OBJECT_PAIRS = tuple(f"{thing} {motion}" for thing, motion in product(UNSEEN_OBJECTS, MOTIONS))

CLASSES = {
    "train": SEEN_PAIRS,
    "closed_test": SEEN_PAIRS,
    "unseen_pairs": UNSEEN_PAIRS,
    "unseen_objects": UNSEEN_OBJECT_PAIRS,
    "appearance": APPEARANCE,
}
CLIPS_PER_CLASS = {"train": 32, "closed_test": 8, "unseen_pairs": 10, "unseen_objects": 6, "appearance": 10}
TILT = np.pi / 4  # objects lean at most this far to either side; a turn goes from one side to the other
EDGE = 12  # pixels: the centre of an object stays that far from the border
COLUMNS = ("far left", "left", "centre", "right", "far right")  # fifths of what EDGE leaves
ROWS = ("very top", "top", "mid height", "bottom", "very bottom")
VERSION = 1  # of rendering, splits and encoding: a folder made by another version is not reused


class Still(NamedTuple):
    """One still image and what is true of it, for captions."""

    image: UInt8[np.ndarray, "H W 3"]
    background: str  # of BACKGROUNDS
    column: str  # of COLUMNS
    row: str  # of ROWS
    size: str  # "small" below 10 pixels of radius, "large" above 14, else "medium"
    lean: str  # "leaning left" or "leaning right" by more than 15 degrees, else "upright"
    strength: str  # "bright" or "faded"


def render_clip(
    rng: np.random.Generator, thing: str, motion: str, num_frames: int = 16
) -> UInt8[np.ndarray, "T H W 3"]:
    """Clip of the object `thing` ("red star") doing `motion` (one of `MOTIONS`): uint8 (num_frames, SIZE, SIZE, 3)."""
    return _render(rng, thing, track(rng, motion, num_frames), str(rng.choice(BACKGROUNDS)))


def render_still(rng: np.random.Generator, thing: str) -> Still:
    """One random frame of a clip of `thing` with a random motion, and what is true of it."""
    path = track(rng, str(rng.choice(MOTIONS)), 16)
    frame = int(rng.integers(16))
    path = Track(*(values[frame : frame + 1] for values in path))
    background = str(rng.choice(BACKGROUNDS))
    image = _render(rng, thing, path, background)[0]
    x, y, radius, angle, opacity = (float(values[0]) for values in path)
    return Still(
        image,
        background,
        column=COLUMNS[min(4, int((x - EDGE) / (SIZE - 2 * EDGE) * 5))],
        row=ROWS[min(4, int((y - EDGE) / (SIZE - 2 * EDGE) * 5))],
        size="small" if radius < 10 else "large" if radius > 14 else "medium",
        lean="upright" if abs(angle) < np.pi / 12 else "leaning left" if angle < 0 else "leaning right",
        strength="faded" if opacity < 1 else "bright",
    )


def render_image(rng: np.random.Generator, thing: str) -> UInt8[np.ndarray, "H W 3"]:
    """One still image of the object `thing`: uint8 (SIZE, SIZE, 3)."""
    return render_still(rng, thing).image


def track(rng: np.random.Generator, motion: str, num_frames: int) -> Track:
    """Random track of `num_frames` frames for `motion`; opposite motions are one track run forward or backward.

    Speeds are such that 8 of 16 frames still tell the direction of a turn and see every blink and shake.
    """
    s = np.linspace(0, 1, num_frames) if num_frames > 1 else np.zeros(1)
    phase = rng.random()
    sweep = (np.arange(num_frames) + phase) / num_frames  # over random tracks, uniform in 0..1 at a random frame
    x, y = rng.uniform(-4, 4, (2, 1)) * s  # a slow drift that means nothing
    angle = np.full(num_frames, rng.uniform(-TILT, TILT))
    growth = np.full(num_frames, rng.random())  # 0 = smallest, 1 = largest
    dim = np.full(num_frames, rng.random() < 0.375)
    if motion in ("moving left", "moving right"):
        x, y = rng.uniform(20, 32) * (s if motion == "moving right" else 1 - s), x
    elif motion in ("moving up", "moving down"):
        x, y = y, rng.uniform(20, 32) * (s if motion == "moving down" else 1 - s)
    elif motion in ("turning clockwise", "turning counterclockwise"):
        angle = TILT * (2 * sweep - 1) * (1 if motion == "turning clockwise" else -1)
    elif motion in ("growing", "shrinking"):
        growth = sweep if motion == "growing" else 1 - sweep
    elif motion == "bouncing":
        y = -rng.uniform(10, 18) * np.abs(np.sin(np.pi * (2 * s + phase)))
    elif motion == "blinking":
        dim = (2 * s + phase) % 1 < 0.375
    elif motion == "circling":
        turn = 2 * np.pi * (rng.choice([-1, 1]) * rng.uniform(1, 1.4) * s + phase)
        reach = rng.uniform(8, 13)
        x, y = reach * np.cos(turn), reach * np.sin(turn)
    elif motion == "shaking":
        x = x + rng.uniform(4, 7) * np.sin(2 * np.pi * (3 * s + phase))
    else:
        raise ValueError(f"motion {motion!r} is unknown; expected one of {', '.join(MOTIONS)}")
    radius = rng.uniform(10.5, 12.5) * 0.78 * 1.8**growth
    values = (_place(rng, x), _place(rng, y), radius, angle, np.where(dim, 0.6, 1))
    return Track(*(value.astype(np.float32) for value in values))


def _place(rng: np.random.Generator, path: np.ndarray) -> np.ndarray:
    """Shift a path of coordinates to a random place where all of it keeps EDGE pixels from the borders."""
    return path + rng.uniform(EDGE - path.min(), SIZE - EDGE - path.max())


def _render(rng: np.random.Generator, thing: str, path: Track, background: str) -> UInt8[np.ndarray, "T H W 3"]:
    """Paint background, distractors and the object along `path`, then vary brightness and add noise."""
    colour, _, shape = thing.partition(" ")
    if colour not in COLOURS or shape not in SHAPES:
        raise ValueError(
            f"object {thing!r} is unknown; expected a colour of {', '.join(COLOURS)} and a shape of "
            f"{', '.join(SHAPES)}, as in 'red star'"
        )
    num_frames = len(path.x)
    s = np.linspace(-0.5, 0.5, num_frames)[:, None] if num_frames > 1 else rng.uniform(-0.5, 0.5, (1, 1))
    x, y = (MARGIN / 2 + 2 * rng.uniform(-12, 12) * s[:, 0] for _ in "xy")
    frames = draw_background(rng, background, x.astype(np.float32), y.astype(np.float32))
    for _ in range(2):
        x, y = (rng.uniform(0, SIZE) + rng.uniform(-40, 40) * s[:, 0] for _ in "xy")
        frames = draw_disc(frames, x, y, rng.uniform(2, 3.5), rng.uniform(0, 1, 3))
    paint = np.clip(np.add(COLOURS[colour], rng.uniform(-0.06, 0.06, 3)), 0, 1).astype(np.float32)
    frames = draw_object(frames, path, shape, paint, int(rng.integers(3)))
    amplitude = int(rng.integers(1, 7))
    noise = rng.integers(-amplitude, amplitude + 1, frames.shape[:3], dtype=np.int8)
    return np.clip(frames * np.float32(255 * rng.uniform(0.75, 1.1)) + noise[..., None], 0, 255).astype(np.uint8)


def make_world(
    folder: Path | str,
    *,
    seed: int = 0,
    clips_per_class: dict[str, int] | None = None,
    num_frames: int = 16,
    fps: int = 12,
    workers: int | None = None,
) -> dict[str, Split]:
    """Files of each split by name: clips, manifests and class lists, written under `folder`.

    Args:
        folder: of the world; a complete one with the same settings is reused.
        seed: the clips depend on it and on their split and number alone.
        clips_per_class: instead of entries of `CLIPS_PER_CLASS`.
        num_frames, fps: of a clip.
        workers: processes; None: all cores; 0: this one.
    """
    return write_world(
        Path(folder),
        CLASSES,
        CLIPS_PER_CLASS,
        clips_per_class or {},
        partial(_clip, num_frames),
        {"version": VERSION, "seed": seed, "num_frames": num_frames, "fps": fps},
        workers,
    )


def _clip(num_frames: int, rng: np.random.Generator, title: str) -> UInt8[np.ndarray, "T H W 3"]:
    """A clip of a class; of one without a motion, with any."""
    thing, motion = split_class(title)
    return render_clip(rng, thing, motion or str(rng.choice(MOTIONS)), num_frames)


def split_class(title: str) -> tuple[str, str]:
    """Object and motion of a class name: "red star moving left" -> ("red star", "moving left"); no motion -> ""."""
    colour, shape, *motion = title.split(" ")
    return f"{colour} {shape}", " ".join(motion)

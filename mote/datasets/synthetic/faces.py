"""Drawn faces whose expression comes up over a clip, in classes of very unequal number: the world of `mote demo faces`.

A face is an identity (skin, hair, proportions, place, size, lean) and the course of an expression: neutral, then an
onset, then the apex, weaker or stronger from clip to clip. Coordinates are those of the face: u to the right, v
downward, 1 = half its height; everything is drawn from |u|, so a mirrored face is a face of the same class.

What tells the classes apart is partly motion: fear and surprise have the same apex, but surprise comes up fast and
fades while fear comes slowly, stays and trembles; anger and disgust share their brows, and one leans forward, the other
draws back. The numbers of `COUNTS` are long-tailed; in the test part no class has fewer than 20 clips, so that a recall
means something.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, UInt8

from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.drawing import BACKGROUNDS, MARGIN, SIZE, draw_background
from mote.datasets.synthetic.world import write_clips
from mote.files.writing import csv_text, write_atomic

# The apex of every expression: brows up, their inner ends up, eyes open, corners of the mouth up, mouth open, wide,
# nose wrinkled.
APEX = {
    "happiness": (0.0, 0.0, -0.35, 1.0, 0.35, 0.25, 0.0),
    "neutral": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "sadness": (0.1, 0.8, -0.3, -0.8, 0.0, -0.1, 0.0),
    "anger": (-0.5, -1.0, -0.1, -0.35, 0.0, 0.1, 0.0),
    "surprise": (1.0, 0.1, 0.6, 0.0, 0.9, -0.25, 0.0),
    "fear": (1.0, 0.1, 0.6, 0.0, 0.9, -0.25, 0.0),
    "disgust": (-0.5, -0.9, -0.35, -0.35, 0.15, 0.0, 1.0),
}
EXPRESSIONS = tuple(APEX)
COUNTS = {  # by part and class, in the order of EXPRESSIONS
    "train": (240, 150, 95, 60, 38, 24, 12),
    "val": (48, 30, 19, 12, 8, 5, 4),
    "test": (120, 75, 48, 30, 20, 20, 20),
}
VERSION = 1  # of drawing and parts: a folder made by another version is not reused


class Faces(NamedTuple):
    """Files of the world: a list `path,label,split`, paths relative to its folder, and its classes, `id,name`."""

    manifest: Path
    classes: Path


def render_face(
    rng: np.random.Generator, expression: str, num_frames: int = 16, strength: float | None = None
) -> UInt8[np.ndarray, "T H W 3"]:
    """Clip of a random person showing `expression`: uint8 (num_frames, SIZE, SIZE, 3).

    `strength`: of the apex; None: random, 0.5 to 1. Raises ValueError for an unknown expression.
    """
    if expression not in APEX:
        raise ValueError(f"expression {expression!r} is unknown; expected one of {', '.join(APEX)}")
    s = np.linspace(0, 1, num_frames) if num_frames > 1 else np.ones(1)
    drawn = rng.uniform(0.5, 1)
    level = _course(rng, expression, s) * (drawn if strength is None else strength)  # (T,)
    apex = np.array(APEX[expression]) + rng.normal(0, 0.08, 7)
    still = rng.normal(0, (0.15, 0.12, 0.12, 0.15, 0.02, 0.1, 0.02))  # of this person at rest
    shown = still[:, None] + apex[:, None] * level  # (7, T)
    drift = [rng.uniform(-2, 2) * (s - 0.5) + SIZE / 2 + rng.uniform(-5, 5) for _ in "xy"]
    radius = rng.uniform(20, 25) * np.ones(num_frames)
    roll = rng.uniform(-0.2, 0.2) + rng.uniform(-0.08, 0.08) * s
    if expression == "fear":
        drift[0] = drift[0] + 0.9 * level * np.sin(2 * np.pi * (rng.uniform(4.5, 6) * s + rng.random()))
    radius = radius * (1 + {"anger": 0.14, "disgust": -0.14}.get(expression, 0.0) * level)
    frames = draw_background(
        rng,
        str(rng.choice(BACKGROUNDS)),
        *((MARGIN / 2 + rng.uniform(-12, 12) * (s - 0.5)).astype(np.float32) for _ in "xy"),
    )
    frames = _draw_face(rng, frames, drift[0], drift[1], radius, roll, shown)
    noise = rng.normal(0, rng.uniform(1, 5), frames.shape[:3])[..., None]
    return np.clip(frames * 255 * rng.uniform(0.75, 1.1) + noise, 0, 255).astype(np.uint8)


def make_faces(
    folder: Path | str,
    *,
    seed: int = 0,
    counts: Mapping[str, Sequence[int]] | None = None,
    num_frames: int = 16,
    fps: int = 12,
    workers: int | None = None,
) -> Faces:
    """Files of the world, written below `folder`: the clips, `faces.csv` and `classes.csv`.

    Args:
        folder: of the world; a complete one with the same settings is reused.
        seed: the clips depend on it and on their part, class and number alone.
        counts: instead of `COUNTS`.
        num_frames, fps: of a clip.
        workers: processes; None: all cores; 0: this one.
    """
    folder, numbers = Path(folder), {part: list(row) for part, row in (counts or COUNTS).items()}
    config = {"version": VERSION, "seed": seed, "counts": numbers, "num_frames": num_frames, "fps": fps}
    files, marker = Faces(folder / "faces.csv", folder / "classes.csv"), folder / "faces.json"
    if marker.is_file():
        if json.loads(marker.read_text(encoding="utf-8")) == config:
            return files
        marker.unlink()  # the clips are about to change: from here on the world is incomplete
    jobs, rows = [], []
    for place, (part, row) in enumerate(numbers.items()):
        for label, (name, count) in enumerate(zip(EXPRESSIONS, row, strict=True)):
            for i in range(count):
                path = f"{part}/{name}_{i:04d}.mp4"
                jobs.append((path, name, (seed, place, label, i)))
                rows.append((path, name, part))
    write_clips(jobs, partial(_write_face, folder, num_frames, fps), workers)
    write_atomic(files.manifest, csv_text(("path", "label", "split"), rows))
    write_atomic(files.classes, csv_text(("id", "name"), enumerate(EXPRESSIONS)))
    write_atomic(marker, json.dumps(config, indent=1))  # last: it says that everything else is complete
    return files


def _write_face(folder: Path, num_frames: int, fps: int, job: tuple[str, str, tuple[int, ...]]) -> None:
    path, name, seed = job
    write_video(folder / path, render_face(np.random.default_rng(seed), name, num_frames), fps)


def _course(rng: np.random.Generator, expression: str, s: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """How much of the apex shows at each time s in 0..1."""
    fast = expression == "surprise"
    start = rng.uniform(0.05, 0.3)
    rise = rng.uniform(0.08, 0.16) if fast else rng.uniform(0.3, 0.5)
    up = np.clip((s - start) / rise, 0, 1)
    level = up * up * (3 - 2 * up)
    if fast:  # fades again
        level = level * (1 - 0.75 * np.clip((s - start - rise - 0.15) / 0.4, 0, 1))
    return level


def _draw_face(
    rng: np.random.Generator,
    frames: Float32[np.ndarray, "T H W 3"],
    x: Float[np.ndarray, " T"],
    y: Float[np.ndarray, " T"],
    radius: Float[np.ndarray, " T"],
    roll: Float[np.ndarray, " T"],
    shown: Float[np.ndarray, "7 T"],
) -> Float32[np.ndarray, "T H W 3"]:
    """Paint a random person over `frames`; `shown`: the expression at each time, in the order of `APEX`."""
    skin = np.array([0.93, 0.75, 0.62]) * rng.uniform(0.45, 1.05) + rng.uniform(-0.03, 0.03, 3)
    hair = np.array([0.35, 0.22, 0.12]) * rng.uniform(0.1, 2.0)
    width, line = rng.uniform(0.74, 0.88), rng.uniform(-0.62, -0.5)
    pixels = np.arange(SIZE) + 0.5
    dx, dy = (pixels - x[:, None])[:, None, :], (pixels - y[:, None])[:, :, None]
    cos, sin, scale = (value[:, None, None] for value in (np.cos(roll), np.sin(roll), radius))
    u, v = np.abs(cos * dx + sin * dy) / scale, (cos * dy - sin * dx) / scale  # (T, H, W)
    brow, inner, eye, smile, mouth, wide, wrinkle = (value[:, None, None] for value in shown)

    def paint(distance: np.ndarray, colour: np.ndarray, strength: np.ndarray | float = 1.0) -> None:
        """Blend a colour in where `distance` (face units, negative inside) says; soft edges of a pixel."""
        cover = np.clip(0.5 - distance * scale, 0, 1) * strength
        frames[:] += cover[..., None] * (np.asarray(colour, np.float32) - frames)

    head = (np.hypot(u / width, v) - 1) * width
    paint(head, skin)
    paint(np.maximum(head, v - line - 0.12 * np.cos(2 * u)), hair)
    open_ = np.clip(0.11 * (1 + 0.8 * eye), 0.02, None)
    white = (np.hypot((u - 0.34) / 0.17, (v + 0.12) / open_) - 1) * np.minimum(open_, 0.17)
    paint(white, np.array([0.97, 0.97, 0.95]))
    paint(np.maximum(np.hypot(u - 0.34, v + 0.12) - 0.085, white), np.array([0.1, 0.08, 0.08]))
    along = np.clip((u - 0.16) / 0.36, 0, 1)  # 0 at the inner end of a brow
    height = -0.33 - 0.11 * brow - 0.12 * inner * (1 - along) + 0.05 * inner * along
    paint(np.maximum(np.abs(v - height) - 0.045, np.abs(u - 0.34) - 0.2), hair * 0.6)
    for place in (0.02, 0.13):
        crease = np.maximum(np.abs(v - place - 0.5 * (u - 0.1)) - 0.025, np.abs(u - 0.13) - 0.07)
        paint(crease, skin * 0.45, np.clip(wrinkle, 0, 1))
    paint(np.maximum(np.abs(v - 0.16) - 0.14, np.abs(u - 0.05) - 0.02), skin * 0.75)
    half = 0.3 * (1 + 0.6 * wide)
    middle = 0.5 + 0.2 * smile * (0.4 - (u / half) ** 2) + 0.06 * np.clip(mouth, 0, None)
    gap = 0.035 + 0.2 * np.clip(mouth, 0, None) * np.sqrt(np.clip(1 - (u / half) ** 2, 0, 1))
    paint(np.maximum(np.abs(v - middle) - gap, u - half), np.array([0.45, 0.08, 0.1]))
    return frames

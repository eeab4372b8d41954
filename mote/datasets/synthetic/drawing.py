"""Drawing for the synthetic world: antialiased shapes over panning textures, in numpy, one clip at a time.

A shape is a table of signed distances on a square of local coordinates (`_shape_table`), computed once. To draw it,
every pixel is mapped to local coordinates by the object's position, radius and angle, the distance is looked up, and
`clip(1/2 - distance in pixels, 0, 1)` is the covered part of the pixel: one gather per frame instead of supersampling.
All arrays are float32; colours are RGB in [0, 1]; x grows to the right and y downward, in pixels; angles are radians,
clockwise on the screen.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

SIZE = 64  # frames are SIZE x SIZE pixels
TABLE, REACH = 192, 1.6  # a table has TABLE x TABLE cells and covers local coordinates -REACH..REACH (radius = 1)
MARGIN = 32  # pixels that a background may pan

SHAPES = ("ball", "square", "triangle", "star", "heart", "cross", "ring", "moon", "arrow", "bolt")
BACKGROUNDS = ("plain", "striped", "checkered", "dotted", "cloudy")
COLOURS = {
    "red": (0.85, 0.08, 0.08),
    "green": (0.10, 0.65, 0.15),
    "blue": (0.10, 0.22, 0.92),
    "yellow": (0.96, 0.90, 0.10),
    "orange": (1.00, 0.50, 0.05),
    "purple": (0.50, 0.10, 0.72),
    "pink": (1.00, 0.55, 0.78),
    "cyan": (0.10, 0.85, 0.90),
}

_ARROW = [(-1, -0.3), (0.05, -0.3), (0.05, -0.8), (1, 0), (0.05, 0.8), (0.05, 0.3), (-1, 0.3)]
_BOLT = [(0.25, -1), (-0.65, 0.2), (-0.1, 0.2), (-0.3, 1), (0.65, -0.25), (0.1, -0.25), (0.45, -1)]
_CROSS = [(-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3)]
_CROSS += [(-x, -y) for x, y in _CROSS]  # the other half is the first one turned by half a turn
_SQUARE = [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]


class Track(NamedTuple):
    """Where an object is in each of T frames: centre (pixels), radius (pixels), angle (radians), opacity (0..1)."""

    x: Float32[np.ndarray, " T"]
    y: Float32[np.ndarray, " T"]
    radius: Float32[np.ndarray, " T"]
    angle: Float32[np.ndarray, " T"]
    opacity: Float32[np.ndarray, " T"]


def draw_object(
    frames: Float32[np.ndarray, "T H W 3"],
    track: Track,
    shape: str,
    colour: Float32[np.ndarray, " 3"],
    texture: int,
) -> Float32[np.ndarray, "T H W 3"]:
    """Blend an object over `frames`: its half toward local -y is bright and the other dark, so that any turn shows.

    `texture`: 0 plain, 1 striped, 2 dotted, in the object's own coordinates.
    """
    pixels = np.arange(SIZE, dtype=np.float32) + 0.5
    dx = (pixels - track.x[:, None]) / track.radius[:, None]  # (T, W)
    dy = (pixels - track.y[:, None]) / track.radius[:, None]  # (T, H)
    cos, sin = np.cos(track.angle)[:, None], np.sin(track.angle)[:, None]
    scale, centre = TABLE / (2 * REACH), TABLE / 2
    u = (cos * dx * scale + centre)[:, None, :] + (sin * dy * scale)[:, :, None]  # local x in table cells, (T, H, W)
    v = (-sin * dx * scale + centre)[:, None, :] + (cos * dy * scale)[:, :, None]
    cell = np.clip(v, 0, TABLE - 1).astype(np.int32) * TABLE + np.clip(u, 0, TABLE - 1).astype(np.int32)
    cover = np.clip(0.5 - _shape_table(shape).take(cell) * track.radius[:, None, None], 0, 1)
    cover *= track.opacity[:, None, None]
    paint = _texture_table(texture).take(cell)[..., None] * colour
    return frames + cover[..., None] * (paint - frames)


def draw_disc(
    frames: Float32[np.ndarray, "T H W 3"],
    x: Float64[np.ndarray, " T"],
    y: Float64[np.ndarray, " T"],
    radius: float,
    colour: Float64[np.ndarray, " 3"],
) -> Float32[np.ndarray, "T H W 3"]:
    """Paint a small disc, a distractor, into `frames` in place; only the pixels around it are touched."""
    for frame, cx, cy in zip(frames, x, y, strict=True):
        top, left = max(0, int(cy - radius - 1)), max(0, int(cx - radius - 1))
        patch = frame[top : max(0, int(cy + radius + 2)), left : max(0, int(cx + radius + 2))]
        down = np.arange(top, top + patch.shape[0])[:, None] + 0.5 - cy
        right = np.arange(left, left + patch.shape[1])[None, :] + 0.5 - cx
        cover = np.clip(radius + 0.5 - np.hypot(down, right), 0, 1)[..., None]
        patch += (cover * (colour - patch)).astype(np.float32)
    return frames


def draw_background(
    rng: np.random.Generator, kind: str, x: Float32[np.ndarray, " T"], y: Float32[np.ndarray, " T"]
) -> Float32[np.ndarray, "T H W 3"]:
    """Texture of two muted colours seen through a window whose corner is at (x, y), 0..MARGIN pixels, in each frame."""
    tile = _tile(rng, kind)
    column, row = x.astype(int).clip(0, MARGIN - 1), y.astype(int).clip(0, MARGIN - 1)
    windows = np.stack([tile[r : r + SIZE + 1, c : c + SIZE + 1] for r, c in zip(row, column, strict=True)])
    right, down = (x - column).astype(np.float32)[:, None, None], (y - row).astype(np.float32)[:, None, None]
    windows = windows[:, :-1] + down * (windows[:, 1:] - windows[:, :-1])
    windows = windows[:, :, :-1] + right * (windows[:, :, 1:] - windows[:, :, :-1])  # (T, H, W)
    grey = rng.uniform(0.15, 0.85)
    first = np.float32(grey + rng.uniform(-0.12, 0.12, 3))
    second = np.float32((grey + rng.choice([-1, 1]) * rng.uniform(0.08, 0.22)) + rng.uniform(-0.12, 0.12, 3))
    return first + windows[..., None] * (second - first)


def _tile(rng: np.random.Generator, kind: str) -> Float32[np.ndarray, "S S"]:
    """Pattern in 0..1 on SIZE + MARGIN + 1 pixels a side, with random scale, angle and phase."""
    side = SIZE + MARGIN + 1
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(9, 18)
    period *= 1.4 if kind == "checkered" else 1  # a check is half a period
    u = (np.cos(angle) * x + np.sin(angle) * y) * np.float32(2 * np.pi / period) + np.float32(rng.uniform(0, 6.28))
    v = (np.cos(angle) * y - np.sin(angle) * x) * np.float32(2 * np.pi / period)
    if kind == "plain":
        field = u / (2 * np.pi / period) / side * 0.5 + 0.5
    elif kind == "striped":
        field = 0.5 + 2 * np.sin(u)
    elif kind == "checkered":
        field = 0.5 + 4 * np.sin(u) * np.sin(v)
    elif kind == "dotted":
        field = 1.5 * (np.cos(u) + np.cos(v)) - 1
    elif kind == "cloudy":
        knots = rng.random((9, 9), dtype=np.float32)
        position = np.linspace(0, 7.999, side, dtype=np.float32)
        part = position % 1
        ramp = (part * part * (3 - 2 * part)).astype(np.float32)  # smooth steps between the knots
        i = position.astype(int)
        rows = knots[i] + ramp[:, None] * (knots[i + 1] - knots[i])
        field = rows[:, i] + ramp * (rows[:, i + 1] - rows[:, i])
    else:
        raise ValueError(f"background {kind!r} is unknown; expected one of {', '.join(BACKGROUNDS)}")
    return np.clip(field, 0, 1).astype(np.float32)


@cache
def _shape_table(shape: str) -> Float32[np.ndarray, "S S"]:
    """Signed distance to the outline of `shape` in units of its radius, negative inside."""
    x, y = _local_grid()
    if shape == "ball":
        distance = np.hypot(x, y) - 0.9
    elif shape == "ring":
        distance = np.abs(np.hypot(x, y) - 0.72) - 0.24
    elif shape == "moon":
        distance = np.maximum(np.hypot(x, y) - 1, 0.75 - np.hypot(x - 0.5, y))
    else:
        distance = _polygon_distance(x, y, _corners(shape))
    return distance.astype(np.float32)


def _corners(shape: str) -> np.ndarray:
    """Corners (N, 2) of the polygon shapes, within about one radius of the origin."""
    if shape == "heart":
        t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        curve = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        return np.stack([16 * np.sin(t) ** 3, -curve - 2.5], axis=1) / 16
    if shape == "star":
        t = np.arange(10) * np.pi / 5
        return np.stack([np.sin(t), -np.cos(t)], axis=1) * np.where(np.arange(10) % 2, 0.42, 1.05)[:, None]
    if shape == "triangle":
        t = np.arange(3) * 2 * np.pi / 3
        return np.stack([np.sin(t), -np.cos(t)], axis=1)
    plain = {"square": _SQUARE, "cross": _CROSS, "arrow": _ARROW, "bolt": _BOLT}
    if shape not in plain:
        raise ValueError(f"shape {shape!r} is unknown; expected one of {', '.join(SHAPES)}")
    return np.array(plain[shape], dtype=np.float64)


def _polygon_distance(x: np.ndarray, y: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Signed distance of the points (x, y) to a simple polygon: nearest edge, sign from the even-odd rule."""
    nearest, inside = np.full(x.shape, np.inf), np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ex, ey, px, py = bx - ax, by - ay, x - ax, y - ay
        along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, (px - along * ex) ** 2 + (py - along * ey) ** 2)
        if ey != 0:  # a level edge never crosses the ray to the right
            inside ^= ((ay > y) != (by > y)) & (px < ex * py / ey)
    return np.where(inside, -1, 1) * np.sqrt(nearest)


@cache
def _texture_table(texture: int) -> Float32[np.ndarray, "S S"]:
    """Brightness 0..1 of an object's paint: bright half, dark half, and stripes or dots over both."""
    x, y = _local_grid()
    pattern = (np.ones_like(x), 0.5 + 2 * np.sin(9 * x), 2.2 - 1.5 * (np.cos(9 * x) + np.cos(9 * y)))[texture]
    half = np.clip(0.5 - y * 12, 0, 1)  # 1 above the local x axis, 0 below, a soft edge between
    return ((0.68 + 0.32 * half) * (0.82 + 0.18 * np.clip(pattern, 0, 1))).astype(np.float32)


def _local_grid() -> tuple[np.ndarray, np.ndarray]:
    """Local x and y of the table's cell centres, each (TABLE, TABLE)."""
    cells = (np.arange(TABLE) + 0.5) / TABLE * 2 * REACH - REACH
    x, y = np.meshgrid(cells, cells)
    return x, y

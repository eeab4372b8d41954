"""Which frames of a video a model sees: arithmetic on `num_frames` alone, right for every length from one frame up.

Segment sampling (Wang et al., Temporal Segment Networks, 2016): T = `num_samples` segments of `tick` = num_frames / T
frames; one frame of each. In training a random one, in testing the first. Several test clips shift the T frames
together by offsets spread evenly over a segment, from 0 to tick - 1 (the protocol of Text4Vis, BIKE and MoTE).
Dense sampling (Carreira and Zisserman, 2017): T frames `stride` apart.

Deliberate deviations: products are integers, so no frame is lost to rounding; on videos shorter than T frames, where
the reference's offsets turn negative and wrap around to the end, frames repeat in order, unless a call asks for the
reference's (`wrap`); training segments are [floor(t tick), floor((t+1) tick)), so that the frames of the remainder are
drawn too.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64


def segment_indices(
    num_frames: int, num_samples: int, rng: np.random.Generator | None = None
) -> Int64[np.ndarray, "T"]:
    """One frame of each of `num_samples` equal segments: random with `rng`, else the first. (T,), non-decreasing."""
    _check(num_frames=num_frames, num_samples=num_samples)
    edges = np.arange(num_samples + 1, dtype=np.int64) * num_frames // num_samples
    first, end = edges[:-1], edges[1:]
    if rng is None:
        return first
    return rng.integers(first, np.maximum(end, first + 1))


def clip_indices(num_frames: int, num_samples: int, num_clips: int, *, wrap: bool = False) -> Int64[np.ndarray, "C T"]:
    """The test protocol of `num_clips` clips: frame t of clip c is floor(start_c + t * tick), (C, T).

    start_c = floor(c * (tick - 1) / (C - 1)), at least 0; a single clip starts at 0, which is `segment_indices`.

    wrap: starts may be negative, as in the code of Text4Vis, BIKE and MoTE (with NumPy 1.20 or later, which rounds them
    down). Sums below 0 are then cut towards 0, and -1 is the last frame. Only videos shorter than T frames differ.
    """
    _check(num_frames=num_frames, num_samples=num_samples, num_clips=num_clips)
    spread = num_frames - num_samples if wrap else max(num_frames - num_samples, 0)  # (tick - 1) * num_samples
    starts = np.arange(num_clips, dtype=np.int64) * spread // (max(num_clips - 1, 1) * num_samples)
    sums = starts[:, None] * num_samples + np.arange(num_samples, dtype=np.int64) * num_frames  # times num_samples
    return np.sign(sums) * (np.abs(sums) // num_samples) % num_frames


def dense_indices(
    num_frames: int, num_samples: int, stride: int, num_clips: int = 1, rng: np.random.Generator | None = None
) -> Int64[np.ndarray, "C T"]:
    """`num_clips` clips of `num_samples` frames, `stride` apart, (C, T).

    Starts are random with `rng`; else spread evenly from the first possible to the last, a single clip in the middle.
    A video too short for the window repeats its last frame.
    """
    _check(num_frames=num_frames, num_samples=num_samples, stride=stride, num_clips=num_clips)
    last_start = max(num_frames - 1 - (num_samples - 1) * stride, 0)
    if rng is not None:
        starts = rng.integers(0, last_start + 1, size=num_clips)
    elif num_clips == 1:
        starts = np.array([last_start // 2])
    else:
        starts = np.arange(num_clips, dtype=np.int64) * last_start // (num_clips - 1)
    window = np.arange(num_samples, dtype=np.int64) * stride
    return np.minimum(starts[:, None] + window, num_frames - 1)


def to_keyframes(indices: Int64[np.ndarray, "T"], keyframes: Sequence[int], reach: int) -> Int64[np.ndarray, "T"]:
    """Each index moved to the nearest of `keyframes` (ascending; the earlier of two) that is at most `reach` away.

    A key frame is decoded alone, another one with all since the key frame before it. Other frames than the sampled ones
    are seen, those at cuts more often, so this is for training at most.
    """
    if not len(keyframes):
        return indices
    keys = np.asarray(keyframes, dtype=np.int64)
    right = np.searchsorted(keys, indices).clip(max=len(keys) - 1)
    left = (right - 1).clip(min=0)
    nearest = np.where(np.abs(keys[left] - indices) <= np.abs(keys[right] - indices), keys[left], keys[right])
    return np.where(np.abs(nearest - indices) <= reach, nearest, indices)


def _check(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")

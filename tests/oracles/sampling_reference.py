"""Frame sampling as the papers' protocol describes it: one frame at a time, in exact fractions, with loops."""

from fractions import Fraction
from math import floor


def segment(num_frames: int, num_samples: int) -> list[tuple[int, int]]:
    """(first, last) frame of each segment; a segment shorter than one frame holds the frame it starts in."""
    tick = Fraction(num_frames, num_samples)
    bounds = []
    for t in range(num_samples):
        first = floor(t * tick)
        last = floor((t + 1) * tick) - 1
        bounds.append((first, max(first, last)))
    return bounds


def clips(num_frames: int, num_samples: int, num_clips: int) -> list[list[int]]:
    """Start offsets linspace(0, tick - 1, clips), cut to integers and never negative; frame t at offset + t * tick."""
    tick = Fraction(num_frames, num_samples)
    rows = []
    for c in range(num_clips):
        offset = Fraction(0) if num_clips == 1 else (tick - 1) * Fraction(c, num_clips - 1)
        offset = max(0, floor(offset))
        rows.append([floor(offset + t * tick) for t in range(num_samples)])
    return rows


def dense(num_frames: int, start: int, num_samples: int, stride: int) -> list[int]:
    """Walk from `start` by `stride`; at the end of the video stay on its last frame."""
    row, position = [], start
    for _ in range(num_samples):
        row.append(min(position, num_frames - 1))
        position += stride
    return row

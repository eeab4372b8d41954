"""Windows of a long video: where they lie, and which frames each of them takes, by the times at which frames are shown.

Window k begins k * `step` seconds after the first frame and lasts `length` seconds. Windows follow one another as long
as they end with the video or before; if the last one then ends before it, one more is laid against the end of the
video. So every window lasts `length`, whatever the step, and both ends of the video are seen. A video shorter than a
window is one window, from its first frame to its end.

A window takes T frames, those of its model. Segment sampling: the frames shown at the middle of T equal spans of the
window, whatever the rate of frames is or how it varies; one frame may be shown at several of them. Dense sampling: T
frames `stride` apart in the middle of the frames shown during the window; too few of them, and the last is repeated.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from mote.datasets.sampling import dense_indices

Level = Literal["frame", "window", "video"]  # what features are of
MOMENT = 1e-6  # seconds: times that are closer are one, so that rounding never takes a neighbouring frame
UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}


class Cutting(NamedTuple):
    """How videos are asked to be cut, in seconds.

    window: that one lasts. every: from one to the next. smooth: of the moving average over their scores; 0 = none.
    """

    window: float
    every: float
    smooth: float = 0.0


def cutting(window: str, every: str | None = None, smooth: str | None = None) -> Cutting:
    """What the options say, as texts, see `seconds`; `every`: None = half a window. Raises ValueError."""
    length = seconds(window, "--window")
    step = length / 2 if every is None else seconds(every, "--every")
    return Cutting(length, step, 0.0 if smooth is None else seconds(smooth, "--smooth"))


@dataclass(frozen=True)
class Windows:
    """What windows are like, and how a model takes frames from them.

    Args:
        length: seconds that a window lasts, above 0.
        step: seconds between the beginnings of two windows, above 0; may be greater than `length`, which leaves gaps.
        frames: T.
        sampling: "segment" or "dense".
        stride: frames between two of a dense sample.
    """

    length: float
    step: float
    frames: int
    sampling: str = "segment"
    stride: int = 4

    def places(self, end: float) -> Float64[np.ndarray, "N 2"]:
        """(start, end) of all windows of a video of `end` seconds."""
        if end <= self.length + MOMENT:
            return np.array([[0.0, end]])
        whole = math.floor((end - self.length + MOMENT) / self.step) + 1
        starts = np.arange(whole) * self.step
        if starts[-1] + self.length < end - MOMENT:
            starts = np.append(starts, end - self.length)
        return np.stack([starts, np.minimum(starts + self.length, end)], axis=1)

    def take(self, times: Float64[np.ndarray, "F"], places: Float64[np.ndarray, "N 2"]) -> Int64[np.ndarray, "N T"]:
        """Frame numbers (places in `times`) that the windows at `places` take, ascending in every row."""
        first, last = places[:, 0], places[:, 1]
        if self.sampling == "segment":
            middles = (np.arange(self.frames) + 0.5) / self.frames
            return shown(times, first[:, None] + middles * (last - first)[:, None])
        begins = shown(times, first)
        ends = np.maximum(np.searchsorted(times, last - MOMENT), begins + 1)
        rows = [
            begin + dense_indices(end - begin, self.frames, self.stride)[0]
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
        ]
        return np.array(rows)


def shown(times: Float64[np.ndarray, "F"], moments: Float64[np.ndarray, "*N"]) -> Int64[np.ndarray, "*N"]:
    """The frame that is shown at each moment: the last one that begins no later; the first before that."""
    return np.maximum(np.searchsorted(times, moments + MOMENT, side="right") - 1, 0)


def seconds(text: str, option: str) -> float:
    """A length of time: a number with ms, s, min or h behind it, or without: seconds.

    Raises:
        ValueError: it is none, or not above 0; `option` is named.
    """
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(ms|s|min|h)?\s*", text)
    value = float(found[1]) * UNITS[found[2] or "s"] if found else 0.0
    if not MOMENT * 1000 <= value < math.inf:
        raise ValueError(f"{option} {text}: expected a length of time of at least 1 ms, such as 2s, 500ms, 1.5 or 1min")
    return value

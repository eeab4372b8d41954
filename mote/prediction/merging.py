"""From the scores of windows to segments of a video: smoothed on request, then merged where the best name is the same.

Everything here takes windows as they come and gives what is certain so far, so that a stream is merged as a file is.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from mote.prediction.windows import MOMENT


class Scored(NamedTuple):
    """A window: seconds from the first frame of the video, and the probabilities of the K classes, which sum to one."""

    start: float
    end: float
    scores: Float64[np.ndarray, "K"]

    @property
    def centre(self) -> float:
        """Seconds at the middle of the window."""
        return (self.start + self.end) / 2


class Segment(NamedTuple):
    """A part of a video, seconds from its first frame, with one answer.

    name: None where no class reaches the threshold. score: mean over its windows of the probability of the name, or of
    the highest probability where there is none.
    """

    start: float
    end: float
    name: str | None
    score: float

    @property
    def centre(self) -> float:
        """Seconds at its middle."""
        return (self.start + self.end) / 2


def smoothed(windows: Iterable[Scored], width: float) -> Iterator[Scored]:
    """Windows whose scores are the mean over all windows with a centre at most `width` / 2 seconds from theirs.

    At both ends of the video there are fewer of them. A window comes out when the last one that it needs has come in.
    """
    if width <= 0:
        yield from windows
        return
    half = width / 2 + MOMENT
    near: deque[Scored] = deque()  # all that may still be needed
    waiting = 0  # those of them that are not yet given

    def mean(window: Scored) -> Scored:
        chosen = [other.scores for other in near if abs(other.centre - window.centre) <= half]
        return window._replace(scores=np.mean(chosen, axis=0))

    for window in windows:
        while waiting and window.centre - near[-waiting].centre > half:
            yield mean(near[-waiting])
            waiting -= 1
        near.append(window)
        waiting += 1
        while near[-waiting].centre - near[0].centre > half:
            near.popleft()
    while waiting:
        yield mean(near[-waiting])
        waiting -= 1


def merged(windows: Iterable[Scored], names: Sequence[str], *, threshold: float, step: float) -> Iterator[Segment]:
    """Segments: neighbouring windows of the same best name are one; each is given when the next one begins.

    Args:
        windows: in the order of their times.
        names: of the K classes; of equal scores the first wins.
        threshold: windows whose best score is below it have no name.
        step: see `joined`.
    """
    return joined((_answered(window, names, threshold) for window in windows), step)


def _answered(window: Scored, names: Sequence[str], threshold: float) -> Segment:
    place = int(np.argmax(window.scores))
    score = float(window.scores[place])
    return Segment(window.start, window.end, names[place] if score >= threshold else None, score)


def joined(windows: Iterable[Segment], step: float = math.inf) -> Iterator[Segment]:
    """Segments of windows, in the order of their times, each a segment of its own, with the score of its best name.

    Between windows of two names the boundary lies midway between their centres; the first segment begins with the first
    window, the last one ends with the last. Where windows are missing, as while a stream was interrupted, one segment
    ends with the window before and another begins with the window after.

    step: seconds between the beginnings of neighbours; with more between them, windows are missing.
    """
    start, scores = 0.0, list[float]()  # of the segment that is being merged
    before: Segment | None = None
    for window in windows:
        if before is None:
            start = window.start
        elif (gap := window.start - before.start > step + MOMENT) or window.name != before.name:
            middle = (before.centre + window.centre) / 2
            yield Segment(start, before.end if gap else middle, before.name, float(np.mean(scores)))
            start, scores = window.start if gap else middle, []
        scores.append(window.score)
        before = window
    if before is not None:
        yield Segment(start, before.end, before.name, float(np.mean(scores)))

"""From the scores of windows to segments of a video: smoothed on request, then merged where the best name is the same.

Everything here takes windows as they come and gives what is certain so far, so that a stream is merged as a file is.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass
class _Open:
    """The segment that is being merged."""

    start: float
    best: int | None
    scores: list[float]


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

    Between windows of two names the boundary lies midway between their centres; the first segment begins with the first
    window, the last one ends with the last. Where windows are missing, as while a stream was
    interrupted, one segment ends with the window before and another begins with the window after.

    Args:
        windows: in the order of their times.
        names: of the K classes; of equal scores the first wins.
        threshold: windows whose best score is below it have no name.
        step: seconds between the beginnings of neighbours; with more between them, windows are missing.
    """
    now: _Open | None = None
    before: Scored | None = None

    def closed(end: float) -> Segment:
        assert now is not None
        name = None if now.best is None else names[now.best]
        return Segment(now.start, end, name, float(np.mean(now.scores)))

    for window in windows:
        place = int(np.argmax(window.scores))
        score = float(window.scores[place])
        best = place if score >= threshold else None
        if now is not None and before is not None:
            gap = window.start - before.start > step + MOMENT
            if gap or best != now.best:
                middle = (before.centre + window.centre) / 2
                yield closed(before.end if gap else middle)
                now = _Open(window.start if gap else middle, best, [])
        now = now or _Open(window.start, best, [])
        now.scores.append(score)
        before = window
    if before is not None:
        yield closed(before.end)

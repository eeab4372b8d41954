"""Timelines of streams: frames come one by one with their times, segments go out as they end.

What is held: frames as the network sees them, of one window and one step, their features, and the windows that wait.
Windows and frames are those of `windows`, as of a file that ends where the stream does, except that a window during
which no frame came, as while a stream was interrupted, is left out.

A segment ends midway between the centres of two windows, (length + step) / 2 before the end of the second. That waits
for at most length / 2 more until a call of the tower is full, so that a segment is known `delay` seconds after its end,
and half the width of smoothing later where that is asked for: seconds of the stream, besides the time of computing.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from mote.datasets.decoding.reading import Frame
from mote.inference.classifier import VideoClassifier
from mote.prediction.merging import Scored, Segment, merged, smoothed
from mote.prediction.timeline import Picture, Square, Window, score_items, square
from mote.prediction.windows import MOMENT, Windows, shown


def delay(windows: Windows, smooth: float = 0.0) -> float:
    """Seconds of the stream, at most, from the end of a segment to the frame with which it is known."""
    return windows.length + windows.step + smooth / 2


def live_segments(
    frames: Iterable[tuple[float, Frame]],
    classifier: VideoClassifier,
    class_names: Sequence[str],
    windows: Windows,
    *,
    threshold: float = 0.0,
    smooth: float = 0.0,
) -> Iterator[Segment]:
    """Segments of a stream, each as soon as it is known, see the top of this file; the last ones when it ends.

    Args:
        frames: (seconds, frame), times rising; a frame whose time does not rise is left out.
        classifier, class_names: what scores, and the K names.
        windows: see `windows_of`.
        threshold, smooth: see `merged`, `smoothed`.
    """
    scored = score_stream(frames, classifier, class_names, windows)
    yield from merged(smoothed(scored, smooth), class_names, threshold=threshold, step=windows.step)


def score_stream(
    frames: Iterable[tuple[float, Frame]], classifier: VideoClassifier, class_names: Sequence[str], windows: Windows
) -> Iterator[Scored]:
    """The scored windows of a stream; arguments as of `live_segments`.

    Raises:
        ValueError: a model of differences of frames, or scores that are no numbers.
    """
    if classifier.difference:
        raise ValueError("this model takes differences of frames, for which a stream has to be recorded first")
    pictures = ((time, square(classifier, frame)) for time, frame in frames)
    patience = math.floor(windows.length / (2 * windows.step))
    yield from score_items(stream_items(pictures, windows), classifier, class_names, map, patience)


def stream_items(frames: Iterable[tuple[float, Square]], windows: Windows) -> Iterator[Picture | Window]:
    """Pictures and windows of a stream in the order that `score_items` takes them."""
    held = _Held(windows)
    for time, pixels in frames:
        moment = held.since_first(time)
        if held.times and moment <= held.times[-1]:
            continue
        while held.times and held.number * windows.step + windows.length <= moment + MOMENT:
            start = held.number * windows.step
            if held.times[-1] < start - MOMENT:  # nothing came since: on to the first window that is not over
                held.number = math.floor((moment - windows.length + MOMENT) / windows.step) + 1
                break
            yield from held.window(start, start + windows.length)
            held.number += 1
        held.add(moment, pixels)
    if held.times:
        yield from held.rest()


class _Held:
    """The frames of a stream that a window may still need; times in seconds from its first frame."""

    def __init__(self, windows: Windows):
        self.windows, self.number = windows, 0  # of the next window
        self.times: list[float] = []
        self.first: float | None = None
        self._pictures: list[Picture] = []
        self._given: set[int] = set()
        self._count, self._gap, self._end = 0, 0.0, 0.0

    def since_first(self, time: float) -> float:
        """Seconds from the first frame."""
        self.first = time if self.first is None else self.first
        return time - self.first

    def add(self, moment: float, pixels: Square) -> None:
        """Hold one more frame, and no longer those before the window before the next."""
        self._gap = moment - self.times[-1] if self.times else 0.0
        self.times.append(moment)
        self._pictures.append(Picture(self._count, pixels))
        self._count += 1
        needed = int(shown(np.array(self.times), np.array([(self.number - 1) * self.windows.step]))[0])
        if needed:
            del self.times[:needed], self._pictures[:needed]
            self._given = {number for number in self._given if number >= self._pictures[0].number}

    def window(self, start: float, end: float) -> Iterator[Picture | Window]:
        """The pictures of a window that no earlier one had, and the window."""
        [rows] = self.windows.take(np.array(self.times), np.array([[start, end]]))
        for row in np.unique(rows):
            picture = self._pictures[row]
            if picture.number not in self._given:
                self._given.add(picture.number)
                yield picture
        self._end = end
        yield Window(start, end, rows + self._pictures[0].number)

    def rest(self) -> Iterator[Picture | Window]:
        """The windows that are complete only with the end of the stream, as `Windows.places` lays them."""
        end, length, step = self.times[-1] + self._gap, self.windows.length, self.windows.step
        while self.number * step + length <= end + MOMENT:
            yield from self.window(self.number * step, self.number * step + length)
            self.number += 1
        if self._end < end - MOMENT or not self._end:
            yield from self.window(max(0.0, end - length), end)

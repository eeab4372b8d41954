"""Smoothing and merging of window scores against plain loops over all windows at once."""

import numpy as np
import pytest

from mote.prediction.merging import Scored, Segment, merged, smoothed

NAMES = ["a", "b", "c"]


def windows(rng, count, length=2.0, step=0.5, missing=()):
    """Random windows on a grid, the last one laid against the end, as `Windows.places` does."""
    starts = [k * step for k in range(count) if k not in missing] + [(count - 1) * step + 0.2]
    sharp = rng.random((len(starts), 3)) ** 4
    return [Scored(s, s + length, row) for s, row in zip(starts, sharp / sharp.sum(1, keepdims=True), strict=True)]


def plain(given, threshold, step):
    """Each window owns the time up to the middle between its centre and the next one's; equal neighbours are joined."""
    rows = []
    for i, window in enumerate(given):
        first, last = i == 0, i == len(given) - 1
        lost = not first and window.start - given[i - 1].start > step + 1e-6
        loses = not last and given[i + 1].start - window.start > step + 1e-6
        start = window.start if first or lost else (given[i - 1].centre + window.centre) / 2
        end = window.end if last or loses else (given[i + 1].centre + window.centre) / 2
        best = max(range(3), key=lambda k: window.scores[k])
        name = NAMES[best] if window.scores[best] >= threshold else None
        if rows and not lost and rows[-1][2] == name:
            rows[-1] = (rows[-1][0], end, name, [*rows[-1][3], window.scores[best]])
        else:
            rows.append((start, end, name, [window.scores[best]]))
    return [Segment(start, end, name, pytest.approx(sum(scores) / len(scores))) for start, end, name, scores in rows]


@pytest.mark.parametrize("threshold", [0.0, 0.6, 1.1])
@pytest.mark.parametrize("step, missing", [(0.5, ()), (0.5, (4, 5, 9)), (3.0, ()), (3.0, (2,))])
def test_segments_are_those_of_the_loop(threshold, step, missing):
    for seed in range(20):
        given = windows(np.random.default_rng(seed), 15, step=step, missing=missing)
        found = list(merged(given, NAMES, threshold=threshold, step=step))
        assert found == plain(given, threshold, step)
        assert found[0].start == 0 and found[-1].end == given[-1].end
        if not missing:
            assert [s.end for s in found[:-1]] == [s.start for s in found[1:]]


def test_a_segment_is_given_with_the_window_after_it():
    one, other = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    taken = []

    def coming():
        for number, scores in enumerate([one, one, other, other, one]):
            taken.append(number)
            yield Scored(float(number), number + 2.0, scores)

    segments = merged(coming(), NAMES, threshold=0.5, step=1.0)
    assert next(segments) == Segment(0.0, 2.5, "a", 1.0) and taken == [0, 1, 2]
    assert next(segments) == Segment(2.5, 4.5, "b", 1.0) and taken == [0, 1, 2, 3, 4]
    assert list(segments) == [Segment(4.5, 6.0, "a", 1.0)]
    assert list(merged([], NAMES, threshold=0.0, step=1.0)) == []


@pytest.mark.parametrize("width", [0.0, 0.3, 1.0, 1.7, 100.0])
def test_smoothing_is_the_mean_over_near_windows(width):
    given = windows(np.random.default_rng(1), 20)
    found = list(smoothed(iter(given), width))
    assert [(s.start, s.end) for s in found] == [(s.start, s.end) for s in given]
    for window, smooth in zip(given, found, strict=True):
        near = [other.scores for other in given if abs(other.centre - window.centre) <= width / 2 + 1e-6]
        assert np.allclose(smooth.scores, sum(near) / len(near))


def test_smoothing_waits_for_no_more_than_half_its_width():
    given, taken = windows(np.random.default_rng(1), 40), []
    for number, smooth in enumerate(smoothed((taken.append(w) or w for w in given), 2.0)):
        assert taken[-1].centre - smooth.centre <= 1.0 + 0.5 + 1e-6
        assert smooth.start == given[number].start

"""Which frames windows take, against a loop over the frames that are shown; and lengths of time as they are written."""

from fractions import Fraction

import numpy as np
import pytest

from mote.datasets.sampling import dense_indices
from mote.prediction.windows import Windows, seconds


def frame_at(times, moment):
    """The last frame that begins no later, in exact fractions."""
    return max([i for i, time in enumerate(times) if time <= moment], default=0)


def plain(times, end, length, step, frames):
    """(start, end, frames) of every window, in exact fractions."""
    places, start = [], Fraction(0)
    if end <= length:
        places = [(Fraction(0), end)]
    else:
        while start + length <= end:
            places.append((start, start + length))
            start += step
        if places[-1][1] < end:
            places.append((end - length, end))
    rows = []
    for a, b in places:
        span = (b - a) / frames
        rows.append((float(a), float(b), [frame_at(times, a + i * span + span / 2) for i in range(frames)]))
    return rows


def varying(rng, count):
    """Times of frames at uneven distances, in milliseconds."""
    gaps = rng.choice([10, 33, 40, 100, 900], size=count - 1)
    return [Fraction(int(time), 1000) for time in np.append(0, np.cumsum(gaps))]


STEADY = [
    [Fraction(i) / rate for i in range(count)] for rate, count in ((25, 200), (Fraction(30000, 1001), 100), (8, 9))
]


@pytest.mark.parametrize("length, step", [(2, "1/2"), (1, "1/3"), ("3/2", "3/2"), (1, 2), ("1/100", "1/4"), (60, 1)])
def test_segment_windows_are_those_of_the_loop(length, step):
    rng = np.random.default_rng(0)
    length, step = Fraction(length), Fraction(step)
    for times in [*STEADY, *(varying(rng, count) for count in (2, 7, 60)), [Fraction(0)]]:
        end = times[-1] + Fraction(1, 25)
        windows = Windows(float(length), float(step), 8)
        places = windows.places(float(end))
        taken = windows.take(np.array(times, dtype=float), places)
        expected = plain(times, end, length, step, 8)
        assert np.allclose(places, [row[:2] for row in expected], atol=1e-9, rtol=0)
        assert taken.tolist() == [row[2] for row in expected]


def test_both_ends_are_seen_and_every_window_is_whole():
    windows = Windows(2.0, 0.7, 4)
    places = windows.places(10.0)
    assert places[0, 0] == 0 and places[-1, 1] == 10.0
    assert np.allclose(np.diff(places), 2.0)
    assert (np.diff(places[:, 0]) > 0).all()
    assert windows.places(2.0).tolist() == [[0.0, 2.0]]
    assert windows.places(1.2).tolist() == [[0.0, 1.2]]  # shorter than a window
    assert Windows(2.0, 9.0, 4).places(10.0).tolist() == [[0.0, 2.0], [8.0, 10.0]]
    assert Windows(2.0, 20.0, 4).places(10.0).tolist() == [[0.0, 2.0], [8.0, 10.0]]


def test_neighbours_share_their_frames_whatever_rounding_does():
    windows = Windows(2.0, 0.1, 20)
    times = np.arange(1000) * 1001 / 24000
    taken = windows.take(times, windows.places(41.0))
    assert (taken[1:, :-1] == taken[:-1, 1:]).all()


def test_dense_windows_take_neighbouring_frames_of_their_middle():
    windows, times = Windows(2.0, 0.5, 4, "dense", 3), np.arange(100) / 10
    places = windows.places(10.0)
    taken = windows.take(times, places)
    for (start, end), row in zip(places, taken, strict=True):
        inside = [i for i in range(100) if start - 1e-9 <= times[i] < end - 1e-9]
        assert row.tolist() == (inside[0] + dense_indices(len(inside), 4, 3)[0]).tolist()
    short = windows.take(times[:5], windows.places(0.5))
    assert short.tolist() == [[0, 3, 4, 4]]  # the last is repeated
    none_begins = windows.take(np.array([0.0, 9.0]), np.array([[3.0, 5.0]]))
    assert none_begins.tolist() == [[0, 0, 0, 0]]


def test_lengths_of_time():
    texts = {"2s": 2, "500ms": 0.5, "1.5": 1.5, " 1 min ": 60, "0.5h": 1800, ".25s": 0.25, "2.": 2}
    for text, value in texts.items():
        assert seconds(text, "--window") == pytest.approx(value)
    for bad in ("", "2 seconds", "-1s", "0", "0s", "nan", "inf", "1e3", "2s5", "s", "0.1ms", "9" * 400):
        with pytest.raises(ValueError, match=r"--window .*: expected a length of time"):
            seconds(bad, "--window")

"""Streams: the windows and scores of a file of the same frames; segments as they end; memory that does not grow."""

from pathlib import Path

import numpy as np
import pytest
import torch
from video_files import numbered_frames, write_video

from mote.datasets.decoding.decode import open_video
from mote.inference.classifier import VideoClassifier
from mote.inference.loading import load_video
from mote.prediction.live import delay, live_segments, score_stream, stream_items
from mote.prediction.merging import Scored, merged, smoothed
from mote.prediction.timeline import Picture, Window, score_file, windows_of
from mote.prediction.windows import Windows

NAMES = ["a red square", "a blue ball", "green star"]
PIXELS = np.zeros((2, 2, 3), np.uint8)


@pytest.fixture(scope="module")
def classifier():
    return load_video("tiny")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("live") / "a.mp4", numbered_frames(130))


def frames_of(file, first=7.0):
    with open_video(file) as video:
        for time, frame in zip(video.times.tolist(), video.frames(np.arange(video.num_frames)), strict=True):
            yield first + time, frame.copy()


@pytest.mark.parametrize("length, step", [(1.0, 0.3), (2.0, 0.5), (0.5, 0.9), (60.0, 1.0)])
def test_a_stream_is_scored_as_the_file_of_its_frames(classifier, file, length, step):
    windows = windows_of(classifier, length, step)
    live = list(score_stream(frames_of(file), classifier, NAMES, windows))
    whole = list(score_file(str(file), classifier, NAMES, windows, map))
    assert len(live) == len(whole)
    for one, other in zip(live, whole, strict=True):
        assert (one.start, one.end) == pytest.approx((other.start, other.end), abs=1e-6)
        assert np.array_equal(one.scores, other.scores)
    segments = list(live_segments(frames_of(file), classifier, NAMES, windows, threshold=0.4, smooth=1.0))
    assert segments == list(merged(smoothed(live, 1.0), NAMES, threshold=0.4, step=step))


@pytest.mark.parametrize("length, step", [(2.0, 0.5), (2.0, 0.3), (1.0, 1.0), (1.0, 3.0), (4.0, 0.5)])
def test_segments_are_known_in_time(classifier, monkeypatch, length, step):
    """The scores are made to change every 3.1 s; the stream is at `now` when a segment comes out."""
    monkeypatch.setattr(VideoClassifier, "encode", lambda self, x: torch.zeros(*x.shape[:3], self.model.embed_dim))
    now, rate = 0.0, 25

    def frames():
        nonlocal now
        for number in range(60 * rate):
            now = number / rate
            yield now, np.zeros((8, 8, 3), np.uint8)

    def changing(scored):
        for window in scored:
            place = int(window.centre // 3.1) % 3
            yield Scored(window.start, window.end, np.eye(3)[place])

    windows = windows_of(classifier, length, step)
    segments, before = [], 0.0
    scored = score_stream(frames(), classifier, NAMES, windows)
    for segment in merged(changing(scored), NAMES, threshold=0.0, step=step):
        if segment.end < 60 - length:
            assert now - segment.end <= delay(windows) + 1 / rate
        assert segment.start == pytest.approx(before)
        segments.append(segment)
        before = segment.end
    assert len(segments) > 10


def items(times, windows):
    return list(stream_items(((time, PIXELS) for time in times), windows))


def test_windows_without_a_frame_are_left_out():
    windows = Windows(2.0, 0.5, 4)
    times = [*np.arange(0, 10, 0.1), *np.arange(100, 106, 0.1)]
    found = [item for item in items(times, windows) if isinstance(item, Window)]
    assert all(any(w.start - 1e-6 <= t < w.end for t in times) for w in found)
    assert [w.start for w in found] == sorted({w.start for w in found})
    gaps = np.diff([w.start for w in found])
    assert (gaps > 0.5 + 1e-6).sum() == 1 and gaps.max() > 80
    far = [item for item in items([0.0, 0.1, 1e9, 1e9 + 0.1], windows) if isinstance(item, Window)]
    assert len(far) < 20  # at once, not window by window


def test_times_that_do_not_rise_are_left_out():
    windows = Windows(1.0, 0.5, 4)
    clean = [k / 10 for k in range(40)]
    doubled = [t for time in clean for t in (time, time - 0.05 if time else 0.0)]
    assert [i.number for i in items(doubled, windows) if isinstance(i, Picture)] == [
        i.number for i in items(clean, windows) if isinstance(i, Picture)
    ]
    assert items([], windows) == []
    [picture, window] = items([5.0], windows)
    assert picture.number == 0 and (window.start, window.frames.tolist()) == (0.0, [0, 0, 0, 0])


def test_models_of_differences_are_refused(classifier):
    from dataclasses import replace

    with pytest.raises(ValueError, match="differences of frames"):
        list(score_stream([], replace(classifier, difference=1), NAMES, Windows(1.0, 1.0, 8)))


@pytest.mark.slow
def test_memory_stays_flat_over_ten_hours(classifier, monkeypatch):
    rows = torch.randn(64, classifier.model.embed_dim)

    def encode(self, x):
        return rows[x[..., 0, 0, 0].long() % 64]

    monkeypatch.setattr(VideoClassifier, "encode", encode)
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    used = {}

    def frames():
        for number in range(10 * 3600 * 2):
            if number % 7200 == 0:
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                used[number // 7200] = pages * 4096 / 1e6
            frame[0, 0] = number // 60 % 256
            yield number / 2, frame

    windows = windows_of(classifier, 8.0, 2.0)
    count = sum(1 for _ in live_segments(frames(), classifier, NAMES, windows, smooth=6.0))
    assert count > 100 and len(used) == 10
    assert max(used.values()) - used[1] < 20  # MB

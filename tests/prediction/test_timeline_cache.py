"""What was encoded for a timeline is not encoded again, and the scores are the same, bit for bit."""

import os

import numpy as np
import pytest
from video_files import numbered_frames, write_video

from mote.datasets.decoding.errors import FrameOrderError
from mote.inference.classifier import VideoClassifier
from mote.inference.loading import load_video
from mote.prediction import timeline
from mote.prediction.timeline import cut_into, images_a_call, open_video, score_file, windows_of
from mote.prediction.timeline_cache import TimelineCache

NAMES = ["a red square", "a blue ball", "green star"]


@pytest.fixture
def video(tmp_path) -> str:
    write_video(tmp_path / "a.mp4", numbered_frames(70))
    return str(tmp_path / "a.mp4")


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """Images in each call of the tower."""
    calls: list[int] = []
    real = VideoClassifier.encode

    def counted(self, frames):
        calls.append(frames.shape[2])
        return real(self, frames)

    monkeypatch.setattr(VideoClassifier, "encode", counted)
    return calls


def test_frames_are_encoded_once_and_scores_are_the_same(video, tmp_path, encoded):
    model = load_video("tiny")

    def scores(step: float, names=NAMES, cached=True) -> np.ndarray:
        cache = TimelineCache(tmp_path / "cache", model, images_a_call(model)) if cached else None
        windows = windows_of(model, 1.0, step)
        return np.stack([one.scores for one in score_file(video, model, names, windows, map, cache=cache)])

    def frames(step: float) -> set[int]:
        with open_video(video) as opened:
            return {*cut_into(windows_of(model, 1.0, step), opened).frames.ravel().tolist()}

    expected = scores(0.5, cached=False)
    full = len(encoded)
    assert np.array_equal(scores(0.5), expected) and len(encoded) == 2 * full
    assert np.array_equal(scores(0.5), expected) and len(encoded) == 2 * full  # nothing more
    assert np.array_equal(scores(0.5, NAMES[::-1])[:, ::-1], scores(0.5, NAMES[::-1], cached=False)[:, ::-1])
    encoded.clear()
    other = scores(0.4)
    new = len(frames(0.4) - frames(0.5))
    assert 0 < new < len(frames(0.4)) and len(encoded) == -(-new // model.frames)
    assert np.array_equal(other, scores(0.4, cached=False))
    write_video(video, 255 - numbered_frames(70))  # another file under the same name
    os.utime(video, (1, 1))
    encoded.clear()
    assert not np.array_equal(scores(0.5), expected) and len(encoded) == full


def test_frames_of_a_file_that_has_others_than_it_says_are_not_kept(video, tmp_path, encoded, monkeypatch):
    model = load_video("tiny")
    real, raised = timeline.file_items, []

    def misled(opened, *arguments):
        for number, item in enumerate(real(opened, *arguments)):
            if number == 12 and len(raised) % 2 == 0:
                raised.append(number)
                raise FrameOrderError(video, "pyav", "other frames")
            yield item
        raised.append(0)

    monkeypatch.setattr(timeline, "file_items", misled)
    calls = []
    for _ in range(2):
        cache = TimelineCache(tmp_path / "cache", model, images_a_call(model))
        list(score_file(video, model, NAMES, windows_of(model, 1.0, 0.5), map, cache=cache))
        calls.append(len(encoded))
        encoded.clear()
    assert calls[0] == calls[1] > 0

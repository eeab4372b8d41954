"""Files named in number: as `mote eval` scores them, one by one, whatever decodes them; bad ones stop nothing."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

import mote
from mote.config.sections import DataConfig, EvaluationConfig
from mote.datasets.decoding.encode import write_video
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.lists.manifest import Record
from mote.datasets.synthetic.clips import render_clip
from mote.evaluation.video_scores import score_videos
from mote.inference import features, pipeline
from mote.inference.asked import Views
from mote.inference.classifier import VideoClassifier
from mote.inference.features import Load
from mote.models.temporal import TemporalHead
from mote.parallel.accelerator import make_accelerator

NAMES = ["red star", "blue arrow", "green ball"]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """Six clips, of which the third is damaged and the fifth equals the first."""
    folder = tmp_path_factory.mktemp("videos")
    found = [folder / f"{number}.mp4" for number in range(6)]
    for number, file in enumerate(found):
        frames = render_clip(np.random.default_rng(number), NAMES[number % 3], "moving left", 5 + 3 * number)
        write_video(file, frames)
    found[2].write_bytes(b"no video")
    found[4].write_bytes(found[0].read_bytes())
    return found


@pytest.fixture(scope="module")
def model() -> VideoClassifier:
    """The tiny CLIP with a temporal head that changes its answers."""
    found = mote.load("tiny")
    assert isinstance(found, VideoClassifier)
    torch.manual_seed(0)
    head = TemporalHead(found.model.embed_dim, num_layers=1, num_heads=2, num_experts=1)
    for weights in head.parameters():
        torch.nn.init.normal_(weights, std=0.2)
    found.model.temporal = head.eval()
    return found


def test_scores_are_those_of_the_evaluation_and_of_one_call_for_each(model, files, monkeypatch):
    """Features bit for bit; the evaluation's head sees blocks of videos, so its scores may differ in the last bits."""
    seen: dict[str, list[torch.Tensor]] = {"predict": [], "evaluate": []}
    real = features.frame_features
    kind = "predict"

    def spied(*arguments, **options):
        for row in real(*arguments, **options):
            seen[kind].append(row)
            yield row

    monkeypatch.setattr(pipeline, "frame_features", spied)
    monkeypatch.setattr("mote.evaluation.video_scores.frame_features", spied)
    found = list(model.predict(files, NAMES, clips=2, crops=3, workers=2))
    kind = "evaluate"
    settings = EvaluationConfig(clips=2, crops=3, bad_videos="count_wrong")
    records = [Record(file, 0) for file in files]
    scores = score_videos(model, records, NAMES, settings, DataConfig(workers=0), make_accelerator(cpu=True))
    assert [torch.is_tensor(row) for row in seen["predict"]] == [True, True, False, True, True, True]
    for one, other in zip(seen["predict"], seen["evaluate"], strict=True):
        assert not torch.is_tensor(one) or torch.equal(one, other)
    kind = "predict"
    for file, prediction, expected in zip(files, found, scores.probabilities, strict=True):
        assert prediction.path == file
        if prediction.error is None:
            np.testing.assert_allclose([prediction.scores[name] for name in NAMES], expected, atol=1e-6)
            assert prediction.scores == model.classify_video(file, NAMES, clips=2, crops=3)
            assert prediction.name == max(prediction.scores, key=prediction.scores.__getitem__)
    assert list(found[0].scores.values()) == list(found[4].scores.values())


def test_workers_threads_chunks_and_the_cache_change_no_bit(model, files, tmp_path, monkeypatch):
    expected = list(model.predict(files, NAMES))
    threads = torch.get_num_threads()
    for workers, chunk, cores in ((0, 1, 1), (0, 4, 2), (2, 2, 2)):
        monkeypatch.setattr(pipeline, "CHUNK", chunk)
        torch.set_num_threads(cores)
        try:
            assert list(model.predict(files, NAMES, workers=workers)) == expected
        finally:
            torch.set_num_threads(threads)
    monkeypatch.setattr("mote.inference.features.SMALL_TOWER", 0)
    assert list(model.predict(files, NAMES, cache=str(tmp_path / "cache"))) == expected

    def encode(self, frames):
        raise AssertionError("everything comes from the cache now")

    monkeypatch.setattr(VideoClassifier, "encode", encode)
    assert list(model.predict([*files[:2], *files[3:]], NAMES, cache=str(tmp_path / "cache"))) == [
        prediction for prediction in expected if prediction.error is None
    ]


def test_a_bad_file_is_told_and_stops_nothing(model, files):
    found = list(model.predict(files, NAMES))
    assert [prediction.error is None for prediction in found] == [True, True, False, True, True, True]
    assert str(files[2]) in found[2].error and found[2].scores == {} and found[2].name is None
    with pytest.raises(DecodeError, match=r"2\.mp4"):
        model.classify_video(files[2], NAMES)


def test_files_are_taken_as_they_are_needed(model, files, monkeypatch):
    """Of an endless list no more than two chunks; a single path is a list of one."""
    monkeypatch.setattr(pipeline, "CHUNK", 2)
    taken, done = [], []

    def endless():
        for file in itertools.cycle(files[:2]):
            taken.append(file)
            yield file

    first = list(itertools.islice(model.predict(endless(), NAMES, progress=done.append), 2))
    assert [prediction.path for prediction in first] == files[:2] and len(taken) <= 8 and done == [1]
    assert [prediction.path for prediction in model.predict(str(files[0]), NAMES)] == [str(files[0])]


def test_faces_that_are_not_there_are_told_in_a_line(model, files):
    pytest.importorskip("cv2")
    [found] = model.predict(files[0], NAMES, faces=True)
    assert found.error == f"{files[0]}: no face was found; give images of faces from the front, or leave --faces out"
    options = {"load": Load(1, 1)}
    [(_, outcome)] = model.outcomes([files[0]], NAMES, Views(faces=True), **options)
    assert str(outcome) == found.error


def test_weights_that_are_no_numbers_are_refused(files, model):
    broken = mote.load("tiny")
    with torch.no_grad():
        broken.model.logit_scale.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"0\.mp4: the model gives scores that are no numbers"):
        list(broken.predict(files[:1], NAMES))

"""`mote encode`: features that are those of the model, in files that others read; again, only what is missing."""

import glob
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from command_line import fails, mote
from made_videos import NAMES, write_videos
from torch.nn import functional as F

from mote.config.sections import DataConfig, EvaluationConfig
from mote.datasets.decoding.decode import open_video, read_frames
from mote.datasets.lists.manifest import Record
from mote.datasets.transforms import eval_transform
from mote.evaluation.video_scores import score_videos
from mote.inference.asked import Views
from mote.inference.classifier import VideoClassifier
from mote.inference.loading import load_video
from mote.models.temporal import TemporalHead
from mote.parallel.accelerator import make_accelerator
from mote.prediction import encode as module
from mote.prediction.encodings import stored_features
from mote.prediction.parts import PartError, part_files
from mote.prediction.timeline import windows_of


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """Four clips, of which the third is damaged."""
    return write_videos(tmp_path_factory.mktemp("videos"), 4, damaged=[2])


@pytest.fixture
def model(monkeypatch) -> VideoClassifier:
    """The tiny CLIP with a temporal head that changes its answers, which the verb finds under the name `tiny`."""
    found = load_video("tiny")
    torch.manual_seed(0)
    head = TemporalHead(found.model.embed_dim, num_layers=1, num_heads=2, num_experts=1)
    for weights in head.parameters():
        torch.nn.init.normal_(weights, std=0.2)
    found.model.temporal = head.eval()
    monkeypatch.setattr(module, "load_video", lambda *_, **__: found)
    return found


def rows(out: Path) -> list[dict]:
    return [row for file in part_files(out) for row in pq.read_table(file).to_pylist()]


def test_parts_of_the_work_are_together_the_whole(model, files, tmp_path):
    for part in ("1/2", "2/2"):
        encode(files, tmp_path / "two", "--part", part)
    encode(files, tmp_path / "one")
    one, two = (sorted(rows(tmp_path / name), key=lambda row: row["path"]) for name in ("one", "two"))
    assert one == two and len(one) == 4


def encode(files: list[Path], out: Path, *options: str) -> int:
    return mote("encode", "tiny", *files, "--out", out, "--workers", "0", *options)


def test_features_of_videos_times_those_of_names_are_the_scores_of_the_model(model, files, tmp_path):
    out = tmp_path / "out"
    assert encode(files, out, "--labels", ",".join(NAMES)) == 1  # one is damaged
    found = rows(out)
    assert [row["path"] for row in found] == list(map(str, files))
    assert [row["error"] is None for row in found] == [row["features"] is not None for row in found]
    assert [row["error"] is None for row in found] == [True, True, False, True]
    assert {(row["start"], row["end"], row["frame"]) for row in found} == {(None, None, None)}
    text = pq.read_table(out / "text.parquet")
    assert text["name"].to_pylist() == NAMES
    names = np.array(text["features"].to_pylist(), np.float32)
    np.testing.assert_allclose(np.linalg.norm(names, axis=1), 1, atol=1e-6)
    records = [Record(file, 0) for file in files]
    settings = EvaluationConfig(bad_videos="count_wrong", modulation=False)
    scores = score_videos(model, records, NAMES, settings, DataConfig(workers=0), make_accelerator(cpu=True))
    scale = model.model.logit_scale.exp().item()
    for place in (0, 1, 3):
        features = np.array(found[place]["features"], np.float32)
        assert abs(np.linalg.norm(features) - 1) < 1e-6
        probabilities = torch.softmax(torch.from_numpy(scale * names @ features), 0).numpy()
        np.testing.assert_allclose(probabilities, scores.probabilities[place], atol=1e-5)


def test_several_views_are_the_mean_of_their_features_scaled_to_length_one(model, files, tmp_path):
    encode(files[:1], tmp_path / "out", "--clips", "2", "--crops", "3")
    views = model.clips_of([Record(files[0], 0)], Views(2, 3)).frames(0, 0)
    each = [model.model.pool(model.model.head(model.encode(view[None, None])[:, 0]))[0] for view in views]
    expected = F.normalize(torch.stack(each).mean(0), dim=0)
    np.testing.assert_allclose(rows(tmp_path / "out")[0]["features"], expected.detach().numpy(), atol=1e-6)


def test_features_of_frames_are_those_of_the_tower_with_their_numbers_and_times(model, files, tmp_path):
    out = tmp_path / "out"
    encode(files, out, "--level", "frame")
    found = [row for row in rows(out) if row["path"] == str(files[1])]
    dataset = model.clips_of([Record(files[1], 0)])
    frames = dataset.frames(0, 0)  # (V, T, 3, S, S)
    features = model.encode(frames[None])[0, 0]
    with open_video(files[1]) as video:
        numbers = dataset.sampled(video.num_frames)[0]
    assert [row["frame"] for row in found] == sorted(set(numbers.tolist()))
    for row in found:
        expected = F.normalize(features[numbers.tolist().index(row["frame"])], dim=0)
        np.testing.assert_allclose(row["features"], expected.numpy(), atol=1e-6)
    starts, ends = ([row[name] for row in found] for name in ("start", "end"))
    rate = ends[0] - starts[0]
    np.testing.assert_allclose(starts, np.array([row["frame"] for row in found]) * rate, atol=1e-6)
    np.testing.assert_allclose(ends, np.array([row["frame"] + 1 for row in found]) * rate, atol=1e-6)
    assert [row["error"] is not None for row in rows(out) if row["path"] == str(files[2])] == [True]


def cut_out(model, file, numbers) -> torch.Tensor:
    """Features (T, D) of these frames of a file."""
    frames = eval_transform(read_frames(file, numbers), model.size, 1, model.model.preprocessing)
    return model.encode(frames[None])[0, 0]


def test_features_of_windows_are_those_of_their_frames_cut_out_alone(model, files, tmp_path):
    out = tmp_path / "out"
    assert encode(files, out, "--window", "400ms", "--every", "200ms") == 1
    windows = windows_of(model, 0.4, 0.2)
    for file in (files[0], files[3]):
        with open_video(file) as video:
            places, times = windows.places(video.end), video.times
        found = [row for row in rows(out) if row["path"] == str(file)]
        assert [(row["start"], row["end"]) for row in found] == [tuple(place) for place in places.tolist()]
        for row, numbers in zip(found, windows.take(times, places), strict=True):
            expected = model.embed(cut_out(model, file, numbers)[None, None])[0]
            assert row["frame"] is None and np.array_equal(np.array(row["features"], np.float32), expected.numpy())
    assert [row["error"] is not None for row in rows(out) if row["path"] == str(files[2])] == [True]


def test_frames_by_time_are_those_shown_in_the_middle_of_every_span(model, files, tmp_path):
    out = tmp_path / "out"
    encode(files[3:], out, "--level", "frame", "--every", "300ms")
    with open_video(files[3]) as video:
        times, end = video.times, video.end
    middles = np.arange(0.15, end, 0.3)
    numbers = sorted(
        {int(np.flatnonzero(times <= middle + 1e-6)[-1]) for middle in middles if middle + 0.15 <= end + 1e-6}
    )
    found = rows(out)
    assert {*numbers} <= {row["frame"] for row in found}  # and the one of a window against the end
    for row in found:
        expected = F.normalize(cut_out(model, files[3], [row["frame"]])[0], dim=0)
        np.testing.assert_allclose(row["features"], expected.numpy(), atol=1e-5)
        assert row["start"] == times[row["frame"]]


def test_the_same_command_does_what_is_missing_and_other_settings_are_refused(model, files, tmp_path, capsys):
    out = tmp_path / "out"
    encode(files[:2], out, "--labels", "red star,blue arrow")
    before = sorted(out.iterdir())
    capsys.readouterr()
    assert encode(files, out) == 1
    assert "4 videos: 2 encoded now, 2 were there before" in capsys.readouterr().out
    assert encode(files, out) == 1 and "0 encoded now" in capsys.readouterr().out
    assert {*before} < {*out.iterdir()}
    for options, said in (
        (["--clips", "2"], "clips was 1, now 2"),
        (["--level", "frame"], 'level was "video", now "frame"'),
        (["--labels", "red star"], "2 name entries then, 1 now"),
    ):
        assert said in fails(capsys, "encode", "tiny", *files, "--out", out, *options)
    with torch.no_grad():
        model.model.temporal.position.add_(1)
    assert "hashes.weights was" in fails(capsys, "encode", "tiny", *files, "--out", out)


def test_what_cannot_be_is_said_before_anything_is_encoded(files, tmp_path, capsys):
    out = tmp_path / "out"
    assert "--crops is for --level video" in fails(
        capsys, "encode", "tiny", *files, "--out", out, "--level", "frame", "--crops", "3"
    )
    for options, said in (
        (["--level", "window"], "say with --window how long"),
        (["--level", "frame", "--window", "2s"], "--window is for --level window"),
        (["--every", "1s"], "--every is for windows and frames"),
        (["--window", "2s", "--clips", "2"], "--clips does not go with --window"),
        (["--window", "2s", "--workers", "1"], "--workers and --cache do not go with --window"),
        (["--level", "frame", "--every", "1s", "--cache", "c"], "--workers and --cache do not go with --window"),
        (["--window", "0s"], "--window 0s: expected a length of time"),
        (["--part", "3/2"], "--part 3/2: expected i/n"),
    ):
        assert said in fails(capsys, "encode", "tiny", *files, "--out", out, *options)
    (out / "sub").mkdir(parents=True)
    assert "no folder of features" in fails(capsys, "encode", "tiny", *files, "--out", out)
    with pytest.raises(PartError, match="no folder of features"):
        stored_features(tmp_path)
    assert not [*out.glob("*.parquet")]


def test_the_files_say_what_they_hold_to_those_who_read_them_without_us(model, files, tmp_path):
    out = tmp_path / "out"
    encode(files[:2], out)
    table = pq.read_table(part_files(out)[0])
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert metadata["level"] == "video" and "L2" in metadata["length"]
    assert json.loads(metadata["settings"])["hashes"] == module.feature_hashes(model)
    document = json.loads((out / "settings.json").read_text())
    assert document["settings"]["recipe"]["frames"] == model.frames and document["source"]["model"] == "tiny"
    encode(files, out)  # a second part
    table = pq.read_table(sorted(glob.glob(f"{out}/part-*.parquet")))  # as docs/features.md says
    table = table.filter(table["error"].is_null())
    vectors = table["features"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    assert vectors.shape == (3, model.model.embed_dim) and vectors.dtype == np.float32
    assert table["path"].to_pylist() == [str(files[i]) for i in (0, 1, 3)]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)

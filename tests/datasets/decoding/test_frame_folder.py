"""Clips as folders of frames: Pillow reads the same pixels, and a folder of a video's frames is that video."""

import json
import os

import numpy as np
import pytest
from face_layouts import dfew
from PIL import Image

from mote.cli import main
from mote.datasets import video
from mote.datasets.cache.file_hashes import FileHashes
from mote.datasets.decoding.decode import read_frames
from mote.datasets.decoding.encode import write_video
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.face_crop import Square
from mote.datasets.lists.manifest import Record
from mote.datasets.lists.verify import read_ends
from mote.datasets.synthetic.clips import render_clip
from mote.datasets.video import VideoDataset


def folder(path, count=12, suffix="jpg", size=(20, 16)):
    """Frames 1.jpg to 12.jpg of noise."""
    path.mkdir()
    for n in range(1, count + 1):
        pixels = np.random.default_rng(n).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{n}.{suffix}")
    return path


def test_frames_are_those_of_pillow_in_the_order_of_their_numbers(tmp_path):
    path = folder(tmp_path / "00001")
    (path / ".hidden.jpg").write_bytes(b"no image")
    (path / "notes.txt").write_text("not a frame")
    numbers = [10, 0, 1, 1, 11]
    frames = read_frames(path, lambda length: np.array(numbers) if length == 12 else pytest.fail(str(length)))
    for frame, number in zip(frames, numbers, strict=True):
        assert np.array_equal(frame, np.asarray(Image.open(path / f"{number + 1}.jpg")))
    grey = tmp_path / "grey"
    grey.mkdir()
    Image.fromarray(np.full((4, 6), 77, np.uint8)).save(grey / "a.png")
    assert read_frames(grey, [0]).tolist() == np.full((1, 4, 6, 3), 77).tolist()


def test_only_the_frames_asked_for_are_opened_and_a_broken_one_is_named(tmp_path):
    path = folder(tmp_path / "00001", count=4)
    (path / "2.jpg").write_bytes((path / "2.jpg").read_bytes()[:-200])
    (path / "3.jpg").write_bytes(b"no image")
    assert read_frames(path, [0, 3]).shape == (2, 20, 16, 3)
    for number, cause in ((1, "2.jpg: image file is truncated"), (2, "3.jpg: it is no image")):
        with pytest.raises(DecodeError) as caught:
            read_frames(path, [0, number])
        assert str(caught.value).startswith(f"{path}: cannot be decoded by pillow: {cause}")
        assert "\n" not in str(caught.value)
    with pytest.raises(DecodeError, match=r"3\.jpg"):
        read_ends(path)  # what `mote data verify` reads: first, middle and last frame
    with pytest.raises(IndexError, match=r"0\.\.3"):
        read_frames(path, [4])


def test_an_empty_folder_and_frames_of_two_sizes_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DecodeError, match="empty: cannot be decoded by pillow: the folder holds no image"):
        read_frames(tmp_path / "empty", [0])
    path = folder(tmp_path / "odd", count=2)
    Image.new("RGB", (8, 6)).save(path / "2.jpg")
    with pytest.raises(DecodeError, match=r"2\.jpg has 8 x 6 pixels, 1\.jpg 16 x 20"):
        read_frames(path, [0, 1])


@pytest.mark.parametrize("train", [True, False])
def test_a_folder_of_a_videos_frames_is_that_video(tmp_path, train):
    video, path = tmp_path / "clip.mp4", tmp_path / "clip"
    write_video(video, render_clip(np.random.default_rng(0), "red star", "moving left", 11))
    path.mkdir()
    for n, frame in enumerate(read_frames(video, np.arange(11))):
        Image.fromarray(frame).save(path / f"{n:03d}.png")
    views = {} if train else {"num_clips": 2, "num_crops": 3}
    records = [Record(video, 0), Record(path, 0)]
    for sampling in ("segment", "dense"):
        file, frames = (
            VideoDataset([record], num_frames=4, size=24, train=train, sampling=sampling, stride=2, **views)[(3, 0)]
            for record in records
        )
        assert file["frames"].equal(frames["frames"]) and file["frames"].float().std() > 1


def test_faces_are_cut_before_all_else(tmp_path, monkeypatch):
    whole, part = folder(tmp_path / "whole", count=3, suffix="png", size=(30, 30)), tmp_path / "part"
    part.mkdir()
    for file in whole.iterdir():
        Image.open(file).crop((5, 2, 25, 22)).save(part / file.name)
    settings = {"num_frames": 3, "size": 12, "train": False}
    squares = []
    monkeypatch.setattr(video, "face_of_frame", lambda frame: np.arange(4.0))
    monkeypatch.setattr(
        video, "median_face", lambda found, path: squares.append((found.shape, path)) or Square(5.0, 2.0, 20.0, 0.0)
    )
    monkeypatch.setattr(video, "cut", lambda frame, square: frame[2:22, 5:25])
    faces = VideoDataset([Record(whole, 0)], faces=True, **settings)[0]["frames"]
    assert faces.equal(VideoDataset([Record(part, 0)], **settings)[0]["frames"]) and squares == [((3, 4), whole)]


def test_the_hash_of_a_folder_is_that_of_its_frames(tmp_path):
    one, other = folder(tmp_path / "one", count=3), folder(tmp_path / "other", count=3)
    for place in (one, other):
        for file in (*place.iterdir(), place):
            os.utime(file, ns=(10**18, 10**18))  # old enough to be remembered
    hashes = FileHashes(tmp_path / "index")
    first = hashes(one)
    assert first == hashes(other) and len(first) == 64
    assert len((tmp_path / "index").read_text().splitlines()) == 2
    (one / "2.jpg").write_bytes((one / "3.jpg").read_bytes())
    assert FileHashes(tmp_path / "index")(one) != first
    assert FileHashes(tmp_path / "index")(other) == first
    (tmp_path / "empty").mkdir()
    with pytest.raises(OSError, match="holds no image"):
        hashes(tmp_path / "empty")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:tiny CLIP has no token")
def test_dfew_in_frames_is_prepared_trained_scored_named_and_verified(tmp_path, capsys):
    def mote(*arguments) -> int:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        return stop.value.code

    dfew(tmp_path)
    clips, out, run = tmp_path / "F", tmp_path / "out", tmp_path / "run"
    for number in range(1, 36):
        place = clips / f"{number:05d}"
        place.with_suffix(".mp4").unlink(missing_ok=True)
        place.mkdir(exist_ok=True)
        for frame in (1, 2):
            pixels = np.random.default_rng(2 * number + frame).integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{frame:03d}.jpg")
    assert mote("data", "prepare", "dfew", "--splits", tmp_path / "L", "--videos", clips, "--out", out) == 0
    assert "35 clips are folders of frames" in capsys.readouterr().out
    listed = [f"{key}={value}" for key, value in (("manifest", out / "fold1.csv"), ("split", "test"), ("root", clips))]
    settings = [f"data.train={out / 'fold1.csv'}", "data.split=train", f"data.root={clips}", "data.workers=0"]
    settings += [f"data.classes={out / 'classes.csv'}", "data.frames=2", *(f"evaluation.{text}" for text in listed)]
    settings += ["model.layers=1", "model.experts=1", "optim.epochs=1", "optim.warmup_epochs=0", "run.cpu=true"]
    assert mote("train", *settings, "optim.batch_size=7", "evaluation.page=false", f"run.out={run}") == 0
    assert json.loads((run / "metrics.json").read_text())["scored"] == 7
    assert mote("eval", run, "evaluation.page=false", "--out", tmp_path / "again") == 0
    assert json.loads((tmp_path / "again" / "eval.json").read_text())["scored"] == 7
    capsys.readouterr()
    assert mote("predict", run, clips, "--top", "1") == 0
    assert len(capsys.readouterr().out.splitlines()) == 35
    verify = ["data", "verify", out / "fold1.csv", "--root", clips, "--workers", "1"]
    (clips / "00012" / "002.jpg").write_bytes(b"no image")
    assert mote(*verify) == 1
    assert capsys.readouterr().out == f"{clips / '00012'}: 002.jpg: it is no image\n"

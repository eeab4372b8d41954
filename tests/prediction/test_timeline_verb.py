"""`mote predict ... --window`: segments printed and written, several videos and bad ones, mistakes in one line."""

import csv
import json

import numpy as np
import pytest
import webvtt
from command_line import fails, mote
from video_files import numbered_frames, write_video

from mote.inference.loading import load_video
from mote.prediction.merging import Segment, merged, smoothed
from mote.prediction.timeline import score_file, windows_of
from mote.prediction.timeline_verb import Setting, predict_stream

LABELS = "a red square,a blue ball,green star"
NAMES = LABELS.split(",")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("long videos")
    for place, name in enumerate(("a.mp4", "deep/a.mp4", "b c.mp4")):
        (found / name).parent.mkdir(exist_ok=True)
        frames = numbered_frames(50 + 20 * place)
        frames[30:] = 255 - frames[30:]
        write_video(found / name, frames)
    return found


def predict(*arguments):
    return mote("predict", "tiny", *arguments, "--labels", LABELS, "--window", "1s", "--every", "250ms")


def test_one_video_gives_its_files(folder, tmp_path, capsys):
    out = [tmp_path / name for name in ("s.csv", "t.json", "v.vtt", "p.html")]
    options = [
        text
        for option, file in zip(("--csv", "--json", "--vtt", "--page"), out, strict=True)
        for text in (option, file)
    ]
    assert predict(folder / "a.mp4", *options, "--smooth", "0.5s", "--threshold", "0.4") == 0
    assert {file.name for file in tmp_path.iterdir()} == {"s.csv", "s.windows.csv", "t.json", "v.vtt", "p.html"}
    model = load_video("tiny")
    windows = windows_of(model, 1.0, 0.25)
    scored = list(smoothed(score_file(str(folder / "a.mp4"), model, NAMES, windows, map), 0.5))
    segments = list(merged(scored, NAMES, threshold=0.4, step=0.25))
    document = json.loads(out[1].read_text())
    [video] = document["videos"]
    assert (document["window"], document["every"], document["smooth"], document["threshold"]) == (1.0, 0.25, 0.5, 0.4)
    assert document["hashes"]["weights"] and document["versions"]["mote"] and document["recipe"]["frames"] == 8
    assert video["end"] == 2.0 and [s["name"] for s in video["segments"]] == [s.name for s in segments]
    assert np.array_equal(np.array([video["windows"]["scores"][n] for n in NAMES]).T, [w.scores for w in scored])
    with out[0].open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["start"], r["end"]) for r in rows] == [(f"{s.start:.3f}", f"{s.end:.3f}") for s in segments]
    with (tmp_path / "s.windows.csv").open() as file:
        assert [float(r["green star"]) for r in csv.DictReader(file)] == pytest.approx(
            [w.scores[2] for w in scored], abs=1e-6
        )
    assert len(list(webvtt.read(str(out[2])))) == sum(s.name is not None for s in segments)
    assert "To play the video here" in out[3].read_text() and "<video" not in out[3].read_text()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(segments) and printed[0].startswith(f"{folder / 'a.mp4'}: 0:00.0 - ")


def test_several_videos_and_a_bad_one(folder, tmp_path, capsys):
    bad = folder / "z.mp4"
    bad.touch()
    try:
        options = ["--json", tmp_path / "t.json", "--vtt", tmp_path / "vtt", "--page", folder]
        assert predict(folder, *options) == 1
    finally:
        bad.unlink()
    printed = capsys.readouterr()
    assert "mote: 1 of 4 videos could not be decoded" in printed.err and "the file is empty" in printed.err
    assert {f.name for f in (tmp_path / "vtt").iterdir()} == {"a.vtt", "a-2.vtt", "b c.vtt"}
    pages = sorted(folder.glob("*.html"))
    assert [page.name for page in pages] == ["a-2.html", "a.html", "b c.html"]
    assert 'src="b%20c.mp4"' in pages[2].read_text() and 'src="deep/a.mp4"' in pages[0].read_text()
    videos = json.loads((tmp_path / "t.json").read_text())["videos"]
    assert [("error" in video) for video in videos] == [False, False, False, True]
    for page in pages:
        page.unlink()


def test_mistakes_are_one_line(folder, tmp_path, capsys):
    video = folder / "a.mp4"
    labels = ["--labels", LABELS]
    assert "--window 2x: expected a length" in fails(capsys, "predict", "tiny", video, *labels, "--window", "2x")
    assert "--every 0" in fails(capsys, "predict", "tiny", video, *labels, "--window", "2", "--every", "0")
    assert "say with --window" in fails(capsys, "predict", "tiny", video, *labels, "--page", "p.html")
    assert "--crops does not go" in fails(capsys, "predict", "tiny", video, *labels, "--window", "2", "--crops", "3")
    file = tmp_path / "x.html"
    file.touch()
    several = ["predict", "tiny", folder, *labels, "--window", "2", "--page", file]
    assert "is a file, and there are 3 videos; name a folder" in fails(capsys, *several)
    column = ["predict", "tiny", video, "--labels", "start,b", "--window", "2", "--csv", "x.csv"]
    assert "a class is called 'start'" in fails(capsys, *column)


def test_a_stream_prints_segments_until_it_is_interrupted(tmp_path):
    model = load_video("tiny")
    setting = Setting(model, NAMES, windows_of(model, 1.0, 0.5), 0.0, 0.0)
    said = []

    def frames():
        for number in range(40):
            yield 5 + number / 10, np.full((32, 32, 3), 6 * number, np.uint8)
        raise KeyboardInterrupt

    found = predict_stream("camera", frames(), setting, said.append)
    assert said[0] == "camera: segments are known at most 1.5 s after they end"
    assert len(said) == 1 + len(found.segments) and found.end == pytest.approx(4.0) and found.windows == []
    assert isinstance(found.segments[0], Segment) and found.segments[0].start == 0.0

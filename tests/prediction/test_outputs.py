"""Segments and windows as CSV, JSON and WebVTT, read back."""

import csv
import io
import json
import sys

import numpy as np
import pytest
import webvtt

from mote.prediction.merging import Scored, Segment
from mote.prediction.outputs import VideoTimeline, segments_csv, timelines_json, vtt, windows_csv

NAMES = ["<b> & --> c", "walking"]
FOUND = VideoTimeline(
    "a,b/long.mp4",
    end=3700.5,
    frames=12,
    windows=[Scored(0.0, 2.0, np.array([0.75, 0.25])), Scored(0.5, 2.5, np.array([0.4, 0.6]))],
    segments=[
        Segment(0.0, 1.25, NAMES[0], 0.75),
        Segment(1.25, 3599.9996, None, 0.6),
        Segment(3599.9996, 3700.5, "walking", 0.9),
        Segment(3700.5, 3700.5001, "walking", 0.9),
    ],
)
BAD = VideoTimeline("bad.mp4", "bad.mp4: cannot be decoded by pyav: the file is empty")


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_of_segments_and_of_windows():
    segments = rows(segments_csv([FOUND, BAD]))
    assert [(s["path"], s["start"], s["end"], s["name"], s["score"], s["error"]) for s in segments[:2]] == [
        ("a,b/long.mp4", "0.000", "1.250", NAMES[0], "0.750000", ""),
        ("a,b/long.mp4", "1.250", "3600.000", "none of these", "0.600000", ""),
    ]
    assert segments[-1]["path"] == "bad.mp4" and segments[-1]["error"] == BAD.error and len(segments) == 5
    windows = rows(windows_csv([FOUND, BAD], NAMES, 0.7))
    assert [w["predicted"] for w in windows] == [NAMES[0], "none of these", ""]
    assert [w["error"] for w in windows] == ["", "", BAD.error] and windows[2]["path"] == "bad.mp4"
    assert windows[1]["start"] == "0.500" and windows[1]["walking"] == "0.600000"


def test_json_holds_everything():
    document = json.loads(timelines_json([FOUND, BAD], NAMES, {"model": "tiny", "window": 2.0}))
    assert list(document) == ["model", "window", "labels", "videos"]
    found, bad = document["videos"]
    assert bad == {"path": "bad.mp4", "error": BAD.error}
    assert found["segments"][1] == {"start": 1.25, "end": 3599.9996, "name": None, "score": 0.6}
    assert found["windows"] == {
        "start": [0, 0.5],
        "end": [2, 2.5],
        "scores": {NAMES[0]: [0.75, 0.4], "walking": [0.25, 0.6]},
    }
    assert (found["end"], found["frames_encoded"]) == (3700.5, 12)


def test_vtt_is_read_back():
    text = vtt(FOUND.segments, "how --> it\n\nwas made")
    assert text.startswith("WEBVTT\n")
    cues = list(webvtt.from_string(text))
    assert [(c.start, c.end, c.raw_text) for c in cues] == [
        ("00:00:00.000", "00:00:01.250", "&lt;b&gt; &amp; --&gt; c"),
        ("01:00:00.000", "01:01:40.500", "walking"),
    ]
    assert "how to it was made" in text
    assert list(webvtt.from_string(vtt([], "nothing"))) == []


def test_vtt_without_its_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "webvtt", None)
    with pytest.raises(ValueError, match=r"pip install 'mote-video\[timelines\]'"):
        vtt(FOUND.segments, "")

"""`mote predict ... --window` on a named pipe: segments as they end, files at the end, mistakes in one line."""

import csv
import os
import threading

import numpy as np
import pytest
from command_line import fails, mote
from video_files import numbered_frames

from mote.datasets.decoding.encode import write_video

LABELS = "a red square,a blue ball,green star"


@pytest.fixture
def pipe(tmp_path):
    """A pipe into which a video of two halves comes."""
    frames = numbered_frames(60)
    frames[30:] = 255 - frames[30:]
    write_video(tmp_path / "a.ts", np.asarray(frames))
    os.mkfifo(tmp_path / "pipe")
    feed = threading.Thread(
        target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / "a.ts").read_bytes()), daemon=True
    )
    feed.start()
    yield tmp_path / "pipe"
    feed.join()


def test_a_pipe_is_cut_into_segments_that_are_written_when_it_ends(pipe, tmp_path, capsys):
    table, subtitles = tmp_path / "s.csv", tmp_path / "s.vtt"
    options = ("--labels", LABELS, "--window", "1s", "--every", "500ms", "--csv", table, "--vtt", subtitles)
    assert mote("predict", "tiny", pipe, *options) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{pipe}: segments are known at most 1.5 s after they end"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(said) - 1 > 0 and {row["path"] for row in rows} == {str(pipe)}
    assert subtitles.read_text().startswith("WEBVTT")


def test_mistakes_are_one_line(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    where = ("predict", "tiny", tmp_path / "pipe")
    window = ("--labels", LABELS, "--window", "1s")
    assert "are watched one at a time" in fails(capsys, *where, "a.mp4", *window)
    assert "--page is for videos that are there" in fails(capsys, *where, *window, "--page", tmp_path / "p.html")
    assert "--live is for timelines; say with --window" in fails(capsys, *where, "--live")

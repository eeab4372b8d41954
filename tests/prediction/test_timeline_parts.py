"""Timelines of many videos in a folder of parts: collected, they are the tables that one process writes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command_line import fails, mote
from stand_in_predictions import NAMES, THRESHOLD, plan, timeline, timelines_of
from video_files import numbered_frames, write_video

from mote.prediction.collect import collect
from mote.prediction.outputs import segments_csv, windows_csv
from mote.prediction.parts import Pace, from_text, part_files
from mote.prediction.share import Share
from mote.prediction.timeline_parts import SEGMENTS
from mote.prediction.write import write_parts

INPUTS = [f"{i}.mp4" for i in range(120)]
LABELS = "a red square,a blue ball,green star"
TIMES = ["--window", "1s", "--every", "250ms", "--smooth", "0.5s", "--threshold", "0.35"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def videos() -> Path:
    """Three videos of different lengths, and one that is none."""
    for place, name in enumerate(("a.mp4", "deep/a.mp4", "b d.mp4", "z.mp4")):
        file = Path("videos") / name
        file.parent.mkdir(exist_ok=True, parents=True)
        frames = numbered_frames(50 + 20 * place)
        frames[30:] = 255 - frames[30:]
        write_video(file, frames) if name[0] != "z" else file.write_bytes(b"no video")
    return Path("videos")


def predict(*arguments: str | Path) -> int:
    return mote("predict", "tiny", "videos", "--labels", LABELS, *TIMES, *arguments)


def tables(name: str, **options) -> tuple[bytes, bytes]:
    """The table of the segments and that of the windows."""
    collect(name, csv_file=f"{name}.csv", **options)
    return Path(f"{name}.csv").read_bytes(), Path(f"{name}.windows.csv").read_bytes()


@pytest.mark.parametrize("cells", [40, 10**6])
def test_tables_are_those_of_all_timelines_at_once(monkeypatch, cells):
    monkeypatch.setattr("mote.prediction.collect.CELLS", cells)
    write_parts(timelines_of, INPUTS, "one", plan(timed=True))
    for number in (3, 1, 2):
        write_parts(timelines_of, INPUTS, "many", plan(timed=True), share=Share(number, 3), pace=Pace(rows=9))
    found = [timeline(one) for one in INPUTS]
    expected = segments_csv(found).encode(), windows_csv(found, NAMES, THRESHOLD).encode()
    assert b"none of these" in expected[0] and b"no video" in expected[0]
    assert tables("one") == tables("many") == expected


def test_segments_as_parquet_and_of_the_best_names_only():
    for name, top in (("all", None), ("best", 1)):
        write_parts(timelines_of, INPUTS, name, plan(timed=True, top=top))
        collect(name, parquet_file=f"{name}.parquet")
    assert tables("all")[0] == tables("best")[0]
    table = pq.read_table("best.parquet")
    assert table.schema.equals(SEGMENTS) and table.equals(pq.read_table("all.parquet"))
    expected = [(one, s.start, s.end, s.name, s.score) for one in INPUTS for s in timeline(one).segments]
    rows = table.filter(table["error"].is_null()).to_pylist()
    assert [(r["path"], r["start"], r["end"], r["name"], r["score"]) for r in rows] == expected
    assert pq.read_table("all.windows.parquet").schema.equals(plan(timed=True).schema)


def test_the_verb_writes_the_same_with_and_without_a_folder(videos, capsys):
    assert predict("--csv", "direct.csv") == 1
    for part in ("1/2", "2/2", "1/1"):
        predict("--out", "out", "--part", part)
    said = capsys.readouterr()
    assert "out: 0 of 4 videos done now, 4 before" in said.out and "1 of 4 videos have no result" in said.err
    assert mote("collect", "out", "--csv", "out.csv") == 1
    assert "4 inputs: 3 done, 1 failed, 0 missing" in capsys.readouterr().out
    for name in ("{}.csv", "{}.windows.csv"):
        assert Path(name.format("out")).read_bytes() == Path(name.format("direct")).read_bytes()
    with open("out.csv", newline="") as file:
        assert {row["path"] for row in csv.DictReader(file)} == {str(file) for file in videos.rglob("*.mp4")}
    settings = json.loads(Path("out/settings.json").read_text())["settings"]
    assert (settings["window"], settings["every"], settings["smooth"], settings["threshold"]) == (1.0, 0.25, 0.5, 0.35)
    changed = {
        "window was 1.0, now 2.0": ["--window", "2s"],
        "every was 0.25, now 0.5": ["--every", "0.5s"],
        "smooth was 0.5, now 1.0": ["--smooth", "1s"],
        "threshold was 0.35, now 0.5": ["--threshold", "0.5"],
        "class 2 was 'green star', now 'x'": ["--labels", "a red square,a blue ball,x"],
        "top was null, now 2": ["--top", "2"],
    }
    for words, options in changed.items():
        arguments = ["predict", "tiny", "videos", "--labels", LABELS, *TIMES, "--out", "out", *options]
        assert words in fails(capsys, *arguments)
    clips = fails(capsys, "predict", "tiny", "videos", "--labels", LABELS, "--threshold", "0.35", "--out", "out")
    assert "timed was true, now false" in clips and "window was 1.0, now null" in clips


def test_what_does_not_go_with_a_folder_is_one_line(videos, capsys, monkeypatch):
    words = ["predict", "tiny", "--labels", LABELS, "--window", "1s", "--out", "out"]
    assert "--vtt does not go with --out" in fails(capsys, *words, "videos", "--vtt", "x")
    assert "--out: a live stream is watched once" in fails(capsys, *words, "rtsp://camera/1")
    assert "--cache: a live stream" in fails(capsys, *words[:-2], "rtsp://camera/1", "--cache", "c")
    assert "--workers does not go with --window" in fails(capsys, *words, "videos", "--workers", "1")
    assert "--csv and --json are in the place of --out" in fails(capsys, *words, "videos", "--csv", "x.csv")
    assert "--top does not go with --window" in fails(capsys, *words[:-2], "videos", "--top", "2")
    assert "--part needs --out" in fails(capsys, *words[:-2], "videos", "--part", "1/2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "--window in several processes needs --out" in fails(capsys, *words[:-2], "videos")
    assert not Path("out").exists()


def test_names_that_are_no_utf8_keep_their_bytes(capsysbinary):
    name = os.fsdecode(b"videos/\xff.mp4")
    Path("videos").mkdir()
    write_video(name, numbered_frames(30))
    words = ["predict", "tiny", "videos", "--labels", LABELS]
    assert mote(*words, "--csv", "clips.csv", "--json", "clips.json") == 0
    assert mote(*words, *TIMES, "--csv", "times.csv", "--json", "times.json") == 0
    assert mote(*words, *TIMES, "--out", "out") == 0
    assert mote("collect", "out", "--csv", "out.csv", "--parquet", "out.parquet", "--inputs", "videos") == 0
    printed = capsysbinary.readouterr().out.splitlines()
    assert sum(line.startswith(b"videos/\xff.mp4: ") for line in printed) == len(printed) - 2 >= 2
    for file in Path().glob("*.csv"):
        lines = file.read_bytes().splitlines()[1:]
        assert lines and all(line.startswith(b"videos/\xff.mp4,") for line in lines)
    for file in Path().glob("*.json"):
        assert json.loads(file.read_text("ascii"))["videos"][0]["path"] == name
    for file in Path().glob("*.parquet"):
        paths = pq.read_table(file)["path"].to_pylist()
        assert {*paths} == {"videos/\\xff.mp4"} and from_text(paths[0]) == name


@pytest.mark.slow
def test_processes_of_a_launch_and_a_kill(videos):
    environment = {**os.environ, "LC_ALL": "C"}

    def started(*launcher: str, out: str) -> subprocess.Popen:
        words = ["mote", "predict", "tiny", "videos", "--labels", LABELS, *TIMES, "--out", out]
        command = [sys.executable, "-m", *launcher, *words]
        return subprocess.Popen(command, env=environment, start_new_session=True)

    launcher = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
    assert started(out="one").wait(600) == 1
    assert started(*launcher, out="two").wait(600) == 0  # 1 would end the other process
    assert len(part_files(Path("two"))) == 2
    killed = started(out="killed")
    while not [*Path("killed").glob("inputs-*")]:
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL and collect("killed").missing
    assert started(out="killed").wait(600) == 1
    assert tables("one") == tables("two") == tables("killed")

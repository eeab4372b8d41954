"""`mote predict` by several processes of one launch: every file named once, in one table and one document."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip

NAMES = "red star,blue arrow,green ball"


@pytest.mark.slow
def test_two_processes_name_every_file_once_and_as_one_does(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(5):
        write_video(videos / f"{number}.mp4", render_clip(np.random.default_rng(number), "red star", "growing", 6))
    (videos / "3.mp4").write_bytes(b"no video")

    def predict(*launcher: str, out: str) -> subprocess.CompletedProcess[str]:
        arguments = ["predict", "tiny", videos, "--labels", NAMES, "--csv", f"{out}.csv", "--json", f"{out}.json"]
        command = [sys.executable, "-m", *launcher, "mote", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "LC_ALL": "C"})

    launcher = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
    one, two = predict(out="one"), predict(*launcher, out="two")
    assert one.returncode == 1 and two.returncode == 1, two.stderr
    assert one.stdout == two.stdout and one.stdout.count("\n") == 4
    assert "1 of 5 videos could not be decoded" in two.stderr and two.stderr.count("mote: skipped: ") == 1
    with (tmp_path / "two.csv").open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [str(videos / f"{n}.mp4") for n in range(5)]
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert json.loads((tmp_path / "one.json").read_text()) == json.loads((tmp_path / "two.json").read_text())

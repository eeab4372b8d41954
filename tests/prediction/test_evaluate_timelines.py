"""`mote eval ... --window` on a list of segments: the numbers of the segments that `mote predict` finds."""

import csv
import json

import pytest
from command_line import fails, mote
from video_files import numbered_frames, write_video

from mote.metrics.segments import Detection, Listed, segment_report

CLASSES = ["a red square", "a blue ball", "green star"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("segments")
    for name, count in (("a.mp4", 60), ("b.mp4", 90)):
        write_video(found / name, numbered_frames(count))
    lines = ["path,start,end,label", "a.mp4,0,2.4,green star", "b.mp4,0.5,2,a red square", "b.mp4,2,3.6,2"]
    (found / "list.csv").write_text("\n".join(lines) + "\n")
    (found / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return found


def settings(folder, *more):
    where = [f"evaluation.manifest={folder / 'list.csv'}", f"evaluation.classes={folder / 'classes.txt'}"]
    return ["eval", "tiny", *where, "--window", "1s", "--every", "500ms", *more]


def test_numbers_are_those_of_the_segments_found(folder, tmp_path, capsys):
    assert mote(*settings(folder, "--out", tmp_path, "--smooth", "1s", "--threshold", "0.2")) == 0
    assert "eval.json: 2 videos, F1 at tIoU 0.3" in capsys.readouterr().out
    result = json.loads((tmp_path / "eval.json").read_text())
    with (tmp_path / "eval.csv").open() as file:
        rows = list(csv.DictReader(file))
    listed = [r for r in rows if r["kind"] == "listed"]
    assert [(r["start"], r["name"]) for r in listed] == [
        ("0.000", "green star"),
        ("0.500", CLASSES[0]),
        ("2.000", "green star"),
    ]
    assert mote("predict", "tiny", folder, "--classes", folder / "classes.txt", "--window", "1s", "--every", "0.5",
                "--smooth", "1s", "--threshold", "0.2", "--csv", tmp_path / "p.csv") == 0  # fmt: skip
    with (tmp_path / "p.csv").open() as file:
        predicted = [r for r in csv.DictReader(file) if r["name"] != "none of these"]
    found = [r for r in rows if r["kind"] == "found"]
    keys = ("path", "start", "end", "name", "score")
    assert [[r[k] for k in keys] for r in found] == [[r[k] for k in keys] for r in predicted]
    videos = [str(folder / "a.mp4"), str(folder / "b.mp4")]

    def place(row):
        return videos.index(row["path"]), float(row["start"]), float(row["end"]), row["name"]

    report = segment_report(
        [Listed(*place(r)) for r in listed], [Detection(*place(r), float(r["score"])) for r in found], 2
    )
    assert result["map"] == pytest.approx(report["map"]) and result["f1"] == pytest.approx(report["f1"])
    assert result["timeline"] == {"window": 1.0, "every": 0.5, "smooth": 1.0, "threshold": 0.2}
    assert result["undecodable"] == [] and result["provenance"]["hashes"]["manifest"]


def test_mistakes_are_one_line(folder, capsys):
    assert "evaluation.clips does not go" in fails(capsys, *settings(folder, "evaluation.clips=2"))
    assert "say with --window" in fails(capsys, "eval", "tiny", "--every", "2s")
    lost = folder / "lost.csv"
    lost.write_text("path,start,end,label\nc.mp4,0,1,green star\n")
    assert "1 of its videos are not there" in fails(capsys, *settings(folder, f"evaluation.manifest={lost}"))

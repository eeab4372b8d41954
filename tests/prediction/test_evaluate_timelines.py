"""`mote eval ... --window` on a list of segments: the numbers of the segments that `mote predict` finds."""

import csv
import json
import shutil

import pytest
from command_line import fails, mote
from video_files import numbered_frames, write_video

from mote.config import load
from mote.metrics.segments import Detection, Listed, segment_report
from mote.prediction.evaluate_timelines import for_timelines

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
        ("0.0", "green star"),
        ("0.5", CLASSES[0]),
        ("2.0", "green star"),
    ]
    assert mote("predict", "tiny", folder, "--classes", folder / "classes.txt", "--window", "1s", "--every", "0.5",
                "--smooth", "1s", "--threshold", "0.2", "--csv", tmp_path / "p.csv") == 0  # fmt: skip
    with (tmp_path / "p.csv").open() as file:
        predicted = [r for r in csv.DictReader(file) if r["name"] != "none of these"]
    found = [r for r in rows if r["kind"] == "found"]
    for one, other in zip(found, predicted, strict=True):
        assert (one["path"], one["name"]) == (other["path"], other["name"])
        for key, digits in (("start", 3), ("end", 3), ("score", 6)):
            assert float(one[key]) == pytest.approx(float(other[key]), abs=0.6 * 10**-digits)
    videos = [str(folder / "a.mp4"), str(folder / "b.mp4")]

    def place(row):
        return videos.index(row["path"]), float(row["start"]), float(row["end"]), row["name"]

    report = segment_report(
        [Listed(*place(r)) for r in listed], [Detection(*place(r), float(r["score"])) for r in found], 2
    )
    assert {key: result[key] for key in report} == report  # the table has all digits
    assert result["timeline"] == {"window": 1.0, "every": 0.5, "smooth": 1.0, "threshold": 0.2}
    assert result["undecodable"] == [] and result["provenance"]["hashes"]["manifest"]


def test_a_result_is_verified_from_its_files(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "videos")
    listed = tmp_path / "videos/list.csv"
    write_video(tmp_path / "videos/c.mp4", numbered_frames(20))
    listed.write_text(listed.read_text() + "c.mp4,,,\n")  # nothing is to be found there
    assert mote(*settings(tmp_path / "videos", "--out", tmp_path, "--threshold", "0.1")) == 0
    capsys.readouterr()
    assert mote("eval", "--verify", tmp_path / "eval.json") == 0
    assert "numbers" in capsys.readouterr().out
    table = (tmp_path / "eval.csv").read_text()
    for before, after, told in (
        (",found,", ",nothing,", "in the table"),
        ("listed,0.0,2.4", "listed,0.0,", "damaged line"),
        ("path,kind", "path,sort", "expected the columns"),
        (",listed,", ",nothing,", "no segment is listed"),
    ):
        assert before in table
        (tmp_path / "eval.csv").write_text(table.replace(before, after))
        assert mote("eval", "--verify", tmp_path / "eval.json") == 1
        out = capsys.readouterr().out
        assert told in out and "predictions: sha256" in out
    (tmp_path / "eval.csv").write_text(table)
    listed.write_text(listed.read_text().replace("0.5,2", "0.6,2"))
    assert mote("eval", "--verify", tmp_path / "eval.json") == 1
    assert "manifest: sha256" in capsys.readouterr().out


def test_what_a_run_says_of_clips_does_not_stand_in_the_way(tmp_path):
    (tmp_path / "config.yaml").write_text("evaluation: {clips: 3, split: test, alpha: 0.5}\n")
    config = load([tmp_path / "config.yaml"], ["evaluation.crops=3"])
    left = for_timelines(config, {"evaluation.crops"}).evaluation
    assert (left.clips, left.split, left.alpha, left.crops) == (1, None, 1.0, 3)


def test_mistakes_are_one_line(folder, capsys):
    assert "evaluation.clips does not go" in fails(capsys, *settings(folder, "evaluation.clips=2"))
    assert "say with --window" in fails(capsys, "eval", "tiny", "--every", "2s")
    lost = folder / "lost.csv"
    lost.write_text("path,start,end,label\nc.mp4,0,1,green star\n")
    assert "1 of its videos are not there" in fails(capsys, *settings(folder, f"evaluation.manifest={lost}"))

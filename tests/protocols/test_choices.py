"""What each choice of an evaluation moves: every row is what an evaluation of its own says."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import fails, mote

from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip

NAMES = ("red star moving left", "blue arrow growing", "green ball circling")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Two folders with a folder for each class: two clips of each, and one."""
    folder = tmp_path_factory.mktemp("clips")
    for place, count in (("base", 2), ("other", 1)):
        for k, name in enumerate(NAMES):
            for n in range(count):
                (folder / place / name).mkdir(parents=True, exist_ok=True)
                colour, shape, motion = name.split(" ", 2)
                frames = render_clip(np.random.default_rng(3 * n + k), f"{colour} {shape}", motion, 9)
                write_video(folder / place / name / f"{n}.mp4", frames)
    return folder


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def test_every_row_is_an_evaluation_of_its_own(clips, tmp_path, capsys):
    pytest.importorskip("decord")
    out, targets = tmp_path / "choices", [f"folder-zs={clips / name}" for name in ("base", "other")]
    settings = ("data.workers=0", "data.decode_timeout=null", "run.cpu=true")
    assert mote("frontier", "tiny", *settings, "--out", out, "--choices", *targets) == 0
    printed = capsys.readouterr().out
    found = json.loads((out / "choices.json").read_text())["rows"]
    table = rows(out / "choices.csv")
    assert [row["choice"] for row in found] == [row["choice"] for row in table]
    assert {(row["choice"], row["value"]) for row in found[1:-1]} == {
        ("filter", "bilinear"),
        ("decoder", "decord"),
        ("decoder", "decord_single"),
        ("templates", "name"),
        ("fusion", "mean_logits"),
        ("fusion", "reference"),
        ("alpha", "0.99"),
        ("places", "released"),
        ("views", "1x1"),
        ("views", "4x3"),
    }
    base = rows(out / "base-test.csv")
    for row, line in zip(found, table, strict=True):
        own = rows(out / row["result"].replace(".json", "-test.csv"))
        top1 = sum(int(one["correct"]) for one in own) / len(own)
        assert row["top1"] == pytest.approx(top1) == float(line["top1"])
        assert row["difference"] == pytest.approx(top1 - found[0]["top1"])
        if row["choice"] == "lists":
            assert row["changed"] is None and line["changed"] == "" and len(own) == 3 == row["videos"]
            continue
        assert row["changed"] == sum(a["predicted"] != b["predicted"] for a, b in zip(own, base, strict=True))
        assert f"{row['changed']} of 6" in printed
    assert not [*out.glob("features*")]
    one = [f"evaluation.manifest={clips / 'base'}", "evaluation.clips=1", "--out", tmp_path, "--no-page", "--no-cache"]
    assert mote("eval", "tiny", *settings, *one) == 0
    alone = {(row["path"], row["probability"]) for row in rows(tmp_path / "eval.csv")}
    assert alone == {(row["path"], row["probability"]) for row in rows(out / "views-1x1-test.csv")}
    assert mote("eval", "tiny", "--verify", out / "fusion-mean_logits.json") == 0


def test_what_cannot_be_compared_is_one_line(clips, tmp_path, capsys):
    where = ("frontier", "tiny", "--out", tmp_path / "out")
    base = f"folder-zs={clips / 'base'}"
    assert "--closed P and --zero-shot Q, or --choices P" in fails(capsys, *where)
    assert "--alphas does not go with --choices" in fails(capsys, *where, "--choices", base, "--alphas", "1")
    assert "--choices needs PROTOCOL=LISTS" in fails(capsys, *where, "--choices", clips / "base")
    assert "evaluation.clips=1 (the protocol: 3)" in fails(capsys, *where, "evaluation.clips=1", "--choices", base)
    assert not (tmp_path / "out").exists()

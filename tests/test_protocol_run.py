"""Protocols through the command line: three splits, halves, lists that are wrong, and what the results say."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_cli import mote

from mote.datasets.synthetic import render_clip, write_video

# Its words are names of UCF101, which the built-in CLIP spells in letters.
pytestmark = pytest.mark.filterwarnings("ignore:tiny CLIP has no token:UserWarning")
CLASSES = Path(__file__).parents[1] / "data" / "classes"
TUNED = ("archery", "bowling", "red star moving left")  # the first two are classes of UCF101 as well
FOLDERS = ("Archery", "BandMarching", "Bowling", "YoYo")
LABELS = {"Archery": 2, "BandMarching": 5, "Bowling": 15, "YoYo": 100}  # as classInd.txt has them, minus 1


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A run tuned on three classes, and UCF101 with four videos in each of three test lists, in folders by class."""
    home = tmp_path_factory.mktemp("world")
    videos, lists = home / "videos", home / "lists"
    lists.mkdir()
    every = []
    for i, folder in enumerate(FOLDERS):
        for n in range(4):
            frames = render_clip(np.random.default_rng(10 * i + n), "red star", "moving left", 12)
            (videos / folder).mkdir(parents=True, exist_ok=True)
            write_video(videos / folder / f"v{n}.avi.mp4", frames)
            every.append((f"{folder}/v{n}.avi.mp4", LABELS[folder], n))
    for n in (1, 2, 3):
        (lists / f"test{n}.txt").write_text("".join(f"{p} {k}\n" for p, k, group in every if group == n))
        (lists / f"train{n}.txt").write_text("".join(f"{p} {k}\n" for p, k, group in every if group != n))
    (lists / "all.txt").write_text("".join(f"{p} {k}\n" for p, k, _ in every))
    shutil.copy(CLASSES / "ucf101.csv", lists / "classes.csv")
    (lists / "report.json").write_text(json.dumps({"videos": str(videos)}))
    (home / "tuned.txt").write_text("\n".join(TUNED) + "\n")
    (home / "train.txt").write_text("videos/Archery/v0.avi.mp4 0\nvideos/Bowling/v0.avi.mp4 1\n")
    settings = [f"data.train={home / 'train.txt'}", f"data.classes={home / 'tuned.txt'}", f"run.out={home / 'run'}"]
    settings += ["model.layers=1", "optim.epochs=1", "optim.warmup_epochs=0", "optim.batch_size=2", "data.workers=0"]
    settings += ["evaluation.clips=1", "evaluation.fusion=reference", "evaluation.alpha=0.5", "data.frames=4"]
    assert mote("train", *settings) == 0
    return home


def evaluate(world: Path, protocol: str, out: Path, *more: str | Path) -> dict:
    where = ("--lists", world / "lists", "--out", out)
    assert mote("eval", world / "run", "--protocol", protocol, *where, *more) == 0
    return json.loads((out / f"{protocol.partition('@')[0]}.json").read_text())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def copied(world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world / "lists", tmp_path / "lists"))


def test_three_splits_give_mean_and_population_std_and_say_which_rules_they_obeyed(world, tmp_path, capsys):
    result = evaluate(world, "ucf101-zs@1", tmp_path)
    out, err = capsys.readouterr()
    accuracy = [np.mean([int(row["correct"]) for row in rows(tmp_path / f"ucf101-zs-test{n}.csv")]) for n in (1, 2, 3)]
    mean = sum(accuracy) / 3
    assert result["top1"] == pytest.approx(mean)
    assert result["top1_std"] == pytest.approx(math.sqrt(sum((a - mean) ** 2 for a in accuracy) / 3))
    assert result["protocol"]["identifier"] == "ucf101-zs@1" and result["protocol"]["digest"] in out
    assert "test2.txt: 4 videos, the protocol expects 3734" in err
    assert any("test3.txt: 4 videos" in line for line in result["protocol"]["departures"])
    one = json.loads((tmp_path / "ucf101-zs-test2.json").read_text())
    settings = one["provenance"]["config"]["evaluation"]
    chosen = [settings[key] for key in ("clips", "crops", "fusion", "modulation", "alpha")]
    assert chosen == [3, 1, "mean_softmax", True, 1.0]  # not those of the run
    assert one["provenance"]["config"]["data"]["frames"] == 8
    assert one["protocol"]["list"] == "test2" and one["num_classes"] == 101


def test_accuracy_without_the_class_names_of_tuning_is_printed_and_stored(world, tmp_path, capsys):
    evaluate(world, "ucf101-zs", tmp_path)
    assert "2 of 101 class names occur among the classes of tuning; without their videos" in capsys.readouterr().out
    known = json.loads((tmp_path / "ucf101-zs-test1.json").read_text())["overlap"]
    assert [match["b_name"] for match in known["names"]] == ["archery", "bowling"]
    kept = [row for row in rows(tmp_path / "ucf101-zs-test1.csv") if row["label"] not in ("archery", "bowling")]
    assert known["without"]["listed"] == len(kept) == 2
    assert known["without"]["top1_correct"] == sum(int(row["correct"]) for row in kept)

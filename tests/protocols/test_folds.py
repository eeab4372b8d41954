"""A protocol of folds through the command line: a run for each fold, WAR and UAR over all of them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from command_line import fails, mote

from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.faces import EXPRESSIONS, render_face
from mote.files.writing import WritingError
from mote.protocols import carry_out

pytestmark = pytest.mark.filterwarnings("ignore:tiny CLIP has no token:UserWarning")
FOLDS = range(1, 6)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Fifteen clips of seven expressions in five folds, as `mote data prepare` lists them, and a run of one step each.

    Clip i is tested in fold i % 5 + 1, so folds test other classes in other numbers.
    """
    home = tmp_path_factory.mktemp("folds")
    (home / "lists").mkdir()
    clips = [f"{i:05d}.mp4" for i in range(15)]
    for i, clip in enumerate(clips):
        write_video(home / "lists" / clip, render_face(np.random.default_rng(i), EXPRESSIONS[i % 7], num_frames=4))
    names = "".join(f"{k},{name}\n" for k, name in enumerate(EXPRESSIONS))
    (home / "lists" / "classes.csv").write_text(f"id,name\n{names}")
    for fold in FOLDS:
        rows = [
            f"{clip},{EXPRESSIONS[i % 7]},{'test' if i % 5 + 1 == fold else 'train'}" for i, clip in enumerate(clips)
        ]
        file = home / "lists" / f"fold{fold}.csv"
        file.write_text("\n".join(["path,label,split", *rows]) + "\n")
        where = [f"data.train={file}", "data.split=train", f"data.classes={home / 'lists' / 'classes.csv'}"]
        quick = ["model.layers=0", "optim.backbone_lr_scale=1", "optim.epochs=1", "optim.warmup_epochs=0"]
        quick += ["optim.batch_size=12", "optim.lr=1e-3", "data.workers=0", "data.frames=2", f"seed={fold}"]
        assert mote("train", *where, *quick, f"run.out={home / f'run{fold}'}") == 0
    return home


def runs(world: Path) -> list[Path]:
    return [world / f"run{fold}" for fold in FOLDS]


@pytest.mark.slow
def test_five_runs_give_mean_spread_and_pooled_accuracies(world, tmp_path, capsys):
    where = ("--protocol", "dfew@1", "--lists", world / "lists", "--out", tmp_path, "--no-page")
    assert mote("eval", *runs(world), *where) == 0
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "dfew.json").read_text())
    overall, means, right, total = [], [], dict.fromkeys(EXPRESSIONS, 0), dict.fromkeys(EXPRESSIONS, 0)
    for fold in FOLDS:
        lines = (tmp_path / f"dfew-fold{fold}.csv").read_text().splitlines()
        rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
        assert sorted(int(Path(row["path"]).stem) % 5 + 1 for row in rows) == [fold] * 3
        overall.append(sum(int(row["correct"]) for row in rows) / 3)
        of = {row["label"]: [r for r in rows if r["label"] == row["label"]] for row in rows}
        means.append(float(np.mean([np.mean([int(r["correct"]) for r in those]) for those in of.values()])))
        for row in rows:
            right[row["label"]] += int(row["correct"])
            total[row["label"]] += 1
    for key, values in (("top1", overall), ("mean_class_recall", means)):
        mean = sum(values) / 5
        assert result[key] == pytest.approx(mean)
        assert result[f"{key}_std"] == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in values) / 5))
    assert result["pooled"]["top1"] == pytest.approx(sum(right.values()) / 15)
    assert result["pooled"]["mean_class_recall"] == pytest.approx(np.mean([right[n] / total[n] for n in EXPRESSIONS]))
    assert result["listed"] == 15 and (tmp_path / "dfew.txt").read_text() in printed and "WAR" in printed
    one = json.loads((tmp_path / "dfew-fold3.json").read_text())
    assert one["provenance"]["inputs"]["model"] == str(world / "run3") and one["protocol"]["list"] == "fold3"
    assert mote("eval", "--verify", tmp_path / "dfew.json") == 0


@pytest.mark.slow
def test_runs_in_another_order_or_number_are_refused_before_anything_is_scored(world, tmp_path, capsys):
    where = ("--protocol", "dfew", "--lists", str(world / "lists"), "--out", str(tmp_path / "out"))
    turned = [str(run) for run in reversed(runs(world))]
    message = fails(capsys, "eval", *turned, *where)
    assert "3 videos are also in the training list" in message and "in the order fold1, fold2" in message
    message = fails(capsys, "eval", str(world / "run1"), *where)
    assert "needs a run for each of fold1, fold2, fold3, fold4, fold5, in this order; got 1" in message
    assert not (tmp_path / "out").exists()


def test_the_table_and_the_result_are_written_both_or_neither(tmp_path):
    numbers = {"top1": 0.5, "mean_class_recall": 0.25}
    part = numbers | {"top1_interval": None, "mean_class_recall_interval": None, "top5": 1.0, "top5_interval": None}
    part |= {"top5_k": 5, "listed": 4, "scored": 4}
    result = numbers | {"task": "dfew", "top1_std": None, "mean_class_recall_std": None, "pooled": numbers}
    result |= {"listed": 4, "lists": {"fold1": part}, "protocol": {"fields": {"subsets": "folds"}}}
    (tmp_path / "dfew-fold1.json").write_text("{}")
    (tmp_path / "dfew.txt").mkdir()
    with pytest.raises(WritingError, match=r"dfew\.json and .*dfew\.txt: cannot be written: Is a directory"):
        carry_out._write(tmp_path, result)
    assert not (tmp_path / "dfew.json").exists()
    (tmp_path / "dfew.txt").rmdir()
    carry_out._write(tmp_path, result)
    assert json.loads((tmp_path / "dfew.json").read_text())["top1"] == 0.5
    assert "fold1" in (tmp_path / "dfew.txt").read_text()

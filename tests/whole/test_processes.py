"""Whole runs in processes of their own: several at once, and killed in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from process_pair import two_processes

from mote.cli import main
from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip

CLASSES = ("red star moving left", "blue arrow growing", "green ball bouncing")
ONE = (sys.executable, "-m", "mote")
TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "mote")


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> list[str]:
    """Overrides of a short run on eleven clips; batch 4 leaves a last round that must be padded."""
    folder = tmp_path_factory.mktemp("clips")
    for i in range(11):
        colour, shape, motion = CLASSES[i % 3].split(" ", 2)
        write_video(folder / f"{i}.mp4", render_clip(np.random.default_rng(i), f"{colour} {shape}", motion, 8))
    (folder / "list.txt").write_text("".join(f"{i}.mp4 {i % 3}\n" for i in range(11)))
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    where = [f"data.train={folder / 'list.txt'}", f"data.classes={folder / 'classes.txt'}"]
    where.append(f"evaluation.manifest={folder / 'list.txt'}")
    quick = ["model.layers=1", "data.frames=4", "data.workers=0", "optim.warmup_epochs=0", "optim.batch_size=4"]
    return [
        *where,
        *quick,
        "optim.lr=1e-3",
        "evaluation.batch_size=4",
        "optim.sync_routing=true",
        "run.cpu=true",
        "evaluation.page=false",
    ]


def start(command: tuple[str, ...], *arguments: str | Path) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *map(str, arguments)], stdout=pipe, stderr=pipe, text=True, env=environment)


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    return out


def here(*arguments: str | Path) -> None:
    """The same in this process, which has imported everything already."""
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    assert stop.value.code == 0


def losses(run: Path) -> list[dict]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "time"} for record in records]


def test_two_processes_train_and_score_like_one(settings, tmp_path):
    here("train", *settings, "optim.epochs=2", f"run.out={tmp_path / 'one'}")
    two_processes("train", *settings, "optim.epochs=2", f"run.out={tmp_path / 'two'}")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) == 6  # 2 steps and an evaluation in each of 2 epochs
    for a, b in zip(one, two, strict=True):
        numbers = a.get("evaluation", a)
        assert numbers == pytest.approx(b.get("evaluation", b), abs=1e-6, rel=1e-5)
    first, second = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert first["confusion_matrix"] == second["confusion_matrix"] and second["listed"] == second["scored"] == 11


@pytest.mark.slow
def test_two_processes_mine_extra_knowledge_like_one(settings, tmp_path):
    """MEK on clips: losses, terms and counts of one process and of two are the same."""
    more = ["imbalance.method=mek", "imbalance.strength=10", "optim.backbone_lr_scale=1", "evaluation.page=false"]
    for name, command in (("one", ONE), ("two", TWO)):
        finish(start(command, "train", *settings, *more, "optim.epochs=2", f"run.out={tmp_path / name}"))
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert all(record["attention"] > 0 for record in one if "loss" in record)
    for a, b in zip(one, two, strict=True):
        assert a.get("evaluation", a) == pytest.approx(b.get("evaluation", b), abs=1e-6, rel=1e-5)
    first, second = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    for key in ("confusion_matrix", "training_counts", "macro_f1"):
        assert first[key] == second[key]
    out = finish(start(TWO, "eval", tmp_path / "one", "--out", tmp_path))
    assert out.count("11 of 11 videos") == 1
    again = json.loads((tmp_path / "eval.json").read_text())
    keys = ("top1_correct", "top5_correct", "confusion_matrix", "mean_class_recall", "top1_interval")
    assert {key: again[key] for key in keys} == {key: first[key] for key in keys}


@pytest.mark.slow
def test_killed_in_mid_epoch_a_resumed_run_is_the_uninterrupted_one(settings, tmp_path):
    more = [*settings, "optim.epochs=30", "run.save_every=1", "evaluation.every=30"]
    killed = start(ONE, "train", *more, f"run.out={tmp_path / 'killed'}")
    log = tmp_path / "killed" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") >= 9):  # in the middle of the fifth epoch
        assert killed.poll() is None and time.monotonic() < deadline, killed.communicate()[1]
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    here("train", *more, f"run.out={tmp_path / 'whole'}")
    assert len(losses(tmp_path / "killed")) < len(losses(tmp_path / "whole"))
    here("train", tmp_path / "killed", "--resume")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    for file in ("best/model.safetensors",):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:tiny CLIP has no token")
def test_balanced_batches_and_expression_metrics_on_two_processes(tmp_path):
    """Tiny CLIP has no batch statistics, so that the processes see the same network."""
    lines, rng = ["path,label"], np.random.default_rng(0)
    for label, count in enumerate((9, 5, 2)):
        for i in range(count):
            pixels = rng.integers(0, 120, (32, 32, 3), dtype=np.uint8)
            bright = np.uint8(100) * (pixels[..., :1] > 40 * label)
            Image.fromarray(pixels + bright).save(tmp_path / f"{label}_{i}.png")
            lines.append(f"{label}_{i}.png,{label}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    quick = [f"{key}={tmp_path / 'list.csv'}" for key in ("data.train", "evaluation.manifest")]
    quick += ["task=expression", "imbalance.method=sampler", "image.net=backbone", "data.size=64", "data.workers=0"]
    quick += [
        "optim.epochs=2",
        "optim.warmup_epochs=0",
        "optim.batch_size=4",
        "optim.backbone_lr_scale=1",
        "optim.lr=1e-4",
    ]
    quick += ["evaluation.page=false", "evaluation.every=2", "evaluation.batch_size=3", "run.cpu=true"]
    for name, command in (("one", ONE), ("two", TWO)):
        finish(start(command, "train", *quick, f"run.out={tmp_path / name}"))
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) == 9
    for a, b in zip(one, two, strict=True):
        assert a.get("evaluation", a) == pytest.approx(b.get("evaluation", b), abs=1e-6, rel=1e-5)
    first, second = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert first["confusion_matrix"] == second["confusion_matrix"] and second["listed"] == second["scored"] == 16
    assert first["groups"] == second["groups"] and first["macro_f1"] == second["macro_f1"]
    for kind, part in first["extra_knowledge"].items():
        given = second["extra_knowledge"][kind]["given"]
        assert np.array(part["given"]) == pytest.approx(np.array(given), rel=1e-4)


@pytest.mark.slow
def test_an_autoencoder_is_refused_in_two_processes(tmp_path):
    """Batch normalisation and the latent terms are of a whole batch; nothing is written."""
    np.savez(tmp_path / "x.npz", train_images=np.zeros((8, 8, 8), np.uint8), train_labels=np.arange(8) % 2)
    sizes = ["image.channels=1", "autoencoder.width=4", "autoencoder.latent=2", "autoencoder.modes=2"]
    wanted = ["task=autoencoder", *sizes, "optim.batch_size=8", f"data.train={tmp_path / 'x.npz'}", "run.cpu=true"]
    process = start(TWO, "train", *wanted, f"run.out={tmp_path / 'run'}")
    _, err = process.communicate(timeout=180)
    assert process.returncode != 0 and "task=autoencoder trains in one process" in err, err
    assert not (tmp_path / "run").exists()

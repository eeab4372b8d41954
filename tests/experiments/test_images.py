"""`mote train` and `mote eval` with task=image, from real files."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from mote.cli import main
from mote.models.image_checkpoints import load_net

QUICK = [
    "task=image",
    "image.net=lenet",
    "image.dropout=0.2",
    "data.size=16",
    "data.workers=0",
    "data.crop_scale=[1,1]",
]
QUICK += [
    "evaluation.page=false",
    "data.flip=0",
    "data.grayscale=0",
    "optim.epochs=3",
    "optim.warmup_epochs=0",
    "optim.batch_size=4",
]
QUICK += ["optim.lr=3e-3", "evaluation.batch_size=3"]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder of 24 pictures of two classes: bright above, bright below, named up and down."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for label, name in enumerate(("down", "up")):
        (folder / name).mkdir()
        for i in range(12):
            pixels = rng.integers(0, 80, (20, 20, 3), dtype=np.uint8)
            pixels[10 - 10 * label : 20 - 10 * label] += 150
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def mote(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def train(images: Path, out: Path, *overrides: str) -> int:
    where = [f"data.train={images}", f"evaluation.manifest={images}", f"run.out={out}"]
    return mote("train", *QUICK, *where, *overrides)


def test_train_evaluate_and_load(images, tmp_path, capsys):
    components = ["mixing.methods=[mixup,gmix]", "mixing.probability=0.5", "r_drop.weight=0.5"]
    assert train(images, tmp_path / "run", *components) == 0
    result = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert result["listed"] == 24 and result["top1"] > 0.9  # brightness by halves is learnt in 18 steps
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"ce", "r_drop"} <= set(log[0]) and len([r for r in log if "loss" in r]) == 18
    assert mote("eval", tmp_path / "run", "evaluation.page=true", "--out", tmp_path / "again") == 0
    page = (tmp_path / "again" / "eval" / "index.html").read_text()
    wrong = result["listed"] - result["top1_correct"]
    assert page.count("data:image/jpeg") == min(6, result["top1_correct"]) + min(6, wrong)
    assert f"{result['listed']} listed images were decoded" in page and "Right and most certain" in page
    again = json.loads((tmp_path / "again" / "eval.json").read_text())
    assert again["confusion_matrix"] == result["confusion_matrix"]
    assert again["provenance"]["hashes"]["weights"] == result["provenance"]["hashes"]["weights"]
    assert "batch/s" not in capsys.readouterr().err  # a bar of progress is for terminals
    assert mote("predict", tmp_path / "run", images / "up" / "0.png") == 0
    assert "0.png: up " in capsys.readouterr().out
    assert mote("export", tmp_path / "run", "--out", tmp_path / "a.pt2") == 2
    assert "holds a network for still images" in capsys.readouterr().err
    model, meta = load_net(tmp_path / "run" / "best")
    assert meta["classes"] == ["down", "up"] and meta["selected"] == "last epoch"
    bright = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    bright[:, :, 8:] = 190
    assert model(bright).argmax().item() == 0


def as_before_the_rename(run):
    """The run as the first versions wrote it: CLIP was called clip, there was one decoder, and the hash is of that."""
    tree = yaml.safe_load((run / "config.yaml").read_text())
    tree["model"]["clip"], tree["optim"]["clip_lr_scale"] = (
        tree["model"].pop("backbone"),
        tree["optim"].pop("backbone_lr_scale"),
    )
    del tree["data"]["decoder"]
    (run / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    fixed = {section: keys for section, keys in tree.items() if section not in ("run", "evaluation")}
    fixed["data"] = {
        k: v for k, v in tree["data"].items() if k not in ("workers", "decode_timeout", "max_bad_fraction")
    }
    state = json.loads((run / "last" / "state.json").read_text())
    state["progress"]["fingerprint"] = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]
    (run / "last" / "state.json").write_text(json.dumps(state))


def test_a_run_goes_on_where_it_stood_even_one_of_the_first_versions(images, tmp_path, monkeypatch, capsys):
    components = [
        "mixing.methods=[cutmix]",
        "sparsity.strength=0.4",
        "sparsity.layers={conv*: 1.4}",
        "run.save_every=1",
    ]
    assert train(images, tmp_path / "whole", *components) == 0
    from mote.tasks.image import ImageTask

    forward, calls = ImageTask.forward, []

    def broken(self, batch, generator):
        calls.append(1)
        loss, terms = forward(self, batch, generator)
        return loss * (float("nan") if len(calls) == 8 else 1.0), terms

    monkeypatch.setattr(ImageTask, "forward", broken)
    assert train(images, tmp_path / "stopped", *components) == 2
    as_before_the_rename(tmp_path / "stopped")
    capsys.readouterr()
    assert train(images, tmp_path / "stopped", *components, "optim.lr=0.5", "--resume") == 2
    assert "optim.lr was 0.003, now 0.5" in capsys.readouterr().err
    assert mote("train", tmp_path / "stopped", "--resume") == 0
    whole, resumed = (load_file(tmp_path / run / "best" / "model.safetensors") for run in ("whole", "stopped"))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_clip_as_a_backbone(images, tmp_path):
    clip = [
        "image.net=backbone",
        "image.dropout=0",
        "data.size=64",
        "optim.epochs=1",
        "optim.backbone_lr_scale=1",
        "optim.lr=1e-4",
    ]
    assert train(images, tmp_path / "run", *clip, "mixing.methods=[hmix]") == 0
    assert mote("eval", tmp_path / "run", "--out", tmp_path / "again") == 0
    results = [json.loads(path.read_text()) for path in (tmp_path / "run/metrics.json", tmp_path / "again/eval.json")]
    assert results[0]["confusion_matrix"] == results[1]["confusion_matrix"]


def test_mistakes_are_one_line_and_leave_nothing(images, tmp_path, capsys):
    for overrides, message in (
        (["image.net=alexnet"], "unknown image network 'alexnet'"),
        (["image.net=timm:nonsense"], "timm has no model 'nonsense'"),
        (["data.size=18"], "got 18"),
        (["evaluation.manifest=nowhere.csv"], "nowhere.csv: there is no such file"),
        (["data.size=null"], "data.size is not set"),
        (["evaluation.classes=x.txt"], "evaluation.classes is for task=video"),
    ):
        capsys.readouterr()
        assert train(images, tmp_path / "bad", *overrides) == 2
        error = capsys.readouterr().err.strip()
        assert message in error and "\n" not in error
        assert not (tmp_path / "bad").exists()
    (tmp_path / "list.csv").write_text("path,label\nmissing.png,0\n")
    lists = [f"{key}={tmp_path / 'list.csv'}" for key in ("data.train", "evaluation.manifest")]
    assert train(images, tmp_path / "bad", *lists, "optim.batch_size=1") == 2
    assert "list.csv: 1 of 1 files are missing" in capsys.readouterr().err and not (tmp_path / "bad").exists()
    lists[1] = "evaluation.manifest=null"
    assert train(images, tmp_path / "bad", *lists, "optim.batch_size=1") == 2
    assert "missing.png: cannot be read as an image" in capsys.readouterr().err


def test_resume_refuses_other_names_and_another_list_by_name(images, tmp_path, capsys):
    names, folders = tmp_path / "classes.txt", ("down", "up")
    rows = [f"{images / name / f'{i}.png'} {label}" for label, name in enumerate(folders) for i in (0, 1)]
    (tmp_path / "train.txt").write_text("\n".join(rows))
    names.write_text("down\nup\n")
    run = tmp_path / "run"
    where = [f"data.train={tmp_path / 'train.txt'}", f"data.classes={names}", f"run.out={run}", "optim.epochs=1"]
    assert mote("train", *QUICK, *where) == 0
    assert mote("train", run, "--resume") == 0
    names.write_text("low\nhigh\n")
    capsys.readouterr()
    assert mote("train", run, "--resume") == 2
    assert "belongs to another configuration: class 0 was 'down', now 'low'" in capsys.readouterr().err
    names.write_text("down\nup\n")
    (tmp_path / "train.txt").write_text("\n".join(rows[::-1]))
    assert mote("train", run, "--resume") == 2
    assert "the training list differs: other files, labels or order" in capsys.readouterr().err
    assert mote("train", *QUICK, *where, f"run.out={tmp_path / 'x'}", f"image.init={run}", "data.classes=null") == 2
    assert "has another classes than this run (lenet): class 0 was 'down', now '0'" in capsys.readouterr().err
    for key, odd in (("data.size=20", "size"), ("image.channels=1", "channels"), ("image.net=resnet8", "net")):
        assert mote("train", *QUICK, *where, f"run.out={tmp_path / 'x'}", f"image.init={run}", key) == 2
        assert f"has another {odd} than this run (lenet)" in capsys.readouterr().err and not (tmp_path / "x").exists()

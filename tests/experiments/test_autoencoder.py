"""`mote train`, `mote eval` and `mote sample` with task=autoencoder, from real files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_folders import make
from PIL import Image
from safetensors.torch import load_file

from mote.cli import main

QUICK = ["task=autoencoder", "image.channels=1", "data.workers=0", "data.crop_scale=[1,1]", "data.flip=0"]
QUICK += ["data.grayscale=0", "optim.epochs=4", "optim.warmup_epochs=0", "optim.batch_size=24", "optim.lr=3e-3"]
QUICK += ["optim.weight_decay=0", "evaluation.batch_size=50", "evaluation.every=4", "data.split=train", "run.cpu=true"]
QUICK += ["evaluation.split=test", "autoencoder.width=4", "autoencoder.latent=4", "autoencoder.modes=3"]


@pytest.fixture(scope="module")
def stripes(tmp_path_factory) -> Path:
    """An .npz of 8 x 8 pictures of three classes: a bright stripe above, in the middle or below."""
    rng, arrays = np.random.default_rng(0), {}
    for split, num in (("train", 240), ("test", 90)):
        labels = np.arange(num) % 3
        images = rng.integers(0, 60, (num, 8, 8), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[3 * label : 3 * label + 2] += 150
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    path = tmp_path_factory.mktemp("stripes") / "stripes.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def judge(stripes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("judge") / "run"
    overrides = ["task=image", "image.net=mlp", "image.channels=1", f"run.out={out}", f"data.train={stripes}"]
    kept = [line for line in QUICK if line.split("=")[0].split(".")[0] in ("data", "run", "optim")]
    assert mote("train", *overrides, *kept, "optim.epochs=2") == 0
    return out


def mote(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def train(stripes: Path, out: Path, *overrides: str) -> int:
    return mote(
        "train", *QUICK, f"data.train={stripes}", f"evaluation.manifest={stripes}", f"run.out={out}", *overrides
    )


def test_train_evaluate_and_sample(stripes, judge, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(stripes, run, f"autoencoder.judge={judge}", "autoencoder.conditional=true", "optim.epochs=20") == 0
    assert "autoencoder." not in capsys.readouterr().err  # nothing idle
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {"reconstruction", "cdf", "covariance", "mean"} <= set(log[0])
    result = json.loads((run / "metrics.json").read_text())
    assert result["listed"] == 90 and result["reconstruction"] < 0.08
    assert result["judge"]["net"] == "mlp" and result["judge"]["features"] == 300 and result["judge"]["samples"] == 90
    assert result["agreement"]["own"] > 0.9  # class = mode
    for kind, height in (("samples", 3), ("reconstructions", 10), ("interpolations", 10)):
        with Image.open(run / "evaluations" / f"eval_{kind}.png") as sheet:
            assert sheet.height == 20 * height and 200 < sheet.width < 420  # images, and words beside each row
    html = (run / "evaluations" / "eval" / "index.html").read_text()
    assert "mode 2: " in html and "what came back" in html and html.count("<img") == 3 + 10 + 10
    assert json.loads((run / "best" / "model.json").read_text())["preprocessing"]["resize"] == "crop"
    assert mote("eval", run, "--out", tmp_path / "again") == 0
    again = json.loads((tmp_path / "again" / "eval.json").read_text())
    assert (tmp_path / "again" / "eval" / "index.html").is_file()
    assert mote("eval", run, "--out", tmp_path / "again", "--no-page") == 0
    assert not (tmp_path / "again" / "eval" / "index.html").exists()
    same = ("reconstruction", "frechet", "latent", "energy", "coverage", "agreement", "sample_classes")
    assert {name: again[name] for name in same} == {name: result[name] for name in same}
    assert again["provenance"]["hashes"] == result["provenance"]["hashes"]

    assert mote("sample", run, "--count", 7, "--mode", 2, "--out", tmp_path / "grid.png") == 0
    drawn = np.load(tmp_path / "grid.npz")
    assert drawn["images"].shape == (7, 8, 8) and drawn["images"].dtype == np.uint8
    assert drawn["codes"].shape == (7, 4) and (drawn["modes"] == 2).all()
    assert drawn["images"][:, 6:].mean() > drawn["images"][:, :3].mean() + 20  # class 2: the stripe below
    assert mote("sample", run, "--count", 7, "--mode", 2, "--out", tmp_path / "twice.png") == 0
    assert (tmp_path / "grid.png").read_bytes() == (tmp_path / "twice.png").read_bytes()
    assert "7 images drawn from the prior" in (tmp_path / "grid.html").read_text()


@pytest.mark.parametrize("method", ["ae", "vae", "wae_mmd"])
def test_the_peers_train_and_are_sampled(stripes, tmp_path, method):
    run = tmp_path / "run"
    assert train(stripes, run, f"autoencoder.method={method}", "optim.epochs=2") == 0
    result = json.loads((run / "metrics.json").read_text())
    assert result["modes"] == (1 if method == "vae" else 3) and "frechet" not in result
    assert ("coverage" in result) == (method != "vae")
    assert mote("sample", run, "--count", 5, "--out", tmp_path / "grid.png") == 0
    assert mote("eval", run, "--out", tmp_path / "again", "--no-page") == 0
    again = json.loads((tmp_path / "again" / "eval.json").read_text())
    assert again["energy"] == result["energy"] and again["latent"] == result["latent"]


def test_a_run_goes_on_where_it_stood(stripes, tmp_path, monkeypatch):
    options = ["autoencoder.method=wae_mmd", "run.save_every=1", "optim.epochs=1"]
    assert train(stripes, tmp_path / "whole", *options) == 0
    from mote.tasks.autoencoder import AutoencoderTask

    forward, calls = AutoencoderTask.forward, []

    def broken(self, batch, generator):
        calls.append(1)
        loss, terms = forward(self, batch, generator)
        return loss * (float("nan") if len(calls) == 6 else 1.0), terms

    monkeypatch.setattr(AutoencoderTask, "forward", broken)
    assert train(stripes, tmp_path / "stopped", *options) == 2
    assert mote("train", tmp_path / "stopped", "--resume") == 0
    whole, resumed = (load_file(tmp_path / run / "best" / "model.safetensors") for run in ("whole", "stopped"))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_mistakes_are_one_line_and_leave_nothing(stripes, judge, tmp_path, capsys):
    for overrides, message in (
        (["autoencoder.modes=5"], "5 modes of gm need a latent of at least 5 dimensions"),
        (["autoencoder.modes=4", "autoencoder.conditional=true"], "expected autoencoder.modes=3 for 3 classes, got 4"),
        (["optim.batch_size=4"], "needs more codes than that at once; got 4"),
        (["autoencoder.method=vae", "autoencoder.conditional=true"], "autoencoder.conditional is for method=gm"),
        (["mixing.methods=[mixup]"], "mixing and r_drop are for classifiers"),
        (["run.select=top1"], "run.select=top1 is for classifiers"),
        (["data.size=30"], "got 30; set data.size"),
        ([f"autoencoder.judge={tmp_path}"], "does not describe an image network"),
        (
            [f"autoencoder.judge={judge}", "data.size=16"],
            "takes 8 pixels and 1 channels, the autoencoder makes 16 and 1",
        ),
    ):
        capsys.readouterr()
        assert train(stripes, tmp_path / "bad", *overrides) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert message in error and error.startswith("mote: error: ")
        assert not (tmp_path / "bad").exists()
    codes = make("autoencoder", tmp_path)
    for arguments, message in (
        (
            ["sample", judge, "--out", tmp_path / "bad.png"],
            "holds no autoencoder; give the directory of a finished run",
        ),
        (["sample", tmp_path / "none", "--out", tmp_path / "bad.png"], "holds no autoencoder"),
        (["sample", codes, "--out", tmp_path / "bad.jpg"], "expected a name that ends in .png"),
        (["sample", codes, "--count", 0, "--out", tmp_path / "bad.png"], "expected at least 1 image, got 0"),
    ):
        capsys.readouterr()
        assert mote(*arguments) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and message in error[0]
        assert not list(tmp_path.glob("bad*"))

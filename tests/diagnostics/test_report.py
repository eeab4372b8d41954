"""`mote diagnose` on real runs: what it writes, that processes agree, that runs are compared, mistakes in one line."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from mote.cli import main
from mote.config import load as load_config
from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip
from mote.diagnostics.mixing_report import mixing_report
from mote.diagnostics.report import diagnose
from mote.diagnostics.request import Request
from mote.diagnostics.subject import subject
from mote.evaluation.listings import training_list
from mote.evaluation.views import image_dataset
from mote.files.locking import InUseError
from mote.inference.loading import load
from mote.models.autoencoder import ImageAutoencoder, save_autoencoder
from mote.models.image_checkpoints import load_net
from mote.parallel.accelerator import make_accelerator
from mote.regularizers.gaussian_mixture import axis_centres, isotropic

CLASSES = ("red star moving left", "blue arrow growing", "green ball bouncing")
QUICK = [
    "data.workers=0",
    "optim.warmup_epochs=0",
    "data.flip=0",
    "data.grayscale=0",
    "run.cpu=true",
    "evaluation.page=false",
]
FEW = ["--probes", "2", "--max-products", "4"]


def mote(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def fails(capsys, *arguments) -> str:
    capsys.readouterr()
    assert mote(*arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("mote: error: ") and "\n" not in error, error
    return error


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Three runs of LeNet on 24 pictures of two classes; the last has hardly begun to learn."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for label, name in enumerate(("down", "up")):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 80, (20, 20, 3), dtype=np.uint8)
            pixels[10 - 10 * label : 20 - 10 * label] += 90
            Image.fromarray(pixels).save(folder / "data" / name / f"{i}.png")
    settings = ["task=image", "image.net=lenet", "data.size=16", "data.crop_scale=[1,1]", "optim.batch_size=4"]
    settings += [f"data.train={folder / 'data'}", f"evaluation.manifest={folder / 'data'}", "optim.lr=1e-3"]
    for name, epochs in (("a", 2), ("b", 2), ("c", 3), ("begun", 1)):
        rate = "1e-6" if name == "begun" else "1e-3"
        more = [f"seed={'abcdefg'.index(name[0])}", f"optim.epochs={epochs}", f"optim.lr={rate}"]
        assert mote("train", *QUICK, *settings, *more, f"run.out={folder / name}") == 0
    return folder


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> Path:
    """A run of a temporal head with two experts on eight clips."""
    folder = tmp_path_factory.mktemp("clips")
    for i in range(8):
        colour, shape, motion = CLASSES[i % 3].split(" ", 2)
        write_video(folder / f"{i}.mp4", render_clip(np.random.default_rng(i), f"{colour} {shape}", motion, 8))
    (folder / "list.txt").write_text("".join(f"{i}.mp4 {i % 3}\n" for i in range(8)))
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    settings = [f"data.train={folder / 'list.txt'}", f"data.classes={folder / 'classes.txt'}", "data.frames=3"]
    settings += ["model.layers=1", "model.experts=2", "optim.backbone_lr_scale=0", "data.cache_features=true"]
    settings += ["tuning.vision=frozen", "optim.batch_size=4", "optim.epochs=2", "optim.lr=1e-3"]
    assert mote("train", *QUICK, *settings, f"run.out={folder / 'run'}") == 0
    return folder / "run"


def test_pictures_are_measured_and_the_files_explain_themselves(images, capsys):
    assert mote("diagnose", images / "a", "--samples", "10", "--seed", "3") == 0
    out = capsys.readouterr().out
    assert "10 of 24 samples, pixels" in out and "smoothness inequality (convolution)" in out
    folder = images / "a" / "diagnostics"
    names = {"diagnose.json", "diagnose.csv", "diagnose.html", "diagnose_classes.svg", "diagnose_classes.png"}
    assert {path.name for path in folder.iterdir()} == names | {"diagnose_lanczos.svg", "diagnose_lanczos.png"}
    document = json.loads((folder / "diagnose.json").read_text())
    assert document["provenance"]["seed"] == 3 and set(document["provenance"]["hashes"]) == {"weights", "samples"}
    assert document["smoothness"]["worst_sample_ratio"] <= 1 + 1e-4
    rows = table(folder / "diagnose.csv")
    assert len(rows) == 10 and {row["class"] for row in rows} == {"down", "up"}
    # one sample again, by hand
    net, _ = load_net(images / "a" / "best")
    chosen = np.sort(np.random.default_rng(3).permutation(24)[:10])
    config = load_config([images / "a" / "config.yaml"])
    data = training_list(config)
    x = (image_dataset(config, data, 16, train=False).image(0, int(chosen[0])).float() / 255).requires_grad_()
    logits = net(255 * x[None])[0]
    label = data.records[chosen[0]].label
    (slope,) = torch.autograd.grad(logits[label] - logits[1 - label], x)
    assert float(rows[0]["gradient"]) == pytest.approx(slope.norm().item(), rel=1e-4)
    values = document["quantities"]
    losses = [float(row["loss"]) for row in rows]
    assert values["train_loss"] == pytest.approx(np.mean(losses), rel=1e-6)
    assert values["hessian_top"] > 0 and values["gauss_newton_trace"] >= values["gauss_newton_top"] * (1 - 1e-3)


@pytest.mark.slow
def test_a_temporal_head_is_measured_on_features_and_a_video_model_on_pixels(head, capsys):
    assert mote("diagnose", head, *FEW, "--samples", "6") == 0
    out = capsys.readouterr().out
    assert "6 of 8 samples, features" in out and "smoothness inequality (residual)" in out
    document = json.loads((head / "diagnostics" / "diagnose.json").read_text())
    assert all(".temporal." in name for name in document["settings"]["names"])
    assert len(document["per_class"][0]["frame_gradient"]) == 3
    # again by hand: the head that is deployed, experts merged
    classifier = load(str(head))
    temporal = classifier.model.temporal
    assert temporal is not None and classifier.model.num_experts == 1
    assert document["settings"]["parameters"] == sum(p.numel() for p in temporal.parameters())
    of = subject(head, load_config([head / "config.yaml"]), make_accelerator(cpu=True), Request(samples=6))
    features = of.inputs.clone().requires_grad_()
    logits = classifier.model.classify(classifier.model.head(features), classifier.text_features(list(CLASSES)))
    assert document["quantities"]["train_loss"] == pytest.approx(cross_entropy(logits, of.label).item(), rel=1e-4)
    own = logits.gather(1, of.label[:, None])[:, 0]
    best = logits.masked_fill(torch.eye(3)[of.label].bool(), -torch.inf).max(1).values
    (slope,) = torch.autograd.grad((own - best).sum(), features)
    found = [float(row["gradient_frame1"]) for row in table(head / "diagnostics" / "diagnose.csv")]
    assert found == pytest.approx(slope[:, 1].norm(dim=1).tolist(), rel=1e-3)
    assert mote("diagnose", head, "--inputs", "pixels", *FEW, "--samples", "3", "--name", "whole") == 0
    whole = json.loads((head / "diagnostics" / "whole.json").read_text())
    assert whole["smoothness"]["form"] == "patches" and whole["smoothness"]["worst_sample_ratio"] <= 1 + 1e-4
    assert whole["settings"]["parameters"] > document["settings"]["parameters"]


@pytest.mark.slow
def test_two_processes_measure_what_one_does(head, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert mote("diagnose", head, *FEW, "--out", one) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "mote"]
    done = subprocess.run(
        [*command, "diagnose", head, *FEW, "--out", two],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("8 of 8 samples") == 1
    first, second = (json.loads((folder / "diagnose.json").read_text()) for folder in (one, two))
    assert first["quantities"] == pytest.approx(second["quantities"], rel=1e-3)
    for key in ("left", "right", "worst_sample_ratio"):
        assert first["smoothness"][key] == pytest.approx(second["smoothness"][key], rel=1e-4)
    rows = [table(folder / "diagnose.csv") for folder in (one, two)]
    for a, b in zip(*rows, strict=True):
        assert a["class"] == b["class"] and float(a["gradient"]) == pytest.approx(float(b["gradient"]), rel=1e-4)


def test_runs_are_compared_at_matched_loss_and_others_are_named(images, tmp_path, capsys):
    for name in ("a", "b", "c", "begun"):
        assert mote("diagnose", images / name, *FEW, "--quantities", "margin,gradients", "--name", "few") == 0
    capsys.readouterr()
    runs = [images / name for name in ("a", "b", "c", "begun")]
    compared = ["diagnose", "--compare", *runs, "--name", "few", "--out", tmp_path]
    first = json.loads((images / "a" / "diagnostics" / "few.json").read_text())["quantities"]["train_loss"]
    begun = json.loads((images / "begun" / "diagnostics" / "few.json").read_text())["quantities"]["train_loss"]
    assert begun > 3 * first
    assert mote(*compared, "--loss", first, "--within", begun / first / 1.01) == 0
    out = capsys.readouterr().out
    assert "begun (did not fit)" in out and "3 of 4 runs" in out
    document = json.loads((tmp_path / "compare.json").read_text())
    assert [row["state"] for row in document["runs"]] == ["matched"] * 3 + ["did not fit"]
    ranked = document["quantities"]["radius_median"]
    assert len(ranked["values"]) == 3 and sorted(ranked["ranks"]) == [1, 2, 3]
    for end in ("svg", "png"):
        (tmp_path / f"compare.{end}").write_text("of an earlier comparison")
    assert mote(*compared, "--loss", first, "--within", 1) == 0
    assert "fewer than 3 matched runs" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"compare.json", "compare.html"}  # no older figure
    error = fails(capsys, "diagnose", "--compare", images / "a", images / "b", "--name", "missing")
    assert "measure the run first" in error
    figures = {path.name for path in (images / "b" / "diagnostics").glob("few_*")}
    assert figures == {"few_classes.svg", "few_classes.png"}
    mote("diagnose", images / "b", *FEW, "--samples", "5", "--quantities", "gradients", "--name", "few")
    assert not [*(images / "b" / "diagnostics").glob("few_*")]  # these quantities have no figure
    assert "other samples or settings" in fails(capsys, *compared)


def test_expression_runs_are_measured_and_an_autoencoder_is_refused(images, tmp_path, capsys):
    settings = ["task=expression", "image.net=resnet8", "data.size=12", "optim.batch_size=12", "imbalance.method=mek"]
    settings += [f"data.train={images / 'data'}", "optim.epochs=1"]
    assert mote("train", *QUICK, *settings, f"run.out={tmp_path / 'mek'}") == 0
    assert mote("diagnose", tmp_path / "mek", "--samples", "6", "--quantities", "margin,smoothness") == 0
    document = json.loads((tmp_path / "mek" / "diagnostics" / "diagnose.json").read_text())
    assert document["smoothness"]["form"] == "convolution" and document["smoothness"]["worst_sample_ratio"] <= 1 + 1e-4
    net, _ = load_net(tmp_path / "mek" / "best")
    config = load_config([tmp_path / "mek" / "config.yaml"])
    data = training_list(config)
    dataset = image_dataset(config, data, 12, train=False)
    chosen = np.sort(np.random.default_rng(0).permutation(24)[:6])
    pictures = torch.stack([dataset.image(0, int(i)) for i in chosen]).float()
    label = torch.tensor([data.records[i].label for i in chosen])
    with torch.no_grad():
        expected = cross_entropy(net(pictures), label).item()
    assert document["quantities"]["train_loss"] == pytest.approx(expected, rel=1e-4)
    net = ImageAutoencoder(size=8, channels=1, latent=2, codes=2, width=2)
    prior = isotropic(axis_centres(2, 2, 6.0))._asdict()
    save_autoencoder(tmp_path / "ae" / "best", net, prior, {"method": "gm", "conditional": False, "classes": ["0"]})
    (tmp_path / "ae" / "config.yaml").write_text("task: autoencoder\ndata: {train: digits.npz}\n")
    assert "an autoencoder has no classes, hence no margins" in fails(capsys, "diagnose", tmp_path / "ae")
    assert not (tmp_path / "ae" / "diagnostics").exists()


def test_mistakes_are_one_line_and_write_nothing(images, tmp_path, capsys):
    for arguments, message in (
        (["nowhere"], "is no run directory"),
        ([images / "a", "--inputs", "features"], "is for task=video"),
        ([images / "a", "--parameters", "nothing*"], "matches nothing"),
        ([images / "a", "--quantities", "margin,flatness"], "flatness"),
        ([images / "a", "--samples", "1"], "at least 2"),
        ([images / "a", "--probes", "1"], "--probes >= 2"),
        ([images / "a", "--alpha", "1"], "--alpha has no meaning for a run"),
        ([images / "a", "data.train=nowhere.csv"], "nowhere.csv"),
        ([images / "a", "image.mean=[0.9]"], "image.mean=(0.9,): nothing would change: mean and standard deviation"),
        ([images / "a", "evaluation.clips=2"], "evaluation.clips=2: nothing would change: what is done here with a"),
        (["mixing", "--probes", "3"], "--probes has no meaning for mixing"),
        (["--compare", images / "a"], "at least two different runs"),
    ):
        assert message in fails(capsys, "diagnose", *arguments, "--out", tmp_path / "bad")
        assert not (tmp_path / "bad").exists()


def test_files_that_another_process_works_on_are_refused_before_the_run_is_looked_at(tmp_path):
    code = "import sys; from pathlib import Path; from mote.files.writing import alone\n"
    code += "with alone(Path(sys.argv[1])): print('held', flush=True); sys.stdin.readline()"
    config = load_config([], ["run.cpu=true"])
    for name in ("mine.json", "mixing_law.csv"):
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None and other.stdout.readline() == "held\n"
            with pytest.raises(InUseError, match=rf"{name}: in use by process {other.pid} on "):
                if name == "mine.json":
                    diagnose(Path("no run"), config, tmp_path, Request("mine"))
                else:
                    mixing_report(tmp_path, size=(1, 8, 8), draws=1, seed=0, alpha=1.0, ratio=0.5, extent="space")
            other.communicate("\n")
    assert list(tmp_path.iterdir()) == []

"""`mote compact` from the command line: a sparse run becomes a smaller, equal model that lives on its own."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluated_clips import settings, write_clips
from oracles import mote_reference

import mote
from mote.cli import main
from mote.models.image_checkpoints import image_classifier, load_net, save_net
from mote.sparsity import compacting
from mote.sparsity.compact import widths
from mote.sparsity.compacting import TOLERANCE

VIDEO = ["model.layers=1", "model.experts=2", "data.frames=4", "data.cache_features=true", "optim.backbone_lr_scale=0"]
VIDEO += ["evaluation.page=false", "optim.epochs=4", "optim.batch_size=1", "optim.lr=2e-2", "optim.warmup_epochs=0"]
IMAGES = ["task=image", "image.net=lenet", "image.channels=1", "data.crop_scale=[1,1]", "data.grayscale=0"]
IMAGES += [
    "evaluation.page=false",
    "data.workers=0",
    "optim.epochs=6",
    "optim.batch_size=10",
    "optim.lr=5e-3",
    "optim.warmup_epochs=0",
]


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> tuple[Path, list[str]]:
    """A run whose temporal head lost units and a head, and the overrides that name its clips."""
    folder = tmp_path_factory.mktemp("video")
    write_clips(folder)
    clips = [*settings(folder), f"data.train={folder / 'list.txt'}", f"data.classes={folder / 'classes.txt'}"]
    sparsity = ["sparsity.strength=0.25", "sparsity.groups=[units,heads]", "sparsity.layers={temporal.*: 1.0}"]
    assert run("train", *VIDEO, *clips, *sparsity, f"run.out={folder / 'run'}") == 0
    return folder / "run", clips


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> tuple[Path, list[str]]:
    """A run of LeNet that lost filters, and the overrides that name its pictures."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    pictures = rng.integers(0, 60, (60, 16, 16), dtype=np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        picture[5 * label : 5 * label + 5] += 150
    names = {
        f"{part}_{kind}": v for part in ("train", "test") for kind, v in (("images", pictures), ("labels", labels))
    }
    np.savez(folder / "bars.npz", **names)
    where = ["data.split=train", "evaluation.split=test"]
    where += [f"{key}={folder / 'bars.npz'}" for key in ("data.train", "evaluation.manifest")]
    sparsity = ["sparsity.strength=0.4", "sparsity.stop=1", "sparsity.layers={conv*: 1.4}"]
    assert run("train", *IMAGES, *where, *sparsity, f"run.out={folder / 'run'}") == 0
    return folder / "run", where


def test_a_video_run_becomes_smaller_equal_and_independent(video, tmp_path, capsys):
    whole, clips = video
    capsys.readouterr()
    assert run("compact", whole, "--out", tmp_path / "small") == 0
    assert (tmp_path / "small" / "config.yaml").read_bytes() == (whole / "config.yaml").read_bytes()
    printed = capsys.readouterr().out
    assert "batch of 1:" in printed and "largest difference of the outputs" in printed
    report = json.loads((tmp_path / "small" / "compact.json").read_text())
    shutil.copytree(tmp_path / "small", tmp_path / "elsewhere" / "small")  # nothing beside it is needed
    dense, small = mote.load(str(whole)), mote.load(str(tmp_path / "elsewhere" / "small"))
    before, after = widths(dense.model), widths(small.model)
    lost = [name for name in before if after.get(name, 0) < before[name]]
    assert lost and all(name.startswith("temporal.") for name in lost)
    rows = {row["layer"]: row for row in report["layers"]}
    assert all(rows[name]["parts_left"] == after.get(name, 0) for name in lost)
    assert all(rows[name]["flops_left"] < rows[name]["flops"] for name in lost)
    assert rows["total"]["parameters_left"] == sum(p.numel() for p in small.model.parameters())
    frames = torch.randint(0, 256, (3, 4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    logits = []
    with torch.inference_mode():
        for classifier in (dense, small):
            text = classifier.text_features(classifier.classes or [])
            logits.append(
                classifier.model.classify(classifier.model.head(classifier.model.encode_frames(frames)), text)
            )
    torch.testing.assert_close(logits[1], logits[0], atol=TOLERANCE, rtol=TOLERANCE)
    results = []
    for place, folder in ((whole, "a"), (tmp_path / "small", "b")):
        assert run("eval", place, *clips, "--out", tmp_path / folder, "--no-page") == 0
        results.append(json.loads((tmp_path / folder / "eval.json").read_text()))
    assert results[0]["confusion_matrix"] == results[1]["confusion_matrix"]


@pytest.mark.slow
def test_a_compact_video_model_is_tuned_further(video, tmp_path):
    whole, clips = video
    assert run("compact", whole, "--out", tmp_path / "small") == 0
    tune = [*VIDEO, *clips, "optim.epochs=1", f"model.init={tmp_path / 'small'}", f"run.out={tmp_path / 'tuned'}"]
    assert run("train", *tune) == 0
    models = [mote.load(str(tmp_path / name)).model for name in ("small", "tuned")]
    assert widths(models[0]) == widths(models[1])
    before, after = (model.state_dict() for model in models)
    assert any(not torch.equal(before[name], after[name]) for name in before if "temporal" in name)


@pytest.mark.slow
def test_an_image_run_becomes_smaller_equal_and_is_tuned_further(images, tmp_path):
    whole, where = images
    assert run("compact", whole, "--out", tmp_path / "small") == 0
    (dense, _), (small, meta) = load_net(whole / "best"), load_net(tmp_path / "small" / "best")
    before, after = widths(dense), widths(small)
    assert after["net.conv1"] < before["net.conv1"] or after["net.conv2"] < before["net.conv2"]
    pictures = torch.randint(0, 256, (5, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(small(pictures), dense(pictures), atol=TOLERANCE, rtol=TOLERANCE)
    assert run("eval", tmp_path / "small") == 0
    results = [whole / "metrics.json", tmp_path / "small" / "evaluations" / "eval.json"]
    matrices = [json.loads(path.read_text())["confusion_matrix"] for path in results]
    assert matrices[0] == matrices[1]
    tune = [*IMAGES, *where, "optim.epochs=1", f"image.init={tmp_path / 'small'}", f"run.out={tmp_path / 'tuned'}"]
    assert run("train", *tune) == 0
    tuned, _ = load_net(tmp_path / "tuned" / "best")
    assert widths(tuned) == after and meta["net"] == "lenet"
    assert not torch.equal(tuned.state_dict()["net.conv1.weight"], small.state_dict()["net.conv1.weight"])


def test_what_cannot_be_compacted_is_one_line_and_leaves_nothing(images, tmp_path, capsys):
    whole, where = images
    assert run("train", *IMAGES, *where, "optim.epochs=1", f"run.out={tmp_path / 'dense'}") == 0
    shutil.copytree(tmp_path / "dense", tmp_path / "tried")
    config = (tmp_path / "tried" / "config.yaml").read_text()
    (tmp_path / "tried" / "config.yaml").write_text(config.replace("strength: 0.0", "strength: 0.01"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    for model, out, message in (
        (tmp_path / "dense", "new", "nothing in it is zero, so nothing can go; train it with sparsity.strength > 0"),
        (
            tmp_path / "tried",
            "new",
            "trained with sparsity.strength=0.01, which made none of its units zero; raise",
        ),
        (tmp_path / "nowhere", "new", "nowhere"),
        (tmp_path / "empty", "new", "empty"),
        (whole, "full", "already there and not empty"),
    ):
        capsys.readouterr()
        assert run("compact", model, "--out", tmp_path / out) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("mote: error: ") and message in captured.err
        assert captured.err.count("\n") == 1 and not captured.out
        assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_an_authors_checkpoint_becomes_a_folder_that_loads_as_the_checkpoint_does(tmp_path, capsys):
    checkpoint = mote_reference.random_checkpoint(torch.Generator().manual_seed(1), layers=1, experts=2)
    head = checkpoint["fusion_model_state_dict"]
    head["spe_cls_feature"] *= 3  # the authors do not say that its rows have length 1
    for expert in range(2):  # two hidden units that say nothing, one that nobody reads
        prefix = "transformer.resblocks.0.mlp"
        for name in ("weight", "bias"):
            head[f"{prefix}.fc_up.{expert}.{name}"][:2] = 0
        head[f"{prefix}.fc_dn.{expert}.weight"][:, 5] = 0
    torch.save(checkpoint, tmp_path / "published.pt")
    assert run("compact", tmp_path / "published.pt", "--out", tmp_path / "small") == 0
    line = capsys.readouterr().err
    assert "8 frames of 16 pixels, one per segment, the 28 templates of the method, 11 classes (class 0, ...)" in line
    whole, small = (mote.load(str(tmp_path / name), device="cpu") for name in ("published.pt", "small"))
    for key in ("classes", "templates", "recipe"):
        assert getattr(whole, key) == getattr(small, key)
    before, after = widths(whole.model), widths(small.model)
    assert [before[name] - after[name] for name in before if before[name] != after[name]] == [3]
    frames = torch.randint(0, 256, (2, 1, 8, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    logits = [model.scorer(model.classes)({"frames": frames}) for model in (whole, small)]
    torch.testing.assert_close(logits[1], logits[0], atol=1e-4, rtol=1e-5)
    assert logits[0].std() > 0.1


def test_a_network_that_gives_other_numbers_is_not_written(video, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compacting, "largest_difference", lambda *_: 0.5)
    assert run("compact", video[0], "--out", tmp_path / "small") == 2
    assert "the smaller network differs by 5.0e-01" in capsys.readouterr().err and not [*tmp_path.iterdir()]


def test_the_text_tower_that_a_model_was_tuned_with_goes_along(video, tmp_path, monkeypatch):
    inner = tmp_path / "inner"
    shutil.copytree(video[0] / "best", inner)
    (inner / "text.safetensors").write_bytes(b"weights")
    loaded = replace(compacting.folders.load_folder(video[0]), text_weights={})
    monkeypatch.setattr(compacting.folders, "load_folder", lambda _: loaded)
    (tmp_path / "small").mkdir()
    source = compacting._video(video[0], inner)
    source.save(tmp_path / "small", source.model)
    assert (tmp_path / "small" / "text.safetensors").read_bytes() == b"weights"


def test_an_image_network_is_tried_on_batches_of_its_own_size(tmp_path):
    torch.manual_seed(0)
    model = image_classifier("lenet", 4, mean=(0.1,), std=(0.3,), in_channels=1, size=16).eval()
    save_net(tmp_path, model, {"net": "lenet", "classes": list("abcd"), "size": 16, "channels": 1})
    source = compacting._image(tmp_path)
    seen = []
    for number in source.batches:
        source.example(number)(lambda images: seen.append((tuple(images.shape), images.dtype)))
    assert seen == [((number, 1, 16, 16), torch.uint8) for number in source.batches]

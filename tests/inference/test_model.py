"""The Python interface: public names, what a model says of itself, and errors of what is not there."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import mote
from mote.inference.asked import Source
from mote.inference.images import ImageClassifier
from mote.inference.latent import LatentModel
from mote.models.autoencoder import ImageAutoencoder
from mote.regularizers.gaussian_mixture import Mixture


@pytest.fixture(scope="module")
def tiny() -> mote.VideoClassifier:
    return mote.load("tiny")


def test_public_names_are_there_and_importing_them_needs_no_torch():
    code = "import sys, mote; names = set(dir(mote)); assert names >= set(mote.__all__); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    for name in mote.__all__:
        assert getattr(mote, name).__doc__
    with pytest.raises(AttributeError, match=r"module 'mote' has no attribute 'lod'; its names are .*load"):
        mote.lod  # noqa: B018


def test_load_has_documented_arguments_and_refuses_others():
    for name in ("pretrained", "backbone", "templates", "device"):
        assert f"{name}: " in mote.load.__doc__
    with pytest.raises(TypeError, match="devise"):
        mote.load("tiny", devise="cpu")  # type: ignore[call-arg]


def test_a_video_model_says_what_it_is(tiny):
    lines = repr(tiny).splitlines()
    assert lines[0] == "VideoClassifier (from tiny)" and len(lines) == 6
    shown = dict(line.strip().split(maxsplit=1) for line in lines[1:])
    assert shown["backbone"] == "tiny" and shown["head"].startswith("none")
    assert shown["frames"] == "8 (one from each equal part) of 64 x 64 pixels"
    assert shown["classes"] == "none of its own; name them in each call" and shown["device"].startswith("cpu")
    run = replace(tiny, classes=["a", "b", "c", "d"], sampling="dense", stride=4, source=None)
    run.meta = {"backbone": "ViT-B-16-quickgelu", "pretrained": "openai"}
    text = repr(run)
    assert "(in training)" in text and "ViT-B-16-quickgelu:openai" in text and "8 (every 4th)" in text
    assert "4: a, b, c, ..." in text
    assert "backbone  unknown" in repr(replace(tiny, meta={}))


def test_other_models_say_what_they_are():
    meta = {"net": "lenet", "size": 28, "channels": 1, "classes": ["0", "1"]}
    images = ImageClassifier(nn.Identity(), ["0", "1"], meta, torch.device("cpu"), source=Source("runs/digits"))
    assert repr(images).splitlines() == [
        "ImageClassifier (from runs/digits)",
        "  backbone  lenet",
        "  images    28 x 28 pixels, gray",
        "  classes   2: 0, 1",
        "  device    cpu",
    ]
    prior = Mixture(torch.zeros(1, 4), torch.eye(4)[None], torch.ones(1))
    latent = LatentModel(ImageAutoencoder(size=32, channels=3, latent=4), prior, {**meta, "method": "gm"})
    assert "autoencoder (gm), codes of 4 dimensions" in repr(latent) and "32 x 32 pixels, colour" in repr(latent)


NOWHERE = ("nowhere", "runs/nowhere", "nowhere.pt", "nowhere.safetensors", Path("nowhere"), "tyny")


@pytest.mark.parametrize("model", NOWHERE)
def test_a_model_that_is_not_there_is_a_missing_file(model):
    with pytest.raises(FileNotFoundError, match=str(model)) as caught:
        mote.load(model)
    assert "\n" not in str(caught.value)
    if model == "tyny":
        assert "did you mean tiny" in str(caught.value)


def test_other_missing_files_are_missing_files_too(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.txt: there is no such file"):
        mote.load("tiny", templates=tmp_path / "none.txt")
    with pytest.raises(FileNotFoundError):
        mote.load("ViT-B-16", pretrained=str(tmp_path / "none.pt"))
    (tmp_path / "clip_one.mp4").touch()
    with pytest.raises(FileNotFoundError, match=r"there is no such file \(is it .*clip_one.mp4\?\)"):
        tiny.classify_video(tmp_path / "clip_on.mp4", ["red star", "blue ball"])
    [prediction] = tiny.predict(tmp_path / "clip_on.mp4", ["red star", "blue ball"])
    assert "there is no such file" in prediction.error

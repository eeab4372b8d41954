"""Every file of configs/ through the command line at reduced size: `mote train --dry-run`, or `mote eval`."""

import json
from pathlib import Path

import pytest
from reduced_recipes import AUTOENCODERS, EVALUATED, IMAGES, RECIPES, files, reduced, write_data
from small_towers import shrink_timm

from mote.cli import main
from mote.config import load
from mote.models.modulation import GATE

pytestmark = pytest.mark.slow  # whole programs whose parts the other tests cover


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(data) -> Path:
    """The model that the settings of an evaluation are tried with: trained by the recipe that they lie over."""
    arguments = ["data.frames=4", "model.layers=2", "model.experts=2"]
    assert mote("train", *reduced("fight_surv.yaml", data, data / "run"), *arguments) == 0
    return data / "run"


def mote(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in EVALUATED])  # those train nothing new
def test_a_recipe_passes_the_dry_run(name, data, tmp_path, monkeypatch, capsys):
    if name not in IMAGES + AUTOENCODERS:  # those are whole, see `reduced`
        shrink_timm(monkeypatch)
    assert mote("train", *reduced(name, data, tmp_path / "run"), "--dry-run") == 0
    table = dict(line.rsplit("  ", 1) for line in capsys.readouterr().out.splitlines() if "  " in line)
    facts = {name.strip(): value.strip() for name, value in table.items()}
    item = "image" if name in IMAGES + AUTOENCODERS else "clip"
    loaded, cached = facts[f"{item}s per second, loaded"], load(files(name)).data.cache_features
    assert facts["optimizer steps of an epoch"] == "2"
    assert loaded == "cached" if cached else float(loaded) > 0
    forward, training = (float(facts[f"GFLOPs of one {item}, {kind}"]) for kind in ("inference", "training"))
    assert training > 2 * forward > 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", EVALUATED)
def test_settings_of_an_evaluation_score_clips(name, data, model, tmp_path):
    where = [f"evaluation.manifest={data / 'clips.csv'}", "evaluation.split=test"]
    settings = load(files(name)).evaluation
    below = [file for file in files(name) if "zero_shot" in file.name or "ablations" in str(file)]
    classes = f"evaluation.classes={data / 'classes.txt'}"
    assert mote("eval", model, *below, *where, classes, "data.workers=0", "--out", tmp_path) == 0
    result = json.loads((tmp_path / f"{settings.name}.json").read_text())
    assert result["listed"] == result["scored"] == 4
    used = result["provenance"]["config"]["evaluation"]
    asked = GATE.changed(settings.modulation_k, settings.modulation_gamma)  # what is not set is the model's own
    assert (used["modulation_gamma"], used["modulation_k"]) == (asked.gamma, asked.k)


def test_flops_of_lenet_are_those_counted_by_hand(data, tmp_path):
    """Two per multiply-add: 20 and 50 filters of 5 x 5 on 28 x 28 pixels, each halved, then 500 units, 8 classes."""
    from mote.experiments.dry_run import dry_run

    arguments = reduced("mnist_lenet.yaml", data, tmp_path / "run")
    facts = dry_run(load(arguments[:1], arguments[1:]))
    layers = (24 * 24 * 20 * 25, 8 * 8 * 50 * 20 * 25, 4 * 4 * 50 * 500, 500 * 8)
    assert facts["flops_forward"] == 2 * sum(layers)
    # Backward takes two products of the same size in every layer but the first, whose input needs no gradient.
    assert facts["flops_training"] == 2 * (3 * sum(layers) - layers[0])

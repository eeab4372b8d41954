"""Every file of configs/: it loads, nothing in it is idle, and it trains two steps at reduced size."""

import json
import re
from pathlib import Path

import pytest
from reduced_recipes import (
    AUTOENCODERS,
    CONFIGS,
    EVALUATED,
    IMAGES,
    RECIPES,
    TRAINED,
    files,
    reduced,
    sampled,
    write_data,
)
from small_towers import shrink_timm

from mote.config import load
from mote.config.unused import unused
from mote.models.routing import merge_temperatures


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_its_claim_and_its_command_and_has_no_idle_setting(name):
    text = (CONFIGS / name).read_text()
    assert f"configs/{name}" in text
    verb = "mote eval" if name in EVALUATED else "train"
    assert re.search(rf"^#   .*{verb} .*configs/{name}", text, re.MULTILINE)
    assert unused(load(files(name))) == []
    table = (CONFIGS / "README.md").read_text()
    assert f"({name})" in table, f"{name} has no row in configs/README.md"


def train(*arguments: str) -> list[dict]:
    """Train; returns the steps of the log."""
    from mote.experiments.train import train

    places = [argument for argument in arguments if "=" not in argument]
    out = train(load(places, [argument for argument in arguments if "=" in argument]))
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [record for record in log if "loss" in record]


@pytest.mark.parametrize("name", sampled(TRAINED))
def test_a_recipe_trains_two_steps_at_reduced_size(name, data, tmp_path, monkeypatch):
    shrink_timm(monkeypatch)
    log = train(*reduced(name, data, tmp_path / "run"))
    assert [record["step"] for record in log] == [1, 2]
    config, loss = load(files(name)).model, load(files(name)).loss
    terms = {"ce": True, f"merged_{loss.merged}": config.experts > 1, "anchor": loss.anchor_weight > 0}
    assert log[0]["grad_norm"] > 0 and {term for term, on in terms.items() if on} <= set(log[0])
    meta = json.loads((tmp_path / "run" / "best" / "model.json").read_text())
    assert (meta["num_layers"], meta["num_experts"]) == (config.layers, config.experts)
    assert meta["expert_part"] == config.expert_part


@pytest.mark.parametrize("name", sampled(IMAGES, every=12))
def test_a_recipe_for_images_trains_two_steps(name, data, tmp_path):
    """With the network and the augmentation of the recipe, on eight pictures in an .npz."""
    log = train(*reduced(name, data, tmp_path / "run"))
    assert [record["step"] for record in log] == [1, 2]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["listed"] == 8


@pytest.mark.parametrize("name", sampled(AUTOENCODERS))
def test_a_recipe_of_an_autoencoder_trains_two_steps(name, data, tmp_path):
    """With the latent, the modes and the pictures' size of the recipe, four channels wide, and the fewest codes."""
    recipe = load(files(name))
    log = train(*reduced(name, data, tmp_path / "run"))
    assert [record["step"] for record in log] == [1, 2]
    result = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (result["dimensions"], result["modes"]) == (recipe.autoencoder.latent, recipe.autoencoder.modes)


def test_the_ablations_say_what_they_do():
    settings = {name: load(files(f"ablations/{name}.yaml")) for name in ("beta_0.8", "beta_1.0", "merging_point")}
    for beta in ("0.8", "1.0"):
        ours = settings[f"beta_{beta}"].loss.merge_temperatures
        assert ours == pytest.approx(merge_temperatures(float(beta)))
    assert settings["merging_point"].loss.merge_temperatures == (float("inf"),)
    assert load(files("ablations/gamma_0.06.yaml")).evaluation.modulation_gamma == 0.06
    assert load(files("ablations/k_10.yaml")).evaluation.modulation_k == 10

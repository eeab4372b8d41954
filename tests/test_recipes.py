"""Every file of configs/: it loads, nothing in it is idle, and it trains two steps at reduced size.

The reduction (`reduce`): the same architecture with two blocks of width 64 on 32 pixels and random weights (see
`small_towers`), two frames, a batch of two, four clips, one epoch, fp32 on the CPU. All else is the recipe's.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from small_towers import shrink_timm, small_clip

from mote.config import Config, load
from mote.datasets.synthetic import render_clip, write_video
from mote.idle_settings import idle_settings
from mote.models.routing import merge_temperatures

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RECIPES = sorted(
    path.relative_to(CONFIGS).as_posix()
    for path in CONFIGS.rglob("*.yaml")
    if path.parent.name != "accelerate"  # those are accelerate's own
)
BASE = CONFIGS / "k400_vitl14_f8.yaml"  # what the ablations change


def files(name: str) -> list[Path]:
    below = [BASE] if name.startswith("ablations/") else [CONFIGS / "mnist_lenet.yaml"] * ("mnist_lenet_" in name)
    return [*below, CONFIGS / name]


EVALUATED = [name for name in RECIPES if re.search(r"zero_shot|gamma_|/k_", name)]  # settings of `mote eval`
IMAGES = [name for name in RECIPES if load(files(name)).task == "image"]
TRAINED = [name for name in RECIPES if name not in EVALUATED + IMAGES]
ONE_A_TOWER = [f"k400_{tower}.yaml" for tower in ("vitb16_f8_lora", "siglip2_b16", "eva02_b16", "pe_core_b16")]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for i in range(4):
        write_video(folder / f"{i}.mp4", render_clip(np.random.default_rng(i), "red star", "moving left", 6))
    (folder / "list.csv").write_text("path,label,split\n" + "".join(f"{i}.mp4,{i % 2},train\n" for i in range(4)))
    (folder / "classes.txt").write_text("red star\nblue ball\n")
    return folder


def reduced(name: str, clips: Path, out: Path) -> Config:
    clip = load(files(name)).model.clip
    small = "tiny" if clip == "tiny" else small_clip(clip, clips)
    overrides = [f"model.clip={small}", "model.pretrained=random", f"data.train={clips / 'list.csv'}"]
    overrides += [f"data.classes={clips / 'classes.txt'}", "data.frames=2", "data.workers=0", f"run.out={out}"]
    overrides += ["optim.batch_size=2", "optim.epochs=1", "optim.warmup_epochs=0", "optim.precision=fp32"]
    return load(files(name), [*overrides, "run.cpu=true"])


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_its_claim_and_its_command_and_has_no_idle_setting(name):
    text = (CONFIGS / name).read_text()
    assert f"configs/{name}" in text
    verb = "mote eval" if name in EVALUATED else "train"
    assert re.search(rf"^#   .*{verb} .*configs/{name}", text, re.MULTILINE)
    assert idle_settings(load(files(name))) == []
    table = (CONFIGS / "README.md").read_text()
    assert f"({name})" in table, f"{name} has no row in configs/README.md"


@pytest.mark.parametrize("name", TRAINED)
def test_a_recipe_trains_two_steps_at_reduced_size(name, clips, tmp_path, monkeypatch):
    from mote.runs import train

    shrink_timm(monkeypatch)
    out = train(reduced(name, clips, tmp_path / "run"))
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == [1, 2]
    config, loss = load(files(name)).model, load(files(name)).loss
    terms = {"ce": True, "merged_ce": config.experts > 1, "anchor": loss.anchor_weight > 0}
    assert log[0]["grad_norm"] > 0 and {term for term, on in terms.items() if on} <= set(log[0])
    meta = json.loads((out / "best" / "model.json").read_text())
    assert (meta["num_layers"], meta["num_experts"]) == (config.layers, config.experts)
    assert meta["expert_part"] == config.expert_part


@pytest.mark.parametrize("name", IMAGES)
def test_a_recipe_for_images_trains_two_steps(name, tmp_path):
    """With the network and the augmentation of the recipe, on eight pictures in an .npz."""
    from mote.runs import train

    channels = load(files(name)).image.channels
    shape = (8, 28, 28) if channels == 1 else (8, 32, 32, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    arrays = {f"{split}_{kind}": value for split in ("train", "test") for kind, value in
              (("images", pixels), ("labels", np.arange(8) % 10))}  # fmt: skip
    np.savez(tmp_path / "few.npz", **arrays)
    overrides = [f"{key}={tmp_path / 'few.npz'}" for key in ("data.train", "evaluation.manifest")]
    overrides += ["optim.epochs=1", "optim.warmup_epochs=0", "optim.batch_size=4", "data.workers=0", "run.cpu=true"]
    out = train(load(files(name), [*overrides, f"run.out={tmp_path / 'run'}"]))
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log if "loss" in record] == [1, 2]
    assert json.loads((out / "metrics.json").read_text())["listed"] == 8


@pytest.mark.parametrize(
    "name", [name if name in ONE_A_TOWER else pytest.param(name, marks=pytest.mark.slow) for name in TRAINED]
)
def test_a_recipe_passes_the_dry_run(name, clips, tmp_path, monkeypatch):
    from mote.dry_run import dry_run

    shrink_timm(monkeypatch)
    facts = dry_run(reduced(name, clips, tmp_path / "run"))
    assert facts["steps_per_epoch"] == 2 and facts["flops_training"] > facts["flops_forward"] > 0
    assert not (tmp_path / "run").exists()


def test_the_ablations_say_what_they_do():
    settings = {name: load(files(f"ablations/{name}.yaml")) for name in ("beta_0.8", "beta_1.0", "merging_point")}
    for beta in ("0.8", "1.0"):
        ours = settings[f"beta_{beta}"].loss.merge_temperatures
        assert ours == pytest.approx(merge_temperatures(float(beta)))
    assert settings["merging_point"].loss.merge_temperatures == (float("inf"),)
    assert load(files("ablations/gamma_0.06.yaml")).evaluation.modulation_gamma == 0.06
    assert load(files("ablations/k_10.yaml")).evaluation.modulation_k == 10

"""Mixing and R-Drop from the command line: all together, each alone, and refused where they would do nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from mote.cli import main
from mote.config import ConfigError, load
from mote.datasets.synthetic import render_clip, write_video
from mote.idle_settings import idle_settings

CLASSES = ("red star moving left", "red star moving right", "blue arrow growing")
QUICK = ["model.layers=1", "model.experts=3", "optim.epochs=4", "optim.warmup_epochs=0", "optim.batch_size=2"]
QUICK += ["data.workers=0", "data.frames=4", "data.flip=0", "optim.lr=1e-3"]
ALL = [
    "mixing.methods=[mixup,cutmix,hmix,gmix]",
    "mixing.extent=spacetime",
    "r_drop.weight=0.5",
    "r_drop.temperature=4",
]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[str]:
    """Overrides that name ten clips of three classes."""
    folder = tmp_path_factory.mktemp("world")
    lines = []
    for i in range(10):
        colour, shape, motion = CLASSES[i % 3].split(" ", 2)
        write_video(folder / f"{i}.mp4", render_clip(np.random.default_rng(i), f"{colour} {shape}", motion, 8))
        lines.append(f"{i}.mp4 {i % 3}\n")
    (folder / "list.txt").write_text("".join(lines))
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return [*QUICK, f"data.train={folder / 'list.txt'}", f"data.classes={folder / 'classes.txt'}"]


def train(out: Path, *overrides: str) -> list[dict]:
    """The log of a run."""
    with pytest.raises(SystemExit) as stop:
        main(["train", *overrides, f"run.out={out}"])
    assert stop.value.code == 0
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_all_together_train_for_twenty_steps(clips, tmp_path):
    log = train(tmp_path / "run", *clips, *ALL)
    assert len(log) == 20
    for record in log:
        assert {"ce", "merged_ce", "anchor", "r_drop"} <= set(record)
        total = record["ce"] + record["merged_ce"] + record["anchor"] + record["r_drop"]
        assert record["loss"] == pytest.approx(total, rel=1e-5) and record["grad_norm"] > 0
    assert any(record["r_drop"] > 0 for record in log) and all(record["r_drop"] >= 0 for record in log)
    weights = load_file(tmp_path / "run" / "best" / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values())


def test_weight_zero_is_the_run_without_bit_for_bit(clips, tmp_path):
    short = [*clips, "optim.epochs=1"]
    plain = train(tmp_path / "plain", *short)
    off = train(tmp_path / "off", *short, "mixing.methods=[mixup]", "mixing.probability=0", "r_drop.weight=0")
    strip = lambda log: [{k: v for k, v in record.items() if k != "time"} for record in log]  # noqa: E731
    assert strip(plain) == strip(off)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mixing.methods=[mixup]", "data.cache_features=true", "tuning.vision=frozen"], "mixing needs pixels"),
        (["mixing.methods=[cutup]"], "mixing.methods.0: Input should be 'mixup', 'cutmix', 'hmix' or 'gmix'"),
        (["r_drop.weight=1", "model.experts=1"], "no routing is drawn"),
        (["r_drop.weight=1", "model.layers=0"], "no routing is drawn"),
        (["task=image", "r_drop.weight=1"], "set image.dropout > 0"),
        (["task=image", "mixing.methods=[cutmix]", "mixing.extent=time"], "images need mixing.extent=space"),
        (["task=image", "image.mean=[0.1,0.2]"], "one number, or one for each"),
    ],
)
def test_what_would_do_nothing_is_refused(overrides, message):
    with pytest.raises(ConfigError) as error:
        load([], overrides)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_settings_of_components_that_are_off_are_named():
    overrides = ["mixing.alpha=0.5", "r_drop.temperature=2", "image.dropout=0.5"]
    idle = [line.split(":")[0] for line in idle_settings(load([], overrides))]
    assert idle == ["mixing.alpha", "r_drop.temperature", "image.dropout"]
    image = load([], ["task=image", "model.layers=2", "loss.merged_weight=1", "data.frames=4", "mixing.ratio=0.3"])
    idle = [line.split(":")[0] for line in idle_settings(image)]
    assert idle == ["mixing.ratio", "model.layers", "loss.merged_weight", "data.frames"]


def test_the_mask_law_is_drawn_and_written(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["diagnose", "mixing", "--out", str(tmp_path), "--draws", "100", "--size", "8", "--frames", "2"])
    assert stop.value.code == 0 and "closed form: 0.1667" in capsys.readouterr().out
    lines = (tmp_path / "mixing_law.csv").read_text().splitlines()
    assert len(lines) == 2 + 4 * 2 * 8 and lines[1].startswith("method,")
    assert all((tmp_path / f"mixing_law.{kind}").stat().st_size > 1000 for kind in ("svg", "png"))
    with pytest.raises(SystemExit) as stop:
        main(["diagnose", "mixing", "--out", str(tmp_path / "bad"), "--alpha", "0"])
    assert stop.value.code == 2 and "alpha > 0" in capsys.readouterr().err and not (tmp_path / "bad").exists()

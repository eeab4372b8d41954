"""Mixing, R-Drop and sparsity from the command line: all together, each alone, refused where they would do nothing."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mote.cli import main
from mote.config import ConfigError, load
from mote.config.unused import unused
from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip
from mote.experiments import parts
from mote.tasks.video import VideoTask

CLASSES = ("red star moving left", "red star moving right", "blue arrow growing")
QUICK = [
    "evaluation.page=false",
    "model.layers=1",
    "model.experts=3",
    "optim.epochs=4",
    "optim.warmup_epochs=0",
    "optim.batch_size=2",
]
QUICK += ["data.workers=0", "data.frames=4", "data.flip=0", "optim.lr=1e-3"]
COMPONENTS = {
    "mixing": ["mixing.methods=[mixup,cutmix,hmix,gmix]", "mixing.extent=spacetime"],
    "r_drop": ["r_drop.weight=0.5", "r_drop.temperature=4"],
    "sparsity": ["sparsity.strength=0.9", "sparsity.groups=[units,heads]", "sparsity.layers={temporal.*: 2.65}"],
}


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


@pytest.mark.parametrize("part", [pytest.param("ffn", marks=pytest.mark.slow), "separate"])
def test_all_together_train_for_twenty_steps(clips, tmp_path, part):
    everything = [override for component in COMPONENTS.values() for override in component]
    log = train(tmp_path / "run", *clips, *everything, f"model.expert_part={part}")
    assert len(log) == 20
    for record in log:
        assert {"ce", "merged_ce", "anchor", "r_drop", "groups_alive"} <= set(record)
        total = record["ce"] + record["merged_ce"] + record["anchor"] + record["r_drop"]
        assert record["loss"] == pytest.approx(total, rel=1e-5) and record["grad_norm"] > 0
    assert any(record["r_drop"] > 0 for record in log) and all(record["r_drop"] >= 0 for record in log)
    assert log[0]["groups_alive"] == 1 and 0 < log[-1]["groups_alive"] < 1
    weights = load_file(tmp_path / "run" / "best" / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values())
    up, down = (weights[f"temporal.blocks.0.mlp.{name}_weight"] for name in ("up", "down"))
    dead = ~up.any(2).any(0)
    assert dead.any() and not dead.all()
    assert torch.equal(dead, ~down.any(1).any(0))  # what makes a unit and what reads it die together


class Watched(VideoTask):
    """Notes what every forward pass gets, and the weights before the first."""

    notes: ClassVar[list[tuple]] = []
    start: ClassVar[dict[str, torch.Tensor]] = {}

    def forward(self, batch, generator):
        if not self.notes:
            self.start.update({name: value.clone() for name, value in self.state_dict().items()})
        draws = self.draw(torch.Generator().manual_seed(generator.initial_seed()))
        drawn = [draws[name].tolist() for name in ("routed", "merged")]
        self.notes.append((batch["index"].tolist(), generator.initial_seed(), torch.initial_seed(), drawn))
        return super().forward(batch, generator)


def watched(monkeypatch, out: Path, *overrides: str) -> tuple[list[dict], list[tuple], dict[str, torch.Tensor]]:
    """Log, notes and first weights of a run."""
    Watched.notes, Watched.start = [], {}
    monkeypatch.setattr(parts, "VideoTask", Watched)
    return train(out, *overrides), Watched.notes, Watched.start


@pytest.mark.slow
def test_each_alone_changes_nothing_else(clips, tmp_path, monkeypatch):
    """The same clips in the same order, the same routings, the same first weights; what differs is its own doing."""
    short = [*clips, "optim.epochs=1"]
    plain, order, start = watched(monkeypatch, tmp_path / "plain", *short)
    assert len(order) == 5 and len(start) > 20
    for name, overrides in COMPONENTS.items():
        log, notes, first = watched(monkeypatch, tmp_path / name, *short, *overrides)
        assert notes == order, name
        assert first.keys() == start.keys() and all(torch.equal(first[key], start[key]) for key in start), name
        added = set(log[0]) - set(plain[0])
        assert added == {"mixing": set(), "r_drop": {"r_drop"}, "sparsity": {"groups_alive"}}[name]
        untouched = {"mixing": (), "r_drop": ("merged_ce", "anchor"), "sparsity": ("loss", "ce", "merged_ce", "anchor")}
        assert all(log[0][term] == pytest.approx(plain[0][term], rel=1e-6) for term in untouched[name]), name
        assert log[-1]["loss"] != plain[-1]["loss"], name


def test_weight_zero_is_the_run_without_bit_for_bit_and_computes_nothing(clips, tmp_path, monkeypatch):
    short = [*clips, "optim.epochs=1"]
    plain = train(tmp_path / "plain", *short)

    def computed(*_args, **_options):
        raise AssertionError("computed at weight 0")

    for place in (
        "mote.experiments.parts.Mixer",
        "mote.experiments.parts.GroupLasso",
        "mote.experiments.parts.find_groups",
        "mote.tasks.video.symmetric_kl",
    ):
        monkeypatch.setattr(place, computed)
    zero = ["mixing.methods=[mixup]", "mixing.probability=0", "r_drop.weight=0", "sparsity.strength=0"]
    off = train(tmp_path / "off", *short, *zero)
    strip = lambda log: [{k: v for k, v in record.items() if k != "time"} for record in log]  # noqa: E731
    assert strip(plain) == strip(off)
    weights = [load_file(tmp_path / name / "best" / "model.safetensors") for name in ("plain", "off")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


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
    idle = [line.split(":")[0] for line in unused(load([], overrides))]
    assert idle == ["mixing.alpha", "r_drop.temperature", "image.dropout"]
    image = load([], ["task=image", "model.layers=2", "loss.merged_weight=1", "data.frames=4", "mixing.ratio=0.3"])
    idle = [line.split(":")[0] for line in unused(image)]
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

"""The frontier of a small trained model: every point is what an evaluation says, and nothing is decoded twice."""

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mote.cli import main
from mote.config import load as load_config
from mote.datasets import video
from mote.datasets.decoding.decode import read_frames
from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip
from mote.evaluation.videos import evaluate
from mote.inference.classifier import VideoClassifier
from mote.inference.loading import load
from mote.metrics.frontier import pareto
from mote.models.checkpoints import load_model
from mote.parallel.accelerator import make_accelerator
from mote.protocols.frontier import single_expert
from mote.protocols.targets import find_target

CLOSED = ("red star moving left", "red star moving right", "red star moving up", "red star growing")
OPEN = ("blue arrow moving left", "blue arrow moving right", "blue arrow moving up", "blue arrow growing")
QUICK = ("model.layers=2", "model.experts=3", "optim.epochs=5", "optim.warmup_epochs=0", "optim.batch_size=4")
QUICK += (
    "data.workers=0",
    "data.frames=4",
    "optim.lr=3e-3",
    "optim.backbone_lr_scale=0.3",
    "run.cpu=true",
    "evaluation.page=false",
    "data.flip=0",
)
QUICK += ("data.decode_timeout=null",)  # decoded in this process, so that it can be counted


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Clips of known and of new classes, their lists, and a trained run."""
    folder = tmp_path_factory.mktemp("world")
    for name, classes in (("known", CLOSED), ("new", OPEN)):
        lines = []
        for i in range(12):
            colour, shape, motion = classes[i % 4].split(" ", 2)
            write_video(
                folder / f"{name}{i}.mp4", render_clip(np.random.default_rng(i), f"{colour} {shape}", motion, 6)
            )
            lines.append(f"{name}{i}.mp4 {i % 4}\n")
        (folder / f"{name}.txt").write_text("".join(lines))
        (folder / f"{name}_classes.txt").write_text("\n".join(classes) + "\n")
    (folder / "lists").mkdir()
    for theirs, ours in (("test.txt", "new.txt"), ("classes.txt", "new_classes.txt")):
        (folder / "lists" / theirs).write_text((folder / ours).read_text())
    where = [f"data.train={folder / 'known.txt'}", f"data.classes={folder / 'known_classes.txt'}"]
    assert run("train", *QUICK, *where, f"run.out={folder / 'run'}") == 0
    return folder


def run(*arguments: str | Path) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.fixture(scope="module")
def swept(world) -> tuple[Path, Counter]:
    """The folder of a frontier with one alpha, two gates and three experts, and how often each file was decoded."""
    decoded: Counter = Counter()

    def spy(path, *arguments, **options):
        decoded[Path(path).name] += 1
        return read_frames(path, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video, "read_frames", spy)
        zero_shot = [f"{world / 'new.txt'},{world / 'new_classes.txt'}", f"folder-zs@1={world / 'lists'}"]
        sweeps = ["--alphas", "0.5", "--gates", "0,0.5", "--root", world, "--out", world / "frontier"]
        assert run("frontier", world / "run", "--closed", world / "known.txt", "--zero-shot", *zero_shot, *sweeps) == 0
    return world / "frontier", decoded


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "frontier.csv").open() as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def accuracy(classifier: VideoClassifier, world: Path, name: str, **settings) -> float:
    config = load_config([world / "run" / "config.yaml"], [f"evaluation.manifest={world / name}.txt"])
    if name == "new":
        settings["classes"] = str(world / "new_classes.txt")
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={**settings, "cache": None})})
    return evaluate(classifier, config, make_accelerator(cpu=True), None)["top1"]


def test_only_alpha_decodes_again(swept):
    _, decoded = swept
    # Once for all of alpha 1 and once for alpha 0.5; the protocol cuts three clips of its own from the new ones.
    assert decoded == {f"{name}{i}.mp4": times for name, times in (("known", 2), ("new", 4)) for i in range(12)}


def test_every_file_is_there_and_nothing_is_left_behind(swept):
    folder, _ = swept
    files = {f"frontier.{kind}" for kind in ("csv", "json", "png", "svg")} | {"index.html"}
    assert {path.name for path in folder.iterdir()} == files
    assert "The best harmonic mean has the setting" in (folder / "index.html").read_text()
    document = json.loads((folder / "frontier.json").read_text())
    names = ["model", "alpha 0.5", "gate off", "gate 0.5", "gate TFM", "expert 1", "expert 2", "expert 3"]
    assert [row["name"] for row in document["rows"]] == names == list(table(folder))
    assert set(document["provenance"]["hashes"]) == {
        "weights", "known", "new", "folder-zs:protocol", "folder-zs:test",
    }  # fmt: skip
    assert document["provenance"]["departures"] == {}
    points = [(row["closed_set"], row["zero_shot"]) for row in document["rows"]]
    assert [row["pareto"] for row in document["rows"]] == pareto(points) and len(set(points)) > 2


@pytest.mark.slow
def test_every_point_is_what_an_evaluation_says(swept, world):
    rows, model = table(swept[0]), load(str(world / "run"), device="cpu")
    stacked = load_model(world / "run" / "best").model

    def expert(number: int) -> VideoClassifier:
        torch.manual_seed(0)
        alone = stacked.sharing_parameters()  # fold by hand: the parameters of that expert
        alone.temporal.fold_(stacked.routing(lambda count, experts: torch.full((count, experts), 1 / experts)))
        for mine, theirs in zip(alone.temporal.blocks, stacked.temporal.blocks, strict=True):
            for name, p in mine.mlp.named_parameters():
                p.data.copy_(getattr(theirs.mlp, name).data[number : number + 1])
        return replace(model, model=alone.eval())

    pooled = replace(model, model=stacked.sharing_parameters())
    pooled.model.temporal = None
    expected = {
        "model": (model, {}),
        "alpha 0.5": (model, {"alpha": 0.5}),
        "gate off": (pooled, {}),
        "gate TFM": (model, {"modulation": True}),
        **{f"expert {i + 1}": (expert(i), {}) for i in range(3)},
    }
    protocol = {"clips": 3, "modulation": True}
    eight = accuracy(replace(model, frames=8), world, "new", **protocol)
    assert float(rows["model"]["zero_shot:folder-zs"]) == float(rows["gate TFM"]["zero_shot:folder-zs"]) == eight
    for name, (classifier, settings) in expected.items():
        for column, target in (("closed_set", "known"), ("zero_shot:new", "new")):
            assert float(rows[name][column]) == accuracy(classifier, world, target, **settings), (name, target)


def test_a_gate_scales_the_temporal_branch(world):
    model = load(str(world / "run"), device="cpu")
    features = torch.randn(2, 3, 4, 128, generator=torch.Generator().manual_seed(0))
    half = replace(model, gate=0.25).scorer(CLOSED)({"features": features})
    flat = features.flatten(0, 1)
    mixed = flat + 0.25 * (model.model.head(flat) - flat)
    expected = model.model.classify(mixed, model.text_features(CLOSED)).unflatten(0, (2, 3))
    torch.testing.assert_close(half, expected, rtol=1e-5, atol=1e-5)


def test_single_experts_differ_from_their_merge(world):
    stacked = load_model(world / "run" / "best").model
    features = torch.randn(2, 4, 128, generator=torch.Generator().manual_seed(0))
    outputs = [single_expert(stacked, i).head(features) for i in range(3)] + [stacked.head(features)]
    assert all(not torch.allclose(a, b, atol=1e-4) for i, a in enumerate(outputs) for b in outputs[:i])


def test_targets_are_found_or_refused(world, tmp_path):
    config = load_config([world / "run" / "config.yaml"])
    (tmp_path / "own.yaml").write_text(f"evaluation:\n  manifest: {world / 'known.txt'}\n  clips: 2\n")
    target = find_target(str(tmp_path / "own.yaml"), config)
    assert (target.name, target.config.evaluation.clips, target.config.data) == ("own", 2, config.data)
    found = find_target(f"folder-zs@1={world / 'lists'}", config, str(world))
    assert found.protocol is not None and found.protocol.identifier == "folder-zs@1" and len(found.lists) == 1
    with pytest.raises(ValueError, match=r"absent\.txt: no such list; give PROTOCOL=LISTS"):
        find_target("absent.txt", config)


def test_departures_from_a_protocol_are_said_and_recorded(world, tmp_path, capsys):
    closed = f"{world / 'known.txt'},{world / 'known_classes.txt'}"
    where = ["--closed", closed, "--zero-shot", f"folder-zs@1={world / 'lists'}", "--root", world, "--out", tmp_path]
    assert run("frontier", "tiny", *where, "--alphas", "1", "evaluation.precision=bf16", "run.cpu=true") == 0
    document = json.loads((tmp_path / "frontier.json").read_text())
    departures = document["provenance"]["departures"]["folder-zs"]
    assert any(line.startswith("evaluation.precision=bf16") for line in departures)
    assert all(f"folder-zs: {line}" in capsys.readouterr().err for line in departures[:1])


def test_mistakes_are_one_line(world, tmp_path, capsys):
    lost = tmp_path / "lost.txt"
    lost.write_text("absent.mp4 0\n")
    where = ["frontier", world / "run", "--closed", world / "known.txt", "--zero-shot"]
    for more, message in (
        ([world / "known.txt"], "named twice"),
        ([f"{world / 'new.txt'},{world / 'new_classes.txt'}", "--gates", "1.5"], "must be within 0..1"),
        ([world / "new.txt"], "its labels are numbers of new classes; name these too"),
        ([f"{lost},{world / 'new_classes.txt'}"], "1 of 1 files are missing, the first is"),
        ([f"folder-zs@1={lost}"], "no class file beside it"),
        ([world / "new.txt", "--alphas", "half"], "expected numbers"),
        (
            [f"folder-zs@1={world / 'lists'}", "--root", world, "evaluation.alpha=0.5"],
            "contradicted by evaluation.alpha=0.5",
        ),
    ):
        capsys.readouterr()
        assert run(*where, *more, "--out", world / "wrong") == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1 and not (world / "wrong").exists()

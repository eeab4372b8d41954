"""LoRA and partial tuning as a user meets them: `tuning.*` in `mote train`, and what lies in the run directory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mote import load
from mote.config import ConfigError
from mote.config import load as load_config
from mote.config.unused import unused
from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip
from mote.experiments import parts
from mote.experiments.assemble import assemble
from mote.experiments.train import train
from mote.models.clip import encode_classes, load_backbone
from mote.parallel.accelerator import make_accelerator
from mote.reporting.parameters import parameter_table
from mote.training.optim import parameter_groups

CLASSES = ("red star", "blue arrow", "green ball")
QUICK = ("model.layers=1", "model.experts=2", "optim.epochs=2", "optim.warmup_epochs=0", "optim.batch_size=4")
QUICK += ("data.workers=0", "data.frames=2", "optim.lr=1e-3", "run.cpu=true", "evaluation.page=false", "data.flip=0")
BOTH = ("tuning.vision=lora", "tuning.text=lora", "tuning.rank=4")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for i in range(8):
        write_video(folder / f"{i}.mp4", render_clip(np.random.default_rng(i), CLASSES[i % 3], "moving left", 6))
    (folder / "list.txt").write_text("".join(f"{i}.mp4 {i % 3}\n" for i in range(8)))
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


def settings(clips: Path, *more: str) -> list[str]:
    where = [f"data.train={clips / 'list.txt'}", f"data.classes={clips / 'classes.txt'}"]
    return [*QUICK, *where, *more]


@pytest.fixture(scope="module")
def run(clips) -> Path:
    out = clips / "run"
    return train(load_config([], settings(clips, *BOTH, f"run.out={out}", f"evaluation.manifest={clips / 'list.txt'}")))


def features(model, clips) -> torch.Tensor:
    scores = model.classify_video(clips / "0.mp4", list(CLASSES), modulation=False)
    return torch.tensor([scores[name] for name in CLASSES])


def test_a_run_with_adapters_loads_like_any_other_and_its_result_repeats(run, clips):
    result = json.loads((run / "metrics.json").read_text())
    model = load(str(run), device="cpu")
    assert model.classes == list(CLASSES)
    from mote.files.tensor_hashes import sha256_tensors

    assert result["provenance"]["hashes"]["weights"] == sha256_tensors(model.model.state_dict())
    assert not any("lora" in name for name in load_file(run / "best" / "model.safetensors"))
    # The stored class features are those of the tuned text tower, which zero-shot names go through as well.
    again = encode_classes(model.towers(), CLASSES, model.templates)
    torch.testing.assert_close(again, model.tuned_text, rtol=1e-5, atol=1e-6)
    plain = encode_classes(load_backbone("tiny"), CLASSES, model.templates)
    assert (again - plain).abs().max() > 1e-3
    assert torch.isfinite(features(model, clips)).all()


def test_saved_adapters_on_the_original_towers_give_the_saved_model(run):
    from mote.models.lora import load_adapters, merged

    towers = load_backbone("tiny")
    vision = merged(load_adapters(towers.visual, run / "best" / "adapters" / "vision")).state_dict()
    saved = load_file(run / "best" / "model.safetensors")
    assert all(torch.equal(saved[f"visual.{name}"], t) for name, t in vision.items())
    text = merged(load_adapters(towers.encode_text.backbone, run / "best" / "adapters" / "text")).state_dict()
    saved = load_file(run / "best" / "text.safetensors")
    assert {name.removeprefix("backbone.") for name in saved} == set(text)
    assert all(torch.equal(saved[f"backbone.{name}"], t) for name, t in text.items())
    assert json.loads((run / "best" / "adapters" / "text" / "adapter_config.json").read_text())["peft_type"] == "LORA"


def test_a_run_that_starts_from_tuned_towers_keeps_their_text(run, clips, tmp_path):
    out = train(load_config([], settings(clips, f"model.init={run}", f"run.out={tmp_path / 'run'}", "optim.epochs=1")))
    first, second = load(str(run), device="cpu"), load(str(out), device="cpu")
    torch.testing.assert_close(second.tuned_text, first.tuned_text, rtol=1e-5, atol=1e-6)
    new = ("yellow ring", "pink heart")
    texts = [encode_classes(model.towers(), new, model.templates) for model in (first, second)]
    assert torch.equal(*texts)


@pytest.mark.parametrize(
    ("tuning", "moved"),
    [
        (("tuning.vision=lora",), {"vision"}),
        (("tuning.text=lora", "tuning.vision=frozen"), {"text"}),
        (("tuning.text=full", "tuning.vision=frozen"), {"text"}),
        (("tuning.vision=frozen",), set()),
        (("tuning.freeze=[model.visual.*]",), set()),
        (("tuning.vision=full",), {"vision"}),
    ],
)
def test_one_step_moves_what_is_named_and_leaves_the_rest_bit_for_bit(clips, tuning, moved):
    experiment = assemble(load_config([], settings(clips, *tuning)), make_accelerator(cpu=True))
    task = experiment.task.train()
    before = {name: t.clone() for name, t in task.state_dict().items()}
    groups = parameter_groups(task, parts.learning_rules(experiment.config))
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3 * group["lr_scale"]
    batch = next(iter(experiment.loader()))
    task(batch, torch.Generator().manual_seed(0))[0].backward()
    trained = {name for name, p in task.named_parameters() if p.requires_grad}
    assert all(p.grad is not None for p in task.parameters() if p.requires_grad)  # DDP needs no search for unused ones
    optimizer.step()
    changed = {name for name, t in task.state_dict().items() if not torch.equal(t, before[name])}
    assert changed <= trained
    towers = {"vision": "model.visual.", "text": "class_features."}
    for tower, prefix in towers.items():
        ours = {name for name in changed if name.startswith(prefix)}
        assert bool(ours) == (tower in moved)
        if experiment.config.tuning.model_dump()[tower] == "lora":
            assert all(".lora_" in name for name in ours)
            assert {n for n in before if n.startswith(prefix) and ".lora_B." in n} == {
                n for n in ours if ".lora_B." in n
            }
    assert any(name.startswith("model.temporal.") for name in changed)
    rows = {row["part"]: row for row in parameter_table(task, groups, 1e-3)}
    assert rows["all"]["parameters"] == sum(p.numel() for p in task.parameters())
    assert rows["all"]["trained"] == sum(before[name].numel() for name in trained)
    assert (rows["visual tower"]["frozen"] > 0) == (moved != {"vision"} or "tuning.vision=lora" in tuning)


def test_class_features_in_the_step_are_those_of_the_prompts_with_gradient(clips):
    config = load_config([], settings(clips, "tuning.text=full", "tuning.text_prompts=3"))
    experiment = assemble(config, make_accelerator(cpu=True))
    expected = encode_classes(load_backbone("tiny"), CLASSES, experiment.templates[:3])
    ours = experiment.task.class_text()
    torch.testing.assert_close(ours.detach(), expected, rtol=1e-5, atol=1e-6)
    ours[0, 0].backward()
    assert experiment.towers.encode_text.backbone.token_embedding.weight.grad.any()


@pytest.mark.slow  # three launches of two processes
def test_a_killed_run_with_adapters_and_accumulation_on_two_processes_resumes_exactly(clips, tmp_path):
    """Two processes, adapters on both towers, gradient checkpointing, accumulation 2; killed after the first epoch."""
    options = (*BOTH, "model.gradient_checkpointing=true", "optim.accumulation=2", "optim.epochs=2")
    whole = train_in_processes(settings(clips, *options, f"run.out={tmp_path / 'whole'}"))
    assert whole == 0
    cut = settings(clips, *options, f"run.out={tmp_path / 'cut'}")
    assert train_in_processes(cut, kill_after=3) != 0
    assert train_in_processes(["--resume", str(tmp_path / "cut")]) == 0
    logs = [
        [
            {k: v for k, v in json.loads(line).items() if k != "time"}
            for line in (tmp_path / f / "log.jsonl").read_text().splitlines()
        ]
        for f in ("whole", "cut")
    ]
    assert logs[0] == logs[1] and len(logs[0]) == 4
    for name in ("model.safetensors", "text.safetensors"):
        a, b = (load_file(tmp_path / f / "best" / name) for f in ("whole", "cut"))
        assert all(torch.equal(a[key], b[key]) for key in a)


def train_in_processes(arguments: list[str], kill_after: int | None = None) -> int:
    """`mote train` on two CPU processes; with `kill_after` they die by SIGKILL at that update."""
    script = f"""
import os, signal, sys
from mote.training import run
original, kill = run.update, {kill_after}
def update(layout, clip_norm, means, progress):
    if kill is not None and progress.step + 1 == kill:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(layout, clip_norm, means, progress)
run.update = update
from mote.cli import main
main(["train", *{arguments!r}])
"""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--no-python"]
    done = subprocess.run(
        [*command, sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True
    )
    return done.returncode


def test_settings_that_contradict_each_other_or_do_nothing_are_said():
    with pytest.raises(ConfigError, match="nothing to train"):
        load_config([], ["model.layers=0", "optim.backbone_lr_scale=0", "data.train=x"])
    load_config([], ["model.layers=0", "optim.backbone_lr_scale=0", "data.train=x", "tuning.vision=lora"])
    with pytest.raises(ConfigError, match=r"tuning\.vision=frozen"):
        load_config([], ["data.cache_features=true", "tuning.vision=lora", "optim.backbone_lr_scale=0"])
    idle = unused(load_config([], ["tuning.rank=4", "tuning.text_prompts=2"]))
    assert [line.split(":")[0] for line in idle] == ["tuning.rank", "tuning.text_prompts"]
    assert not unused(load_config([], ["tuning.rank=4", "tuning.vision=lora"]))


def test_a_freeze_pattern_that_takes_nothing_is_an_error(clips):
    config = load_config([], settings(clips, "tuning.freeze=[model.vision.*]"))
    experiment = assemble(config, make_accelerator(cpu=True))
    with pytest.raises(ValueError, match=r"patterns \['model\.vision\.\*'\] take no parameter"):
        parameter_groups(experiment.task, parts.learning_rules(config))

"""The dry run: counts against sums by hand, nothing written, and the search for a batch that fits."""

import numpy as np
import pytest
import torch

from mote.cli import main
from mote.config import load as load_config
from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip
from mote.experiments import dry_run
from mote.experiments.assemble import assemble
from mote.models.clip import build_backbone
from mote.parallel.accelerator import make_accelerator
from mote.training.memory import fitting_micro_batch


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for i in range(3):
        write_video(folder / f"{i}.mp4", render_clip(np.random.default_rng(i), "red star", "moving left", 6))
    (folder / "list.txt").write_text("".join(f"{i}.mp4 {i % 2}\n" for i in range(3)) * 4)
    (folder / "classes.txt").write_text("red star\nblue ball\n")
    return folder


def settings(clips, *more):
    where = [f"data.train={clips / 'list.txt'}", f"data.classes={clips / 'classes.txt'}", "run.cpu=true"]
    quick = ["data.workers=0", "data.frames=4", "model.layers=2", "model.experts=3", "optim.batch_size=4"]
    return [*where, *quick, "optim.accumulation=2", *more]


def tower_by_hand(width, layers, tokens, patch, embed, last):
    """Two per multiply-add: patches; q, k, v, out, the two products of attention; both halves of the MLP; the end.

    The last block computes `last` of the tokens, from the keys and values of all.
    """

    def block(queries):
        mlp = 2 * 2 * queries * width * 4 * width
        return 2 * tokens * width * 2 * width + 2 * 2 * queries * width * (width + tokens) + mlp

    blocks = (layers - 1) * block(tokens) + block(last)
    return 2 * (tokens - 1) * 3 * patch * patch * width + blocks + 2 * width * embed


def test_flops_of_a_clip_are_those_counted_by_hand(clips):
    experiment = assemble(load_config([], settings(clips)), make_accelerator(cpu=True))
    model, frames = experiment.model, 4
    batch = {"frames": torch.zeros(1, frames, 3, 64, 64, dtype=torch.uint8), "label": torch.zeros(1, dtype=torch.int64)}
    width, embed = 128, model.embed_dim
    block = 2 * frames * embed * 4 * embed + 2 * 2 * frames * frames * embed + 2 * 2 * frames * embed * 4 * embed
    merging = 2 * 3 * (2 * 4 * embed * embed + 5 * embed)  # the mean of three experts, in each of two layers
    classes = 2 * embed * 2
    expected = frames * tower_by_hand(width, 4, 17, 16, embed, last=1) + 2 * (block + merging) + classes
    assert dry_run.flops(lambda: experiment.task.predict(batch)) == expected


def test_flops_of_vit_b_16_are_the_published_ones():
    """17.6 GMAC a frame (MoTE, table 4: 141 for 8 frames), so twice as many FLOPs."""
    visual = build_backbone("ViT-B-16").visual
    counted = dry_run.flops(lambda: visual(torch.zeros(1, 3, 224, 224)))
    assert counted == tower_by_hand(768, 12, 197, 16, 512, last=197)
    assert counted / 2e9 == pytest.approx(17.6, abs=0.05)


def test_a_dry_run_says_what_training_costs_and_writes_nothing(clips, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(clips.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        main(["train", *settings(clips, "run.out=run", "tuning.vision=lora"), "--dry-run"])
    out = capsys.readouterr().out
    assert not stop.value.code and not list(tmp_path.iterdir()) and sorted(clips.rglob("*")) == before
    for text in ("visual tower: adapters", "temporal head", "GFLOPs of one clip", "peak memory", "time of an epoch"):
        assert text in out


def test_a_dry_run_leaves_the_weights_alone_and_counts_steps(clips, capsys):
    facts = dry_run.dry_run(load_config([], settings(clips)))
    assert (facts["steps_per_epoch"], facts["micro_batch"]) == (3, 2)
    # Backward takes two products for each of forward, and two passes go through the head; merging is a product as well.
    assert 2.5 * facts["flops_forward"] < facts["flops_training"] < 4 * facts["flops_forward"]
    assert facts["seconds_per_epoch"] == pytest.approx(3 * facts["seconds_per_step"])
    assert facts["peak_memory"] > 2**20 and facts["clips_per_second_loading"] > 0
    total = facts["parameters"][-1]
    assert total["trained"] == total["parameters"] and total["frozen"] == 0


def test_a_dry_run_updates_by_the_method_of_the_training(clips, monkeypatch):
    made = []
    real = dry_run.make_optimizer
    monkeypatch.setattr(dry_run, "make_optimizer", lambda *given, **more: made.append(real(*given, **more)) or made[-1])
    dry_run.dry_run(load_config([], settings(clips, "optim.method=sgd", "optim.momentum=0.5", "optim.weight_decay=0")))
    assert isinstance(made[0], torch.optim.SGD) and made[0].param_groups[0]["momentum"] == 0.5


def test_missing_clips_are_named(clips, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("nowhere.mp4 0\n" * 4)
    with pytest.raises(SystemExit) as stop:
        main(["train", *settings(clips, f"data.train={tmp_path / 'list.txt'}"), "--dry-run"])
    assert stop.value.code == 2 and "nowhere.mp4" in capsys.readouterr().err


@pytest.mark.parametrize(("limit", "expected"), [(20, 12), (5, 4), (1, 1)])
def test_the_largest_part_that_fits_is_found(limit, expected):
    tried = []

    def run(size):
        tried.append(size)
        if size > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

    assert fitting_micro_batch(run, 12) == expected
    assert tried == [size for size in range(12, 0, -1) if 12 % size == 0 and size >= expected]


def test_other_errors_pass_and_nothing_that_fits_is_an_error(clips):
    def broken(_size):
        raise ValueError("another cause")

    def full(_size):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

    with pytest.raises(ValueError, match="another cause"):
        fitting_micro_batch(broken, 4)
    with pytest.raises(MemoryError, match="gradient_checkpointing"):
        fitting_micro_batch(full, 2)
    with pytest.raises(ValueError, match="needs a GPU"):
        dry_run.dry_run(load_config([], settings(clips)), find_batch_size=True)

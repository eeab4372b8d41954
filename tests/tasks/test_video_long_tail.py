"""Clips of unequal classes on the MoTE model: every method against loops, and where its gradient goes."""

import numpy as np
import pytest
import torch
from oracles import long_tail_reference as loops
from torch import nn
from torch.nn import functional as F

from mote.config import ConfigError, load
from mote.config.unused import questionable, unused
from mote.datasets.mixing import Mixer
from mote.experiments import parts
from mote.models.routing import one_expert, random_merge
from mote.models.temporal import TemporalHead
from mote.models.video_clip import VideoCLIP
from mote.regularizers.long_tail import checked_counts
from mote.tasks.long_tail import LongTailLoss
from mote.tasks.video import VideoTask

B, T, D, K, S = 4, 3, 8, 4, 8
COUNTS = checked_counts([40, 5, 12, 3])
LOSSES = [
    ("weighted", "weighted_ce", {}),
    ("focal", "focal", {"gamma": 1.5}),
    ("class_balanced", "class_balanced", {"beta": 0.99}),
    ("logit_adjustment", "logit_adjustment", {"tau": 0.7}),
    ("balanced_softmax", "balanced_softmax", {}),
    ("smoothing", "label_smoothing", {"epsilon": 0.2}),
]


class Patches(nn.Module):
    """A tower of 2 x 2 patches with the interface of open_clip's; counts the images of each call."""

    def __init__(self):
        super().__init__()
        self.patch, self.proj, self.rows = nn.Conv2d(3, 6, 4, 4), nn.Parameter(torch.randn(6, D)), []

    def forward_intermediates(self, images, indices=1, **_):
        self.rows.append(len(images))
        tokens = self.patch(images).tanh()
        return {"image_features": tokens.mean((2, 3)) @ self.proj, "image_intermediates": [tokens]}

    def forward(self, images):
        return self.forward_intermediates(images)["image_features"]


def make_task(correction=None, layers=1, experts=3, **options) -> VideoTask:
    torch.manual_seed(0)
    visual, head = Patches(), TemporalHead(D, layers, num_heads=2, num_experts=experts)
    model = VideoCLIP(visual, torch.tensor(1.5), head, embed_dim=D, mean=(0.4,) * 3, std=(0.3,) * 3)
    long_tail = None if correction is None else LongTailLoss(COUNTS, **correction)
    return VideoTask(model, F.normalize(torch.randn(K, D), dim=-1), long_tail=long_tail, **options)


def make_batch(valid=(True,) * B) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "frames": torch.randint(0, 256, (B, T, 3, S, S), dtype=torch.uint8, generator=generator),
        "label": torch.tensor([0, 3, 2, 2]),
        "valid": torch.tensor(valid),
    }


def seeded(seed=3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loop_attention(task: VideoTask, frames: torch.Tensor, weight: list[float], strength: float) -> float:
    """Lambda times RAC with weights of sum 1, frame by frame, from two passes of the tower; tokens normalised here."""

    def maps(frame):
        tokens = task.model.visual.patch(task.model.normalize_images(frame[None]))[0].tanh()
        joint = torch.einsum("de,dhw->ehw", task.model.visual.proj, tokens)
        return loops.cam((joint / joint.norm(dim=0)).tolist(), task.text.tolist())

    share = [w / sum(weight) for w in weight]
    each = [
        loops.consistency([maps(frame)], [maps(frame.flip(-1))], share, lam=strength)
        for clip in frames
        for frame in clip
    ]
    return sum(each) / len(each)


def logits_of(task: VideoTask, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the routed and the merged pass, from the draws of the paper."""
    generator, model = seeded(), task.model
    rows = one_expert(1, 3, generator), random_merge(1, 3, generator)
    features = model.encode_frames(batch["frames"])
    return tuple(model.classify(model.head(features, row), task.text).double() for row in rows)  # type: ignore[return-value]


@pytest.mark.parametrize(("rebalanced", "valid"), [(True, (True,) * 4), (False, (True, False, True, False))])
def test_mek_on_clips_is_the_loops_of_all_its_terms(rebalanced, valid):
    correction = {"epsilon": 0.3 if rebalanced else 0.0, "strength": 1.5, "rebalanced": rebalanced}
    task, batch = make_task(correction, merged_weight=0.7, anchor_weight=0.2), make_batch(valid)
    loss, terms = task(batch, seeded())
    assert set(terms) == {"ce", "merged_ce", "anchor", "attention"}
    assert task.model.visual.rows == [2 * B * T]  # clips and mirrors in one call of the tower
    kept = batch["valid"]
    weight = [1 / n for n in COUNTS.tolist()] if rebalanced else [1.0] * K
    assert terms["attention"].item() == pytest.approx(
        loop_attention(task, batch["frames"][kept], weight, 1.5), rel=1e-4
    )
    soft = torch.tensor([loops.smooth_label(y, weight, correction["epsilon"]) for y in batch["label"].tolist()])
    routed, merged = (-(soft * z.log_softmax(1)).sum(1)[kept].mean().item() for z in logits_of(task, batch))
    assert terms["ce"].item() == pytest.approx(routed, rel=1e-5)
    assert terms["merged_ce"].item() == pytest.approx(0.7 * merged, rel=1e-5)
    plain = make_task(merged_weight=0.7, anchor_weight=0.2)(batch, seeded())[1]
    assert terms["anchor"].item() == pytest.approx(plain["anchor"].item(), rel=1e-6)  # sees no mirror
    assert loss.item() == pytest.approx(sum(value.item() for value in terms.values()), rel=1e-6)


@pytest.mark.parametrize(("method", "name", "settings"), LOSSES)
def test_a_method_of_the_configuration_is_the_loop_of_its_loss_in_both_passes(method, name, settings):
    overrides = [f"imbalance.{key}={value}" for key, value in settings.items()]
    config = load([], [f"imbalance.method={method}", "loss.merged_weight=0.5", *overrides])
    given = make_task()
    task, batch = parts.task(config, given.model, given.text, counts=COUNTS), make_batch()
    terms = task(batch, seeded())[1]
    assert set(terms) == {"ce", "merged_ce", "anchor"} and task.model.visual.rows == [B * T]
    routed, merged = (
        loops.loss(name, z.tolist(), batch["label"].tolist(), COUNTS.tolist(), **settings)
        for z in logits_of(task, batch)
    )
    assert terms["ce"].item() == pytest.approx(routed, rel=1e-5)
    assert terms["merged_ce"].item() == pytest.approx(0.5 * merged, rel=1e-5)


def test_ldam_has_its_margins_on_the_scale_of_clip_and_defers_its_weights():
    config = load([], ["imbalance.method=ldam_drw", "imbalance.defer=0.5"])
    given = make_task()
    task, batch = parts.task(config, given.model, given.text, counts=COUNTS), make_batch()
    switch, losses = parts.after_update(config, task), []
    for fraction in (0.25, 0.5):
        switch(None, fraction)
        losses.append(task(batch, seeded())[1]["ce"].item())
    margin = 0.5 * COUNTS.double() ** -0.25 / (COUNTS.double() ** -0.25).max()
    moved = logits_of(task, batch)[0] - task.model.logit_scale.exp().item() * F.one_hot(batch["label"], K) * margin
    each = F.cross_entropy(moved, batch["label"], reduction="none")
    late = 1 / (1 - 0.9999 ** COUNTS.double())
    late = (late / late.mean())[batch["label"]]
    assert losses == pytest.approx([each.mean().item(), (late * each).mean().item()], rel=1e-5)


def test_nothing_switched_on_is_the_plain_task_and_costs_no_mirror():
    plain, off = make_task(), make_task({"epsilon": 0.0, "strength": 0.0})
    results = [task(make_batch(), seeded()) for task in (plain, off)]
    assert results[0][1].keys() == results[1][1].keys() and results[0][0].item() == results[1][0].item()
    assert plain.model.visual.rows == off.model.visual.rows == [B * T]


def test_the_attention_teaches_the_tower_alone():
    task = make_task({"strength": 1.0})
    task.text.requires_grad_(True)
    task(make_batch(), seeded())[1]["attention"].backward()
    touched = {name for name, p in task.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert touched == {"model.visual.proj", "model.visual.patch.weight", "model.visual.patch.bias"}
    assert task.text.grad is None


def test_a_tower_that_sees_no_left_and_right_pays_nothing():
    task = make_task({"strength": 1.0})
    assert task(make_batch(), seeded())[1]["attention"] > 1e-4
    with torch.no_grad():
        weight = task.model.visual.patch.weight
        weight.copy_((weight + weight.flip(-1)) / 2)
    assert task(make_batch(), seeded())[1]["attention"].item() < 1e-10


def test_mixed_targets_are_smoothed_and_not_mixed_again():
    task, batch = make_task({"epsilon": 0.2, "strength": 1.0}), make_batch()
    mixed = Mixer(["cutmix", "gmix"], K)(batch, np.random.default_rng(0))
    terms = task(mixed, seeded())[1]
    rows = torch.tensor([loops.smooth_label(y, [1 / n for n in COUNTS.tolist()], 0.2) for y in range(K)])
    expected = -((mixed["target"] @ rows) * logits_of(task, mixed)[0].log_softmax(1)).sum(1).mean()
    assert terms["ce"].item() == pytest.approx(expected.item(), rel=1e-5)
    weight = [1 / n for n in COUNTS.tolist()]  # the mirror of what was mixed, not a mixture of mirrors
    assert terms["attention"].item() == pytest.approx(loop_attention(task, mixed["frames"], weight, 1.0), rel=1e-4)


def test_what_a_video_model_cannot_do_is_refused_in_one_line():
    clips = "data.train=clips.txt"
    for overrides, message in (
        (["imbalance.method=crt"], "crt needs a linear head; a video model"),
        (["imbalance.posthoc=tau_norm"], "tau_norm needs a linear head; a video model"),
        (
            ["imbalance.method=mek", "data.cache_features=true", "tuning.vision=frozen"],
            "compares clips with their mirror",
        ),
        (
            ["imbalance.method=consistency", "tuning.vision=frozen", clips],
            "teaches the CLIP tower, which does not learn",
        ),
    ):
        with pytest.raises(ConfigError, match=message) as error:
            load([], overrides)
        assert "\n" not in str(error.value)
    for method in ("smoothing", "mek"):  # the labels alone need neither pixels nor a tower that learns
        load(
            [],
            [f"imbalance.method={method}", "imbalance.strength=0", "data.cache_features=true", "tuning.vision=frozen"],
        )


def test_settings_without_effect_and_corrections_on_corrections_are_told():
    assert unused(load([], ["imbalance.method=mek", "imbalance.tau=2"])) == [
        "imbalance.tau: imbalance.method=mek does not use it"
    ]
    assert unused(load([], ["imbalance.method=ldam_drw", "imbalance.scale=20"])) == [
        "imbalance.scale: a video model has the logit scale of CLIP"
    ]
    assert len(questionable(load([], ["imbalance.method=mek", "imbalance.posthoc=logit_adjustment"]))) == 1

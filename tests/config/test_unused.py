"""Settings without effect: the table of rules against the configuration tree, and what it says."""

from fnmatch import fnmatchcase

import pytest

from mote.config import Config, load
from mote.config.sections import Section
from mote.config.unused import RULES, changed, questionable, unused

KEYS = [f"{name}.{key}" for name, section in Config() if isinstance(section, Section) for key, _ in section]


def keys(*overrides: str) -> list[str]:
    """Settings that are named as unused."""
    return [line.split(":")[0] for line in unused(load([], overrides))]


def test_defaults_are_never_named():
    for task in ("video", "image", "expression", "autoencoder"):
        assert unused(load([], [f"task={task}"])) == questionable(load([], [f"task={task}"])) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.settings)
def test_every_pattern_is_of_a_setting_and_every_reason_can_be_written(rule):
    for pattern in rule.settings.split():
        assert any(fnmatchcase(key, pattern) for key in KEYS), pattern
    assert "{" not in rule.why.format(**dict(Config()))


def test_changed_settings_are_listed_in_the_order_of_the_tree():
    overrides = ["optim.lr=1", "model.layers=2", "data.flip=0.5", "seed=3"]
    assert changed(load([], overrides)) == ["model.layers", "optim.lr"]


def test_settings_without_effect_are_named_once_with_the_first_reason():
    overrides = ["model.layers=0", "model.experts=2", "loss.merged_weight=1", "data.stride=2"]
    assert keys(*overrides) == ["model.experts", "loss.merged_weight", "data.stride"]
    lines = unused(load([], ["mixing.ratio=0.2", "loss.routing=all", "loss.route_temperature=2", "model.experts=1"]))
    assert lines == [
        "mixing.ratio: nothing is mixed",
        "loss.routing: there is one expert or no temporal head, so nothing is routed or merged",
        "loss.route_temperature: there is one expert or no temporal head, so nothing is routed or merged",
    ]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["task=image", "image.net=timm:x", "image.mean=[0.1]"], ["image.mean"]),
        (["task=image", "image.net=backbone", "model.backbone=x", "model.init=x"], ["model.init"]),
        (["task=image", "model.backbone=x"], ["model.backbone"]),
        (["task=image", "image.pad=2", "data.crop_scale=[0.5,1]"], ["data.crop_scale"]),
        (["task=image", "image.erase_area=[0.1,0.2]"], ["image.erase_area"]),
        (["image.augment=rand-m9"], ["image.augment"]),
        (["task=autoencoder", "image.pad=2", "image.channels=1", "image.net=mlp"], ["image.net"]),
        (["task=autoencoder", "autoencoder.method=ae", "autoencoder.kl_weight=2"], ["autoencoder.kl_weight"]),
        (["task=expression", "imbalance.method=ldam_drw", "imbalance.scale=9"], []),
        (["task=expression", "image.net=backbone", "imbalance.method=ldam_drw", "imbalance.scale=9"],
         ["imbalance.scale"]),
        (["tuning.text=full", "optim.backbone_lr_scale=0"], ["tuning.text"]),
        (["loss.merged_weight=0", "loss.merged=kl"], ["loss.merged"]),
        (["data.cache_features=true", "tuning.vision=frozen", "data.shuffle_shards=2"], ["data.shuffle_shards"]),
        (["sparsity.start=0.3"], ["sparsity.start"]),
        (["sparsity.start=0.3", "sparsity.strength=0.1"], []),
    ],
)  # fmt: skip
def test_a_setting_is_named_where_it_has_no_effect(overrides, named):
    assert keys(*overrides) == named


def test_steps_of_the_rate_that_training_never_reaches_are_named():
    steps = ["optim.schedule=step", "optim.milestones=[30,60]", "optim.lr_decay=0.5", "optim.warmup_epochs=1"]
    assert unused(load([], [*steps, "optim.epochs=31"])) == []
    lines = unused(load([], [*steps, "optim.epochs=30"]))
    assert {line.split(":")[0] for line in lines} == {"optim.milestones", "optim.lr_decay"}
    assert all("training ends before the first of optim.milestones" in line for line in lines)

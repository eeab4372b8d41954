"""The expression task: every method against loops, and what must be zero, equal or untouched."""

import pytest
import torch
from oracles import long_tail_reference as loops
from torch import nn
from torch.nn import functional as F

from mote.config import load
from mote.experiments import parts
from mote.models.image_nets import ImageClassifier, ResNet
from mote.regularizers.long_tail import checked_counts
from mote.tasks.expression import ExpressionTask
from mote.tasks.long_tail import Deferral

GENERATOR = torch.Generator()
COUNTS = checked_counts([40, 5, 12, 3])


def make_model(num_classes=4, **options) -> ImageClassifier:
    torch.manual_seed(0)
    return ImageClassifier(ResNet(num_classes, blocks=1, in_channels=1, **options))


def make_task(num_classes=4, dropout=0.0, counts=COUNTS, **options) -> ExpressionTask:
    return ExpressionTask(make_model(num_classes, dropout=dropout), counts, **options)


def make_batch(count=6, size=8, num_classes=4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 1, size, size), dtype=torch.uint8, generator=generator)
    return {"images": images, "label": torch.arange(count) % num_classes}


def loop_consistency(task: ExpressionTask, images: torch.Tensor, weight: list[float], strength: float) -> float:
    """Lambda times the loop's RAC with weights of sum 1, maps from two separate passes."""
    head = task.model.net.fc.weight.tolist()
    maps = [[loops.cam(one.tolist(), head) for one in task.model.encode(x)[1]] for x in (images, images.flip(-1))]
    return loops.consistency(*maps, [w / sum(weight) for w in weight], lam=strength)


def test_mek_is_the_loops_of_both_terms():
    task, batch = make_task(epsilon=0.3, strength=1.5).eval(), make_batch()
    loss, terms = task(batch, GENERATOR)
    weight = [1 / n for n in COUNTS.tolist()]
    logits = task.model(batch["images"])
    soft = torch.tensor([loops.smooth_label(y, weight, 0.3) for y in batch["label"].tolist()])
    expected = -(soft * logits.log_softmax(1)).sum(1).mean().item()
    assert terms["ce"].item() == pytest.approx(expected, rel=1e-5)
    assert terms["attention"].item() == pytest.approx(loop_consistency(task, batch["images"], weight, 1.5), rel=1e-4)
    assert loss.item() == pytest.approx((terms["ce"] + terms["attention"]).item(), rel=1e-6)


def test_consistency_alone_weighs_all_classes_alike():
    task, batch = make_task(strength=5.0, rebalanced=False).eval(), make_batch()
    _, terms = task(batch, GENERATOR)
    expected = loop_consistency(task, batch["images"], [1.0] * 4, 5.0)
    assert terms["attention"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("method", "loss", "settings"),
    [
        ("ce", "ce", {}),
        ("sampler", "ce", {}),
        ("crt", "ce", {}),
        ("weighted", "weighted_ce", {}),
        ("focal", "focal", {"gamma": 1.5}),
        ("class_balanced", "class_balanced", {"beta": 0.99}),
        ("logit_adjustment", "logit_adjustment", {"tau": 0.7}),
        ("balanced_softmax", "balanced_softmax", {}),
        ("smoothing", "label_smoothing", {"epsilon": 0.2}),
    ],
)
def test_a_method_of_the_configuration_is_the_loop_of_its_loss(method, loss, settings):
    overrides = [f"imbalance.{key}={value}" for key, value in settings.items()]
    config = load([], ["task=expression", f"imbalance.method={method}", "image.init=x", *overrides])
    task, batch = parts.image_task(config, make_model(), COUNTS).eval(), make_batch()
    total, terms = task(batch, GENERATOR)
    logits = task.model(batch["images"]).double().tolist()
    expected = loops.loss(loss, logits, batch["label"].tolist(), COUNTS.tolist(), **settings)
    assert set(terms) == {"ce"} and total.item() == pytest.approx(expected, rel=1e-5)


def test_ldam_defers_its_weights_and_takes_the_scale_of_the_head():
    config = load([], ["task=expression", "imbalance.method=ldam_drw", "imbalance.defer=0.5", "imbalance.scale=10"])
    task, batch = parts.image_task(config, make_model(cosine=10.0), COUNTS).eval(), make_batch()
    switch = parts.after_update(config, task)
    assert isinstance(switch, Deferral)
    losses = []
    for fraction in (0.25, 0.5):
        switch(None, fraction)
        losses.append(task(batch, GENERATOR)[0].item())
    logits = task.model(batch["images"]).double()
    assert logits.abs().max() <= 10
    margin = COUNTS.double() ** -0.25 * 0.5 / (COUNTS.double() ** -0.25).max()
    moved = logits - 10 * F.one_hot(batch["label"], 4) * margin
    each = F.cross_entropy(moved, batch["label"], reduction="none")
    late = 1 / (1 - 0.9999 ** COUNTS.double())
    late = (late / late.mean())[batch["label"]]
    assert losses == pytest.approx([each.mean().item(), (late * each).mean().item()], rel=1e-5)
    assert "long_tail.deferred" in task.state_dict()  # so that a resumed run knows


def test_the_head_gets_no_gradient_from_the_attention_and_the_network_does():
    task = make_task(strength=1.0)
    task(make_batch(), GENERATOR)[1]["attention"].backward()
    assert task.model.net.fc.weight.grad is None and task.model.net.fc.bias.grad is None
    assert task.model.net.conv1.weight.grad.abs().sum() > 0


def test_an_equivariant_network_pays_nothing():
    """Kernels symmetric from left to right on widths 9, 5, 3, where stride 2 keeps the middle in the middle."""
    task, batch = make_task(strength=1.0), make_batch(size=9)
    assert task(batch, GENERATOR)[1]["attention"] > 1e-4
    with torch.no_grad():
        for module in task.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_((module.weight + module.weight.flip(-1)) / 2)
    assert task(batch, GENERATOR)[1]["attention"].item() < 1e-9


@pytest.mark.parametrize(("num_classes", "size"), [(2, 4), (11, 4), (3, 7), (11, 12)])
def test_any_number_of_classes_and_any_map(num_classes, size):
    counts = checked_counts(list(range(1, num_classes + 1)))
    task = make_task(num_classes, counts=counts, epsilon=0.1, strength=1.0)
    loss, terms = task(make_batch(size=size, num_classes=num_classes), GENERATOR)
    if size == 4:
        assert task.model.encode(make_batch(size=4)["images"])[1].shape[2:] == (1, 1)
    loss.backward()
    assert loss.isfinite() and terms["attention"] > 0
    assert all(p.grad.isfinite().all() for p in task.parameters())


def test_nothing_switched_on_is_cross_entropy_on_one_pass_without_the_mirror():
    task, batch, rows = make_task(), make_batch(), []
    task.model.net.conv1.register_forward_hook(lambda _m, inputs, _o: rows.append(len(inputs[0])))
    loss, terms = task(batch, GENERATOR)
    assert set(terms) == {"ce"} and rows == [6]
    mined = make_task(strength=1.0, dropout=0.5, r_drop_weight=1.0)
    mined.model.net.conv1.register_forward_hook(lambda _m, inputs, _o: rows.append(len(inputs[0])))
    mined(batch, GENERATOR)
    assert rows == [6, 12]  # image, mirror and both draws of R-Drop in one call
    assert loss.item() == pytest.approx(F.cross_entropy(make_task().model(batch["images"]), batch["label"]).item())


def test_r_drop_and_mixed_targets_lie_on_top():
    task, batch = make_task(dropout=0.4, epsilon=0.2, r_drop_weight=0.7), make_batch()
    mixed = 0.6 * F.one_hot(batch["label"], 4).float() + 0.4 * F.one_hot(batch["label"].flip(0), 4).float()
    pooled, _ = make_task().model.encode(batch["images"])
    torch.manual_seed(5)
    loss, terms = task({**batch, "target": mixed}, GENERATOR)
    torch.manual_seed(5)
    one, two = (F.dropout(pooled, 0.4) @ task.model.net.fc.weight.T + task.model.net.fc.bias for _ in range(2))
    weight = [1 / n for n in COUNTS.tolist()]
    rows = torch.tensor([loops.smooth_label(y, weight, 0.2) for y in range(4)])
    ce = sum(-((mixed @ rows) * z.log_softmax(1)).sum(1).mean() for z in (one, two))
    p, q = one.softmax(1), two.softmax(1)
    kl = (0.5 * ((p * (p / q).log()).sum(1) + (q * (q / p).log()).sum(1))).mean()
    assert terms["ce"].item() == pytest.approx(ce.item(), rel=1e-5)
    assert terms["r_drop"].item() == pytest.approx(0.7 * kl.item(), rel=1e-4)
    assert loss.item() == pytest.approx((ce + 0.7 * kl).item(), rel=1e-5)


def test_invalid_images_weigh_nothing():
    task, batch = make_task(epsilon=0.1, strength=1.0).eval(), make_batch()
    part = {name: value[::2] for name, value in batch.items()}
    batch["valid"] = torch.tensor([True, False] * 3)
    assert task(batch, GENERATOR)[0].item() == pytest.approx(task(part, GENERATOR)[0].item(), rel=1e-6)


def test_with_the_head_alone_in_training_the_network_below_stays_as_it_is():
    task, batch = make_task(head_only=True).train(), make_batch()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    task(batch, GENERATOR)
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())


def test_settings_that_mean_nothing_are_refused():
    for options, message in (
        ({"loss": "hinge"}, "unknown loss 'hinge'; choose one of ce,"),
        ({"strength": -1.0}, "must not be negative: strength=-1.0"),
        ({"epsilon": 2.0}, r"expected epsilon in \[0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            make_task(**options)
    with pytest.raises(ValueError, match="identical"):
        make_task(r_drop_weight=1.0)(make_batch(), GENERATOR)


def test_a_batch_of_which_nothing_is_valid_has_no_loss_and_no_gradient():
    task, batch = make_task(dropout=0.3, r_drop_weight=0.5, strength=1.0, epsilon=0.1), make_batch()
    loss, terms = task({**batch, "valid": torch.zeros(6, dtype=torch.bool)}, GENERATOR)
    loss.backward()
    assert loss.item() == 0 and all(value.item() == 0 for value in terms.values())
    assert all(p.grad is not None and not p.grad.any() for p in task.parameters())


def test_the_margins_of_ldam_have_the_scale_of_the_head_in_both_passes_of_r_drop():
    """Without dropout both passes are equal, so that together they are twice the one."""
    terms = []
    for weight in (0.0, 1.0):
        model = make_model(cosine=7.0)
        task = ExpressionTask(model, COUNTS, loss="ldam", r_drop_weight=weight).eval()
        assert task.model.scale == 7.0
        terms.append(task(make_batch(), GENERATOR)[1]["ce"])
    torch.testing.assert_close(terms[1], 2 * terms[0])


def test_all_of_the_network_is_trained_unless_told_otherwise():
    assert ExpressionTask(make_model(), COUNTS).train().model.training
    assert not ExpressionTask(make_model(), COUNTS, head_only=True).train().model.training

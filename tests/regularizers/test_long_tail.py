"""Every long-tailed loss against loops from its formula, and the identities between them."""

import pytest
import torch
import torch.nn.functional as F
from oracles.long_tail_reference import loss as loop

from mote.regularizers import long_tail
from mote.regularizers.long_tail import (
    adjust_logits,
    checked_counts,
    effective_number_weights,
    inverse_weights,
    log_prior,
    tau_normalized,
)


def mean_of(loss):
    return lambda *arguments, **settings: loss(*arguments, **settings).mean()


LOSSES = {name: mean_of(loss) for name, loss in long_tail.LOSSES.items()}
cross_entropy, label_smoothing, weighted_cross_entropy, focal = (
    LOSSES[name] for name in ("ce", "label_smoothing", "weighted_ce", "focal")
)
class_balanced, ldam, logit_adjustment, balanced_softmax = (
    LOSSES[name] for name in ("class_balanced", "ldam", "logit_adjustment", "balanced_softmax")
)
COUNTS = checked_counts([500, 3, 60, 12])


def draw(rows: int = 9):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, 4, generator=generator, dtype=torch.float64)
    return logits, torch.arange(rows) % 4


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_is_that_of_the_loop(name):
    logits, target = draw()
    expected = loop(name, logits.tolist(), target.tolist(), COUNTS.tolist())
    assert LOSSES[name](logits, target, COUNTS).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_keeps_the_type_and_has_a_finite_gradient_at_extremes(name):
    logits = torch.tensor([[80.0, -80.0, 0.0, 0.0], [0.0, 0.0, 0.0, 90.0]], requires_grad=True)
    value = LOSSES[name](logits, torch.tensor([0, 3]), COUNTS)
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite() and logits.grad.isfinite().all()


def test_identities():
    logits, target = draw()
    ce = cross_entropy(logits, target, COUNTS)
    equal = torch.full((4,), 17)
    torch.testing.assert_close(
        balanced_softmax(logits, target, COUNTS), logit_adjustment(logits, target, COUNTS, tau=1.0)
    )
    for same in (
        focal(logits, target, COUNTS, gamma=0.0),
        logit_adjustment(logits, target, COUNTS, tau=0.0),
        class_balanced(logits, target, COUNTS, beta=0.0),
        label_smoothing(logits, target, COUNTS, epsilon=0.0),
        ldam(logits, target, COUNTS, max_margin=0.0),
        weighted_cross_entropy(logits, target, equal),
        class_balanced(logits, target, equal),
        balanced_softmax(logits, target, equal),
    ):
        torch.testing.assert_close(same, ce)


def test_other_libraries_agree_where_they_have_it():
    logits, target = draw()
    weight = inverse_weights(COUNTS)
    summed = F.cross_entropy(logits, target, weight=weight, reduction="sum")
    torch.testing.assert_close(weighted_cross_entropy(logits, target, COUNTS), summed / len(target))
    theirs = F.cross_entropy(logits, target, label_smoothing=0.2)  # eps / K of it on the target
    torch.testing.assert_close(label_smoothing(logits, target, COUNTS, epsilon=0.2 * 3 / 4), theirs)


def test_a_batch_in_parts_gives_the_mean_of_the_parts():
    logits, target = draw(8)
    for name, loss in LOSSES.items():
        parts = torch.stack([loss(logits[i : i + 4], target[i : i + 4], COUNTS) for i in (0, 4)])
        torch.testing.assert_close(loss(logits, target, COUNTS), parts.mean(), msg=name)


@pytest.mark.parametrize("name", LOSSES)
def test_a_soft_target_costs_the_mean_of_its_labels(name):
    logits, target = draw()
    loss, other = long_tail.LOSSES[name], (target + 1) % 4
    hard = [loss(logits, label, COUNTS) for label in (target, other)]
    soft = 0.3 * F.one_hot(target, 4).double() + 0.7 * F.one_hot(other, 4).double()
    torch.testing.assert_close(loss(logits, F.one_hot(target, 4).double(), COUNTS), hard[0])
    torch.testing.assert_close(loss(logits, soft, COUNTS), 0.3 * hard[0] + 0.7 * hard[1])


def test_weights():
    p = COUNTS / COUNTS.sum()
    assert (inverse_weights(COUNTS) * p).sum().item() == pytest.approx(1)
    assert effective_number_weights(COUNTS, 0.99).mean().item() == pytest.approx(1)
    nearly_one = effective_number_weights(COUNTS, 1 - 1e-9)  # towards 1 / n
    torch.testing.assert_close(nearly_one * COUNTS, (nearly_one * COUNTS).mean().expand(4), rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match=r"expected beta in \[0, 1\), got 1"):
        effective_number_weights(COUNTS, 1.0)


def test_ldam_takes_class_weights_and_scales_only_the_margin():
    logits, target = draw()
    weight = effective_number_weights(COUNTS)
    alone = [ldam(logits[i : i + 1], target[i : i + 1], COUNTS) * weight[target[i]] for i in range(len(target))]
    torch.testing.assert_close(ldam(logits, target, COUNTS, weight=weight), torch.stack(alone).mean())
    rare = torch.tensor([[2.0, 2.0, 2.0, 2.0]])
    moved = torch.tensor([[2.0, 2.0 - 10 * 0.5, 2.0, 2.0]])  # class 1 is the rarest: the whole margin, times s = 10
    label = torch.tensor([1])
    torch.testing.assert_close(ldam(rare, label, COUNTS, scale=10.0), F.cross_entropy(moved, label))


def test_post_hoc_adjustment_turns_the_posterior_into_that_of_equal_priors():
    likelihood = torch.tensor([[0.2, 0.1, 0.4, 0.3], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)
    posterior = (likelihood.log() + log_prior(COUNTS)).log_softmax(dim=1)
    torch.testing.assert_close(adjust_logits(posterior, COUNTS).softmax(dim=1), likelihood)
    assert torch.equal(adjust_logits(posterior, COUNTS, tau=0.0), posterior)


def test_tau_normalisation():
    weight = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    torch.testing.assert_close(tau_normalized(weight, 1.0), torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    torch.testing.assert_close(tau_normalized(weight, 0.5), weight / torch.tensor([[5.0**0.5], [2.0**0.5]]))
    assert torch.equal(tau_normalized(weight, 0.0), weight)
    with pytest.raises(ValueError, match="weights of class 1 are all zero"):
        tau_normalized(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))


def test_counts_are_checked():
    with pytest.raises(ValueError, match="no training sample of class fear, anger; leave these classes out"):
        checked_counts([3, 0, 0], ["joy", "fear", "anger"])
    with pytest.raises(ValueError, match="no training sample of class 1"):
        checked_counts([3, 0])
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        checked_counts([3])
    assert checked_counts([1, 2]).tolist() == [1, 2]


def test_the_defaults_are_those_of_the_papers():
    logits, target = draw()
    for name, settings in (
        ("class_balanced", {"beta": 0.9999}),
        ("focal", {"gamma": 2.0}),
        ("label_smoothing", {"epsilon": 0.1}),
        ("logit_adjustment", {"tau": 1.0}),
        ("ldam", {"max_margin": 0.5, "scale": 30.0}),
    ):
        torch.testing.assert_close(
            LOSSES[name](logits, target, COUNTS), LOSSES[name](logits, target, COUNTS, **settings)
        )
    assert torch.equal(effective_number_weights(COUNTS), effective_number_weights(COUNTS, 0.9999))
    posterior = logits.log_softmax(1)
    assert torch.equal(adjust_logits(posterior, COUNTS), adjust_logits(posterior, COUNTS, tau=1.0))
    assert torch.equal(tau_normalized(logits), tau_normalized(logits, 1.0))


def test_ldam_of_certain_targets_is_that_of_labels_with_class_weights_too():
    logits, target = draw()
    weight = effective_number_weights(COUNTS)
    certain = F.one_hot(target, 4).double()
    torch.testing.assert_close(
        ldam(logits, certain, COUNTS, weight=weight), ldam(logits, target, COUNTS, weight=weight)
    )

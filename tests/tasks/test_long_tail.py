"""What the losses for classes of unequal size hold, and how their parts combine."""

import pytest
import torch
from oracles import long_tail_reference as loops
from torch.nn import functional as F

from mote.regularizers.long_tail import LOSSES, checked_counts, effective_number_weights
from mote.tasks.long_tail import Deferral, LongTailLoss

COUNTS = checked_counts([40, 5, 12, 3])
LOGITS = 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6) % 4


def test_its_state_is_the_switch_alone_and_all_its_numbers_are_single_precision():
    for loss in LOSSES:
        built = LongTailLoss(COUNTS, loss=loss, epsilon=0.1, strength=1.0)
        assert set(built.state_dict()) == {"deferred"} and not list(built.parameters())
        assert {b.dtype for b in built.buffers() if b.is_floating_point()} == {torch.float32}


def test_ldam_without_beta_defers_to_weights_that_are_all_one():
    """Beta 0 is no re-weighting: before and after the switch the loss is the margins' alone."""
    built = LongTailLoss(COUNTS, loss="ldam")
    expected = LOSSES["ldam"](LOGITS, LABELS, COUNTS, scale=7.0)
    assert torch.equal(built.late_weight, torch.ones(4))
    for fraction in (0.0, 0.9):
        Deferral(built, 0.5)(None, fraction)
        assert bool(built.deferred) == (fraction > 0.5)
        torch.testing.assert_close(built(LOGITS, LABELS, 7.0), expected)
    weighted = LongTailLoss(COUNTS, loss="ldam", options={"beta": 0.9, "max_margin": 0.3})
    alone = LOSSES["ldam"](LOGITS, LABELS, COUNTS, scale=7.0, max_margin=0.3)
    torch.testing.assert_close(weighted(LOGITS, LABELS, 7.0), alone)
    Deferral(weighted, 0.5)(None, 0.5)  # from the share on, itself included
    late = effective_number_weights(COUNTS, 0.9)[LABELS].float()
    torch.testing.assert_close(weighted(LOGITS, LABELS, 7.0), late * alone)


def test_the_weights_of_other_losses_do_not_wait():
    built = LongTailLoss(COUNTS, loss="class_balanced", options={"beta": 0.9})
    before = built(LOGITS, LABELS)
    Deferral(built, 0.0)(None, 0.0)
    assert torch.equal(built(LOGITS, LABELS), before)
    torch.testing.assert_close(before, LOSSES["class_balanced"](LOGITS, LABELS, COUNTS, beta=0.9))


@pytest.mark.parametrize("rebalanced", [True, False])
def test_smooth_labels_are_rebalanced_whatever_the_consistency_is(rebalanced):
    """`rebalanced` is of the consistency; the smooth labels of MEK weigh by 1 / n_c with it and without."""
    built = LongTailLoss(COUNTS, epsilon=0.3, rebalanced=rebalanced)
    weight = [1 / n for n in COUNTS.tolist()]
    rows = torch.tensor([loops.smooth_label(y, weight, 0.3) for y in range(4)])
    torch.testing.assert_close(built.smooth, rows)
    expected = -(rows[LABELS] * LOGITS.log_softmax(1)).sum(1)
    torch.testing.assert_close(built(LOGITS, LABELS), expected)
    share = built.weight / built.weight.sum()
    if rebalanced:
        torch.testing.assert_close(share, torch.tensor(weight) / sum(weight))
    else:
        assert torch.equal(share, torch.full((4,), 0.25))


def test_without_smoothing_targets_stay_as_they_are():
    built = LongTailLoss(COUNTS)
    assert torch.equal(built(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS, reduction="none"))
    soft = torch.full((6, 4), 0.25)
    torch.testing.assert_close(built(LOGITS, soft), F.cross_entropy(LOGITS, soft, reduction="none"))


def test_the_consistency_is_its_loop_sample_by_sample_and_strength_scales_it():
    g = torch.Generator().manual_seed(1)
    maps, directions = torch.randn(4, 5, 3, 3, generator=g), torch.randn(4, 5, generator=g)  # two samples and mirrors
    built = LongTailLoss(COUNTS, strength=2.0)
    found = built.consistency(maps, directions)
    cams = torch.einsum("kd,bdhw->bkhw", directions, maps)
    share = (1 / COUNTS) / (1 / COUNTS).sum()
    for b in range(2):
        squared = (cams[b] - cams[b + 2].flip(-1)).square().mean((1, 2))
        assert found[b].item() == pytest.approx(2.0 * (squared * share).sum().item(), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(built.consistency(maps, directions), found)


def test_mistakes_are_named():
    for options, message in (
        ({"loss": "hinge"}, "unknown loss 'hinge'; choose one of ce,"),
        ({"strength": -0.1}, "must not be negative: strength=-0.1"),
        ({"epsilon": -0.1}, r"expected epsilon in \[0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            LongTailLoss(COUNTS, **options)


def test_logits_are_cosines_times_one_unless_told_otherwise():
    built = LongTailLoss(COUNTS, loss="ldam")
    torch.testing.assert_close(built(LOGITS, LABELS), LOSSES["ldam"](LOGITS, LABELS, COUNTS, scale=1.0))

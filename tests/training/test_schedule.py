import math
from dataclasses import fields
from functools import partial
from itertools import pairwise

import pytest
import torch

from mote.config.sections import OptimConfig
from mote.training.schedule import Schedule, half_cosine, learning_rate


def test_warm_up_is_linear_and_starts_above_zero():
    rates = [learning_rate(step, total_steps=100, warmup_steps=10, base=2.0, share=float) for step in range(10)]
    assert rates == pytest.approx([0.2 * (step + 1) for step in range(10)])


def test_cosine_half_ends_at_zero_and_its_mean_is_half_the_base():
    share = partial(half_cosine, start=0, stop=1000)
    rates = [learning_rate(step, total_steps=1000, warmup_steps=0, base=3.0, share=share) for step in range(1001)]
    assert rates[0] == 3.0 and rates[500] == pytest.approx(1.5) and rates[1000] == pytest.approx(0.0, abs=1e-12)
    assert rates[250] == pytest.approx(3.0 * math.cos(math.pi / 8) ** 2)  # half-angle form of (1 + cos x) / 2
    assert sum(rates) / 1001 == pytest.approx(1.5)
    assert all(late <= early for early, late in pairwise(rates))


def test_cosine_after_warm_up_is_symmetric_about_its_middle_and_ends_at_the_ratio():
    rates = [half_cosine(step, start=10, stop=50, least=0.1) for step in range(10, 51)]
    assert rates[0] == 1.0 and rates[-1] == pytest.approx(0.1)
    assert [a + b for a, b in zip(rates, reversed(rates), strict=True)] == pytest.approx([1.1] * 41)


@pytest.mark.parametrize(("step", "warmup"), [(-1, 0), (11, 0), (0, 10), (0, -1)])
def test_values_out_of_range(step, warmup):
    with pytest.raises(ValueError):
        learning_rate(step, total_steps=10, warmup_steps=warmup, base=1.0, share=float)


def test_a_schedule_is_the_section_optim_without_what_other_rooms_read():
    settings = OptimConfig(accumulation=3, betas=(0.8, 0.9)).model_dump()
    for elsewhere in ("batch_size", "precision", "backbone_lr_scale"):
        del settings[elsewhere]
    assert {one.name for one in fields(Schedule)} - settings.keys() == {"seed"}
    assert Schedule(**settings).accumulation == 3 and Schedule(**settings).betas == (0.8, 0.9)


def test_the_rate_of_a_schedule_counts_in_epochs():
    rate = Schedule(lr=2.0, epochs=5, warmup_epochs=1.25, min_lr_ratio=0.5).rate(10)
    assert [rate(0), rate(11), rate(12), rate(50)] == pytest.approx([2 / 12, 2.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="warm-up of 50 steps"):
        Schedule(lr=1.0, epochs=5, warmup_epochs=5.0).rate(10)


@pytest.mark.parametrize("schedule", ["step", "exponential"])
def test_rates_fall_as_torchs_own_schedulers_say(schedule):
    """Called once after every epoch, as is usual."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    kinds = torch.optim.lr_scheduler
    theirs = {
        "step": lambda: kinds.MultiStepLR(optimizer, [2, 5], gamma=0.3),
        "exponential": lambda: kinds.ExponentialLR(optimizer, gamma=0.3),
    }[schedule]()
    ours = Schedule(lr=0.4, epochs=7, schedule=schedule, lr_decay=0.3, milestones=(2, 5)).rate(3)
    for epoch in range(7):
        assert [ours(3 * epoch + step) for step in range(3)] == pytest.approx([theirs.get_last_lr()[0]] * 3)
        optimizer.step()
        theirs.step()


def test_a_milestone_within_an_epoch_and_a_constant_rate_after_the_warm_up():
    half = Schedule(lr=1.0, epochs=2, schedule="step", milestones=(0.5,), warmup_epochs=0.2).rate(10)
    assert [half(step) for step in (0, 1, 2, 4, 5, 19)] == pytest.approx([0.5, 1.0, 1.0, 1.0, 0.1, 0.1])
    flat = Schedule(lr=1.0, epochs=2, schedule="constant", warmup_epochs=0.2).rate(10)
    assert [flat(step) for step in (0, 1, 2, 19)] == [0.5, 1.0, 1.0, 1.0]

import math
from dataclasses import fields
from itertools import pairwise

import pytest

from mote.config.sections import OptimConfig
from mote.training.schedule import Schedule, learning_rate


def test_warm_up_is_linear_and_starts_above_zero():
    rates = [learning_rate(step, total_steps=100, warmup_steps=10, base=2.0) for step in range(10)]
    assert rates == pytest.approx([0.2 * (step + 1) for step in range(10)])


def test_cosine_half_ends_at_zero_and_its_mean_is_half_the_base():
    rates = [learning_rate(step, total_steps=1000, warmup_steps=0, base=3.0) for step in range(1001)]
    assert rates[0] == 3.0 and rates[500] == pytest.approx(1.5) and rates[1000] == pytest.approx(0.0, abs=1e-12)
    assert rates[250] == pytest.approx(3.0 * math.cos(math.pi / 8) ** 2)  # half-angle form of (1 + cos x) / 2
    assert sum(rates) / 1001 == pytest.approx(1.5)
    assert all(late <= early for early, late in pairwise(rates))


def test_cosine_after_warm_up_is_symmetric_about_its_middle_and_ends_at_the_ratio():
    rates = [learning_rate(step, total_steps=50, warmup_steps=10, base=1.0, min_ratio=0.1) for step in range(10, 51)]
    assert rates[0] == 1.0 and rates[-1] == pytest.approx(0.1)
    assert [a + b for a, b in zip(rates, reversed(rates), strict=True)] == pytest.approx([1.1] * 41)


@pytest.mark.parametrize(("step", "warmup"), [(-1, 0), (11, 0), (0, 10), (0, -1)])
def test_values_out_of_range(step, warmup):
    with pytest.raises(ValueError):
        learning_rate(step, total_steps=10, warmup_steps=warmup, base=1.0)


def test_a_schedule_is_the_section_optim_without_what_other_rooms_read():
    settings = OptimConfig(accumulation=3, betas=(0.8, 0.9)).model_dump()
    for elsewhere in ("batch_size", "precision", "backbone_lr_scale"):
        del settings[elsewhere]
    assert {one.name for one in fields(Schedule)} - settings.keys() == {"min_lr_ratio", "seed"}
    assert Schedule(**settings).accumulation == 3 and Schedule(**settings).betas == (0.8, 0.9)


def test_the_rate_of_a_schedule_counts_in_epochs():
    rate = Schedule(lr=2.0, epochs=5, warmup_epochs=1.25, min_lr_ratio=0.5).rate(10)
    assert [rate(0), rate(11), rate(12), rate(50)] == pytest.approx([2 / 12, 2.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="warm-up of 50 steps"):
        Schedule(lr=1.0, epochs=5, warmup_epochs=5.0).rate(10)

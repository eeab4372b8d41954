"""Routing draws against the probabilities of the paper, computed by hand."""

import math

import pytest
import torch

from mote.models.routing import (
    DEFAULT_TEMPERATURES,
    draw_depth,
    expert_weights,
    merge_temperatures,
    one_expert,
    random_merge,
    same_expert,
    uniform_merge,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def by_hand(num_experts, tau):
    raised = [1.0 if math.isinf(tau) else math.exp(i / tau) for i in range(1, num_experts + 1)]
    return [x / sum(raised) for x in raised]


@pytest.mark.parametrize("tau", [1.0, 0.6, -2.4, 9.6, math.inf])
@pytest.mark.parametrize("experts", [1, 4, 6])
def test_expert_weights_are_the_softmax_of_the_index(experts, tau):
    assert expert_weights(experts, tau).tolist() == pytest.approx(by_hand(experts, tau), abs=1e-6)


def test_the_default_temperatures_are_those_of_the_paper():
    assert set(DEFAULT_TEMPERATURES) == {sign * t for t in (0.6, 1.2, 2.4, 4.8, 9.6) for sign in (1, -1)} | {math.inf}
    assert merge_temperatures(1.0, 2) == (-2.0, -1.0, 1.0, 2.0, math.inf)


def test_one_expert_follows_the_multinomial_and_layers_are_independent():
    draws = torch.stack([one_expert(2, 4, generator) for generator in [seeded()] for _ in range(4000)])  # (N, L, E)
    assert set(draws.flatten().tolist()) == {0.0, 1.0}
    assert (draws.sum(dim=-1) == 1).all()
    expected = torch.tensor([0.0321, 0.0871, 0.2369, 0.6439])
    torch.testing.assert_close(draws.mean(dim=0), expected.expand(2, 4), atol=0.025, rtol=0)
    joint = torch.einsum("ni,nj->ij", draws[:, 0], draws[:, 1]) / len(draws)
    torch.testing.assert_close(joint, expected.outer(expected), atol=0.025, rtol=0)


def test_random_merge_draws_every_temperature_for_every_layer():
    generator = seeded(1)
    rows = torch.stack([random_merge(3, 4, generator) for _ in range(300)])  # (N, L, E)
    table = torch.tensor([by_hand(4, tau) for tau in DEFAULT_TEMPERATURES])
    distance = (rows[:, :, None] - table).abs().amax(dim=-1)  # (N, L, 11)
    assert (distance.amin(dim=-1) < 1e-6).all()
    drawn = distance.argmin(dim=-1)
    assert all(set(drawn[:, layer].tolist()) == set(range(11)) for layer in range(3))
    assert (drawn[:, 0] != drawn[:, 1]).any()


def test_uniform_merge_is_the_mean():
    assert uniform_merge(2, 5).tolist() == [[pytest.approx(0.2)] * 5] * 2


def test_draws_repeat_with_the_generator_and_leave_the_global_one_alone():
    before = torch.random.get_rng_state()
    assert torch.equal(one_expert(9, 4, seeded(3)), one_expert(9, 4, seeded(3)))
    assert torch.equal(random_merge(9, 4, seeded(3)), random_merge(9, 4, seeded(3)))
    uniform_merge(9, 4)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_high_temperature_is_uniform_routing():
    draws = one_expert(4000, 4, seeded(), temperature=math.inf)
    torch.testing.assert_close(draws.mean(dim=0), torch.full((4,), 0.25), atol=0.03, rtol=0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: expert_weights(0, 1.0),
        lambda: expert_weights(4, 0.0),
        lambda: expert_weights(4, math.nan),
        lambda: random_merge(1, 4, seeded(), ()),
        lambda: merge_temperatures(0.0),
        lambda: merge_temperatures(0.6, -1),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ValueError, match="got"):
        call()


def test_a_low_temperature_is_fixed_routing():
    assert one_expert(1000, 4, seeded(), temperature=1e-3).argmax(dim=1).unique().tolist() == [3]


def test_a_number_chooses_the_same_expert_of_every_layer():
    for index in range(4):
        rows = same_expert(3, 4, index)
        assert rows.shape == (3, 4) and rows.dtype == torch.float32
        assert rows.argmax(dim=1).tolist() == [index] * 3 and rows.sum().item() == 3


def test_the_smallest_arguments_are_taken_and_the_default_is_temperature_one():
    assert merge_temperatures(1e-9, 0) == (math.inf,) and expert_weights(1, -3.0).tolist() == [1.0]
    assert random_merge(2, 3, seeded(), (math.inf,)).tolist() == [[pytest.approx(1 / 3)] * 3] * 2
    assert one_expert(1, 1, seeded()).tolist() == uniform_merge(1, 1).tolist() == [[1.0]]
    assert torch.equal(one_expert(50, 4, seeded()), one_expert(50, 4, seeded(), temperature=1.0))
    assert not torch.equal(one_expert(50, 4, seeded()), one_expert(50, 4, seeded(), temperature=0.5))


def test_parts_of_layers_are_left_out_at_the_rate_and_the_rest_makes_up_for_them():
    assert torch.equal(draw_depth(3, 0.0, seeded()), torch.ones(3, 2))
    drawn = torch.stack([draw_depth(2, 0.3, generator) for generator in [seeded()] for _ in range(20_000)])
    assert sorted(drawn.unique().tolist()) == pytest.approx([0, 1 / 0.7])
    assert drawn.mean(0).flatten().tolist() == pytest.approx([1] * 4, abs=4 * (0.3 / 0.7 / 20_000) ** 0.5)
    left_out = (drawn == 0).double().flatten(1)
    together = (left_out.T @ left_out / 20_000).fill_diagonal_(0.09)  # parts are independent of one another
    assert together.flatten().tolist() == pytest.approx([0.09] * 16, abs=0.01)
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="at least 0 and below 1"):
            draw_depth(2, rate, seeded())

"""Stacked experts against separate linear layers merged by a loop."""

import pytest
import torch

from mote.models.experts import ExpertFFN, merge


def by_loop(ffn, x, row):
    """The merged network written out: one weighted sum per tensor, then two products."""
    total = {name: 0 for name, _ in ffn.named_parameters()}
    for e, share in enumerate(row.tolist()):
        for name, parameter in ffn.named_parameters():
            total[name] = total[name] + share * parameter[e]
    hidden = x @ total["up_weight"].T + total["up_bias"]
    return (hidden / (1 + torch.exp(-1.702 * hidden))) @ total["down_weight"].T + total["down_bias"]


def make(experts=3, **options):
    torch.manual_seed(0)
    ffn = ExpertFFN(6, 10, experts, **options)
    with torch.no_grad():
        for parameter in ffn.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return ffn


@pytest.mark.parametrize("row", [[0.2, 0.3, 0.5], [0.0, 1.0, 0.0], [1 / 3] * 3])
def test_forward_equals_the_loop(row):
    ffn, x = make(), torch.randn(2, 4, 6)
    row = torch.tensor(row)
    torch.testing.assert_close(ffn(x, row), by_loop(ffn, x, row), atol=1e-6, rtol=1e-5)


def test_gradients_equal_those_of_the_loop():
    ffn, x, row = make().double(), torch.randn(1, 5, 6).double(), torch.tensor([0.2, 0.3, 0.5]).double()
    ours = torch.autograd.grad(ffn(x, row).square().sum(), list(ffn.parameters()))
    loop = torch.autograd.grad(by_loop(ffn, x, row).square().sum(), list(ffn.parameters()))
    for a, b in zip(ours, loop, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("shape", [(2, 4, 6), (3, 2, 4, 6)])
def test_several_rows_at_once_equal_one_call_each(shape):
    ffn, x, rows = make().double(), torch.randn(shape).double(), torch.rand(3, 3).double()
    each = torch.stack([ffn(x[r] if len(shape) == 4 else x, row) for r, row in enumerate(rows)])
    torch.testing.assert_close(ffn(x, rows), each)
    parameters = list(ffn.parameters())
    together = torch.autograd.grad(ffn(x, rows).square().sum(), parameters)
    for a, b in zip(together, torch.autograd.grad(each.square().sum(), parameters), strict=True):
        torch.testing.assert_close(a, b)


def test_experts_that_were_not_drawn_get_zero_gradients():
    ffn = make()
    ffn(torch.randn(1, 4, 6), torch.tensor([0.0, 1.0, 0.0])).sum().backward()
    for parameter in ffn.parameters():
        assert parameter.grad is not None
        assert (parameter.grad[[0, 2]] == 0).all()
        assert (parameter.grad[1] != 0).any()


def test_one_expert_is_merged_without_a_copy():
    ffn = make(1)
    assert merge(ffn.up_weight, torch.ones(1)).data_ptr() == ffn.up_weight.data_ptr()
    x = torch.randn(1, 4, 6)
    torch.testing.assert_close(ffn(x, torch.ones(1)), by_loop(ffn, x, torch.ones(1)))
    torch.testing.assert_close(ffn(x, torch.ones(2, 1)), by_loop(ffn, x, torch.ones(1)).expand(2, 1, 4, 6))


def test_fold_keeps_the_outputs_and_owns_its_parameters():
    ffn, x, row = make(), torch.randn(2, 4, 6), torch.tensor([0.2, 0.3, 0.5])
    state = torch.random.get_rng_state()
    folded = ffn.fold(row)
    assert torch.equal(state, torch.random.get_rng_state())
    expected = ffn(x, row)
    torch.testing.assert_close(folded(x, torch.ones(1)), expected, atol=1e-6, rtol=0)
    assert folded.num_experts == 1 and ffn.num_experts == 3
    with torch.no_grad():
        folded.up_weight.zero_()
    assert torch.equal(ffn(x, row), expected)


def test_fold_of_one_expert_owns_its_parameters():
    ffn = make(1)
    assert ffn.fold(torch.ones(1)).up_weight.data_ptr() != ffn.up_weight.data_ptr()


def test_experts_start_different_with_the_standard_deviation_of_the_paper():
    torch.manual_seed(0)
    ffn = ExpertFFN(64, 256, 4)
    for weight in (ffn.up_weight, ffn.down_weight):
        torch.testing.assert_close(weight.flatten(1).std(dim=1), torch.full((4,), 0.02), atol=5e-4, rtol=0)
        assert not torch.equal(weight[0], weight[1])
    assert (ffn.up_bias == 0).all() and (ffn.down_bias == 0).all()


def test_same_init_starts_all_experts_from_one_draw():
    ffn = ExpertFFN(8, 16, 4, same_init=True)
    for weight in (ffn.up_weight, ffn.down_weight):
        assert torch.equal(weight, weight[:1].expand_as(weight))
        assert (weight[0] != 0).all()


def test_merging_keeps_full_precision_under_autocast():
    ffn, row = make(), torch.tensor([0.2, 0.3, 0.5])
    expected = merge(ffn.up_weight, row)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(merge(ffn.up_weight, row), expected)
        assert ffn(torch.randn(1, 4, 6), row).dtype == torch.bfloat16


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="routing has 2 experts, the layer has 3"):
        make()(torch.randn(1, 4, 6), torch.tensor([0.5, 0.5]))
    with pytest.raises(ValueError, match="at least 1"):
        ExpertFFN(4, 8, 0)


# What an expert is: each half against the same loop, with a stack of one where it is not routed.


def by_loop_of_parts(ffn, x, up, down):
    """The merged network written out with a row for each layer; a layer that exists once has the row [1]."""
    total = {}
    for name, parameter in ffn.named_parameters():
        row = (up if name.startswith("up") else down) if len(parameter) > 1 else [1.0]
        total[name] = sum(share * parameter[e] for e, share in enumerate(row))
    hidden = x @ total["up_weight"].T + total["up_bias"]
    return (hidden / (1 + torch.exp(-1.702 * hidden))) @ total["down_weight"].T + total["down_bias"]


ROWS = {"up": [0.2, 0.3, 0.5], "down": [0.2, 0.3, 0.5], "separate": [0.2, 0.3, 0.5, 0.7, 0.1, 0.2]}


@pytest.mark.parametrize("part", ROWS)
def test_parts_are_routed_as_they_are_named_and_fold_to_the_same(part):
    ffn, x, row = make(part=part).double(), torch.randn(2, 4, 6).double(), torch.tensor(ROWS[part]).double()
    expected = by_loop_of_parts(ffn, x, ROWS[part][:3], ROWS[part][-3:])
    torch.testing.assert_close(ffn(x, row), expected)
    torch.testing.assert_close(ffn(x, torch.stack([row, row]))[1], expected)
    folded = ffn.fold(row)
    torch.testing.assert_close(folded(x, torch.ones(1).double()), expected)
    assert folded.num_experts == 1 and folded.part == "ffn" and ffn.num_experts == 3 and ffn.part == part
    sizes = {name: len(parameter) for name, parameter in ffn.named_parameters()}
    assert (sizes["up_weight"], sizes["down_weight"]) == {"up": (3, 1), "down": (1, 3), "separate": (3, 3)}[part]


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match=r"unknown part 'middle'.*ffn, up, down, separate"):
        ExpertFFN(4, 8, 2, part="middle")


@pytest.mark.parametrize("frozen", [("up_weight", "up_bias"), ("down_weight",), ()])
@pytest.mark.parametrize("experts", [1, 3])
def test_what_was_frozen_stays_frozen_when_folded(frozen, experts):
    ffn = make(experts)
    for name in frozen:
        getattr(ffn, name).requires_grad_(False)
    folded = ffn.fold(torch.full((experts,), 1 / experts))
    for name, parameter in folded.named_parameters():
        assert isinstance(parameter, torch.nn.Parameter) and parameter.is_leaf
        assert parameter.requires_grad == (name not in frozen), name
        assert getattr(ffn, name).requires_grad == (name not in frozen)
    folded(torch.randn(1, 4, 6), torch.ones(1)).sum().backward()
    assert {name for name, p in folded.named_parameters() if p.grad is None} == set(frozen)
    assert all(p.grad is None for p in ffn.parameters())


def test_folding_keeps_the_mode_and_the_type():
    ffn = make().eval().to(torch.float64)
    folded = ffn.fold(torch.tensor([0.2, 0.3, 0.5]))
    assert not folded.training and all(p.dtype == torch.float64 for p in folded.parameters())

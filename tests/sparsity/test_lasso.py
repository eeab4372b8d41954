"""The penalty against a loop, the proximal step against closed forms, and exact zeros under AdamW."""

import math

import pytest
import torch
from torch import nn

from mote.models.sites import Slice, rows
from mote.models.temporal import TemporalHead
from mote.sparsity.groups import Groups, find_groups
from mote.sparsity.lasso import GroupLasso, penalty


def head(**sizes):
    torch.manual_seed(0)
    return TemporalHead(**{"width": 8, "num_layers": 2, "num_heads": 2, "num_experts": 3, "max_frames": 4, **sizes})


def matrix_groups(count, size, name="weight"):
    return Groups("units", "toy", (Slice(name, 1, rows(count, size)),), (), size)


def test_the_penalty_equals_a_loop_over_units_and_heads():
    model = head().requires_grad_(False)
    expected = 0.0
    for block in model.layers():
        mlp, attention = block.mlp, block.attn
        for j in range(32):
            numbers = [float(x) for e in range(3) for x in (*mlp.up_weight[e, j], *mlp.down_weight[e, :, j])]
            assert len(numbers) == 3 * 16
            expected += math.sqrt(len(numbers)) * math.sqrt(sum(x * x for x in numbers))
        for h in range(2):
            v = attention.in_proj_weight[16 + 4 * h : 20 + 4 * h]
            o = attention.out_proj.weight[:, 4 * h : 4 * h + 4]
            numbers = [float(x) for x in (*v.flatten(), *o.flatten())]
            expected += math.sqrt(len(numbers)) * math.sqrt(sum(x * x for x in numbers))
    groups = find_groups(model, ("units", "heads"))
    value = penalty(dict(model.named_parameters()), groups, 0.3)
    assert value.item() == pytest.approx(0.3 * expected, rel=1e-5)


def test_a_step_from_rest_is_the_closed_form_of_the_proximal_operator():
    # argmin_w 1/2 ||w - z||^2 + t sqrt(n) ||w||  =  z max(0, 1 - t sqrt(n) / ||z||)
    module = nn.Linear(6, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[3.0, 4.0, 0.3, 0.4, 0.0, 0.0]]))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    GroupLasso(module, [matrix_groups(3, 2)], strength=2.0, ramp=0.0)(optimizer, 0.0)
    kept = 1 - 0.5 * 2.0 * math.sqrt(2) / 5
    expected = torch.tensor([[3 * kept, 4 * kept, 0, 0, 0, 0]])
    torch.testing.assert_close(module.weight.data, expected)
    w, z, t = module.weight.data[0, :2], torch.tensor([3.0, 4.0]), math.sqrt(2)
    torch.testing.assert_close(w - z + t * w / w.norm(), torch.zeros(2), atol=1e-6, rtol=0)  # optimality


def test_many_steps_are_dual_averaging():
    # A linear loss has a constant gradient g: w = prox(w0 - sum(lr) g) with the threshold summed up as well.
    module = nn.Linear(20, 1, bias=False)
    start, gradient = module.weight.data.clone(), torch.randn(1, 20)
    lasso = GroupLasso(module, [matrix_groups(5, 4)], strength=0.7, ramp=0.0, stop=1.0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    total = 0.0
    for step in range(10):
        optimizer.param_groups[0]["lr"] = 0.01 * (step + 1)
        total += 0.01 * (step + 1)
        module.weight.grad = gradient.clone()
        optimizer.step()
        lasso(optimizer, step / 10)
    latent = (start - total * gradient).view(5, 4)
    expected = latent * (1 - total * 0.7 * 2 / latent.norm(dim=1, keepdim=True)).clamp(min=0)
    torch.testing.assert_close(module.weight.data, expected.view(1, 20), atol=1e-6, rtol=1e-5)
    assert 0 < (expected.norm(dim=1) == 0).sum() < 5


def test_nested_groups_children_first_solve_the_joint_problem():
    torch.manual_seed(1)
    module = nn.Linear(12, 1, bias=False)
    with torch.no_grad():
        module.weight.mul_(5)
    z = module.weight.data.clone()
    children, parent = matrix_groups(4, 3), Groups("sublayers", "all", (Slice("weight", 1, rows(1, 12)),), (), 12)
    lasso = GroupLasso(module, [children, parent], strength=0.1, ramp=0.0)
    lasso(torch.optim.SGD(module.parameters(), lr=1.0), 0.0)
    w = torch.zeros(12, requires_grad=True)

    def objective(w):
        groups = (
            0.1 * math.sqrt(3) * sum(w[3 * i : 3 * i + 3].norm() for i in range(4)) + 0.1 * math.sqrt(12) * w.norm()
        )
        return 0.5 * (w - z[0]).square().sum() + groups

    with torch.no_grad():
        w += z[0]
    descent = torch.optim.LBFGS([w], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe")
    descent.step(lambda: (descent.zero_grad(), loss := objective(w), loss.backward())[1])
    assert objective(module.weight.data[0]) <= objective(w.detach()) + 1e-6


@pytest.mark.parametrize("strength", [0.05, 0.1])
def test_adamw_reaches_exact_zeros_on_the_toy(strength):
    # 20 groups of 50, 5 of them active, linear regression on noisy minibatches.
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(1000)
    truth[:250] = torch.randn(250, generator=generator)
    module = nn.Linear(1000, 1, bias=False)
    nn.init.normal_(module.weight, std=0.02, generator=generator)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, weight_decay=1e-2)
    lasso = GroupLasso(module, [matrix_groups(20, 50)], strength=strength, stop=1.0)
    steps = 400
    for step in range(steps):
        x = torch.randn(64, 1000, generator=generator)
        y = x @ truth + torch.randn(64, generator=generator)
        optimizer.zero_grad()
        (module(x)[:, 0] - y).square().mean().backward()
        optimizer.step()
        shares = lasso(optimizer, step / steps)
    norms = module.weight.data.view(20, 50).norm(dim=1)
    assert (norms[5:] == 0).all() and (norms[:5] > 0).all()
    assert shares == {"groups_alive": 0.25}


def test_after_stop_the_dead_stay_dead_and_the_living_are_free():
    module = nn.Linear(6, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[3.0, 4.0, 0.3, 0.4, 0.0, 0.0]]))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    lasso = GroupLasso(module, [matrix_groups(3, 2)], strength=2.0, ramp=0.0, stop=0.5)
    lasso(optimizer, 0.0)
    before = module.weight.data.clone()
    module.weight.grad = torch.ones(1, 6)
    optimizer.step()
    lasso(optimizer, 0.5)
    torch.testing.assert_close(module.weight.data, torch.where(before != 0, before - 0.5, 0))
    assert not lasso.withheld


def test_the_schedule_ramps_and_stops():
    lasso = GroupLasso(nn.Linear(4, 1), [matrix_groups(2, 2)], strength=2.0, start=0.2, ramp=0.4, stop=0.8)
    assert [lasso.strength_at(f) for f in (0.0, 0.2, 0.4, 0.6, 0.7, 0.8)] == pytest.approx([0, 0, 1, 2, 2, 0])


def test_a_resumed_state_goes_on_exactly():
    def steps(module, optimizer, lasso, first, last):
        for step in range(first, last):
            module.weight.grad = torch.randn(1, 20, generator=torch.Generator().manual_seed(step))
            optimizer.step()
            lasso(optimizer, step / 10)

    def make():
        torch.manual_seed(3)
        module = nn.Linear(20, 1, bias=False)
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.05)
        return module, optimizer, GroupLasso(module, [matrix_groups(5, 4)], strength=0.9, stop=0.7)

    module, optimizer, lasso = make()
    steps(module, optimizer, lasso, 0, 10)
    for cut in (4, 8):
        half = make()
        steps(*half, 0, cut)
        again = make()
        again[0].load_state_dict(half[0].state_dict())
        again[1].load_state_dict(half[1].state_dict())
        again[2].load_state_dict(half[2].state_dict())
        steps(*again, cut, 10)
        assert torch.equal(again[0].weight, module.weight)
    assert 0 < (module.weight == 0).sum() < 20


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="strength > 0"):
        GroupLasso(nn.Linear(4, 1), [matrix_groups(2, 2)], strength=0.0)
    lasso = GroupLasso(nn.Linear(4, 1), [matrix_groups(2, 2)], strength=1.0)
    with pytest.raises(ValueError, match="trained at one learning rate, got weight: not trained"):
        lasso(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), 0.0)
    other = GroupLasso(nn.Linear(4, 1), [matrix_groups(2, 2)] * 2, strength=1.0)
    with pytest.raises(ValueError, match="written with other groups"):
        other.load_state_dict(lasso.state_dict())
    with pytest.raises(ValueError, match="unknown kinds of groups"):
        find_groups(head(), ("neurons",))
    with pytest.raises(ValueError, match=r"this network has no filters?; it has"):
        find_groups(nn.Linear(2, 2), ("filters",))
    with pytest.raises(ValueError, match="match no layer"):
        find_groups(head(), ("units",), {"visual.*": 1.0})

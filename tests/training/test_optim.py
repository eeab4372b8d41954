import pytest
import torch
from torch import nn

from mote.training.optim import make_optimizer, parameter_groups, set_learning_rate


def network() -> nn.Module:
    net = nn.Module()
    net.visual = nn.Linear(3, 2)
    net.norm = nn.LayerNorm(2)
    net.logit_scale = nn.Parameter(torch.tensor(1.0))
    net.up_bias = nn.Parameter(torch.zeros(4, 2))
    return net


RULES = [("visual.*", {"lr_scale": 0.07}), ("logit_scale", {"lr_scale": 0.07, "weight_decay": 0.0}), ("*", {})]


def test_every_parameter_in_one_group_first_match_wins():
    net = network()
    groups = parameter_groups(net, RULES)
    assert [group["name"] for group in groups] == ["visual.*", "logit_scale", "*"]
    assert [group["lr_scale"] for group in groups] == [0.07, 0.07, 1.0]
    assert [group["weight_decay"] for group in groups] == [0.2, 0.0, 0.2]
    members = [id(p) for group in groups for p in group["params"]]
    assert sorted(members) == sorted(map(id, net.parameters())) and len(set(members)) == len(members)
    assert {id(p) for p in groups[0]["params"]} == set(map(id, net.visual.parameters()))


def test_no_decay_takes_norms_biases_scalars_and_stacked_biases():
    net = network()
    groups = parameter_groups(net, RULES, no_decay_norm_bias=True)
    decayed = [p for group in groups if group["weight_decay"] > 0 for p in group["params"]]
    assert len(decayed) == 1 and decayed[0] is net.visual.weight
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))


def test_lr_scale_zero_freezes_and_a_later_rule_unfreezes():
    net = network()
    groups = parameter_groups(net, [("visual.*", {"lr_scale": 0}), ("*", {})])
    assert not net.visual.weight.requires_grad and net.norm.weight.requires_grad
    assert all(group["name"] != "visual.*" for group in groups)
    parameter_groups(net, [("*", {})])
    assert net.visual.weight.requires_grad


def test_rates_and_decay_reach_the_update():
    """With decoupled decay and a zero gradient AdamW multiplies a weight by 1 - lr * decay."""
    net = network()
    optimizer = make_optimizer(parameter_groups(net, RULES))
    before = net.visual.weight.detach().clone(), net.norm.weight.detach().clone()
    set_learning_rate(optimizer, 0.5)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(net.visual.weight, before[0] * (1 - 0.5 * 0.07 * 0.2))
    torch.testing.assert_close(net.norm.weight, before[1] * (1 - 0.5 * 0.2))


def test_the_fused_update_is_the_same_update():
    nets = [network(), network()]
    nets[1].load_state_dict(nets[0].state_dict())
    for net, fused in zip(nets, (False, True), strict=True):
        optimizer = make_optimizer(parameter_groups(net, RULES), fused=fused)
        assert bool(optimizer.defaults["fused"]) == fused
        for step in range(5):
            set_learning_rate(optimizer, 0.01)
            for i, p in enumerate(net.parameters()):
                p.grad = torch.sin(torch.arange(p.numel()) + step + i).reshape(p.shape)
            optimizer.step()
    for plain, fused in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(plain, fused, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([("visual.*", {})], "norm.weight"),  # parameters left over are listed
        ([("visaul.*", {}), ("*", {})], "visaul"),  # a rule that matches nothing
        ([("*", {}), ("norm.*", {})], "norm"),  # a rule shadowed by earlier ones
        ([("*", {}), ("*", {})], "twice"),
        ([("*", {"lr": 1.0})], "lr_scale"),
        ([("*", {"lr_scale": -1.0})], "negative"),
        ([("*", {"lr_scale": 0.0})], "nothing to train"),
    ],
)
def test_mistakes_are_named(rules, message):
    with pytest.raises(ValueError, match=message):
        parameter_groups(network(), rules)

"""Which groups there are, how large each is and what it weighs, also where families of groups cross in one tensor."""

import math

import pytest
import torch

from mote.models.image_nets import LeNet, ResNet
from mote.models.temporal import TemporalHead
from mote.sparsity.groups import KINDS, alive, find_groups, scale_groups, squared_norms
from mote.sparsity.lasso import GroupLasso, penalty


def lenet() -> LeNet:
    torch.manual_seed(0)
    return LeNet(10)


def test_counts_sizes_and_weights_of_crossing_groups_are_the_papers():
    """Wen et al., eq. 2 and 3 on LeNet: filters, channels and shapes of one tensor, each times sqrt of its size."""
    expected = {  # (kind, layer): number of groups, weights in one
        ("filters", "conv1"): (20, 25),  # W1[n]
        ("filters", "conv2"): (50, 20 * 25),
        ("filters", "fc1"): (500, 800),
        ("channels", "conv2"): (20, 50 * 25),  # W2[:, c]
        ("channels", "fc1"): (50, 16 * 500),  # 4 x 4 pixels of a channel
        ("channels", "fc2"): (500, 10),
        ("shapes", "conv1"): (25, 20),  # W1[:, c, m, k]
        ("shapes", "conv2"): (20 * 25, 50),
        ("units", "conv1"): (20, 25 + 50 * 25),  # a filter and what reads it
        ("units", "conv2"): (50, 20 * 25 + 16 * 500),
        ("units", "fc1"): (500, 800 + 10),
    }
    found = find_groups(lenet(), [kind for kind in KINDS if kind not in ("heads", "sublayers")])
    assert {(groups.kind, groups.name): (len(groups), groups.size) for groups in found} == expected
    for groups in find_groups(lenet(), ("units", "shapes"), {"conv*": 0.3}):
        assert groups.weight == pytest.approx(0.3 * math.sqrt(expected[groups.kind, groups.name][1]))


def test_the_penalty_of_crossing_groups_equals_a_loop():
    model = lenet().requires_grad_(False)
    w1, w2 = model.conv1.weight.double(), model.conv2.weight.double()

    def norm(numbers) -> float:
        return math.sqrt(numbers.numel()) * math.sqrt(sum(x * x for x in numbers.flatten().tolist()))

    expected = sum(norm(w[n]) for w in (w1, w2) for n in range(len(w)))  # filters
    expected += sum(norm(w2[:, c]) for c in range(20))  # channels
    expected += sum(
        norm(w[:, c, m, k]) for w in (w1, w2) for c in range(w.shape[1]) for m in range(5) for k in range(5)
    )
    groups = find_groups(model, ("filters", "channels", "shapes"), {"conv*": 1.0})
    assert penalty(dict(model.named_parameters()), groups, 0.01).item() == pytest.approx(0.01 * expected, rel=1e-5)


def test_where_groups_cross_a_weight_dies_with_either_of_its_groups():
    model = lenet()
    with torch.no_grad():
        model.conv2.weight[3].mul_(1e-4)  # a filter, a channel and a shape too small to live
        model.conv2.weight[:, 7].mul_(1e-4)
        model.conv2.weight[:, 2, 1, 4].mul_(1e-4)
    groups = find_groups(model, ("filters", "channels", "shapes"), {"conv2": 1.0})
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    GroupLasso(model, groups, strength=1e-3, ramp=0.0)(optimizer, 0.0)
    tensors = dict(model.named_parameters())
    dead = {family.kind: (~alive(tensors, family)).nonzero()[:, 0].tolist() for family in groups}
    column = 2 * 25 + 1 * 5 + 4
    assert dead == {"filters": [3], "channels": [7], "shapes": sorted([column, *range(7 * 25, 8 * 25)])}
    zero = model.conv2.weight == 0
    expected = torch.zeros_like(zero)
    expected[3], expected[:, 7], expected[:, 2, 1, 4] = True, True, True
    assert torch.equal(zero, expected)
    assert model.conv2.bias[3] == 0  # a filter's bias goes with it


def temporal_head(hidden: float = 2.0) -> TemporalHead:
    torch.manual_seed(0)
    return TemporalHead(width=8, num_layers=2, num_heads=2, num_experts=2, max_frames=4, ffn_ratio=hidden)


@pytest.mark.parametrize("hidden", [2.0, 1 / 8])
@pytest.mark.parametrize("kinds", [("sublayers", "heads", "units"), ("units", "sublayers", "heads")])
def test_children_come_before_parents_whatever_the_order_of_the_kinds(hidden, kinds):
    """The proximal step of nested groups is exact only from the inside out; a layer of one unit is as large as it."""
    found = find_groups(temporal_head(hidden), kinds)
    assert sorted({groups.kind for groups in found}) == ["heads", "sublayers", "units"]
    for place, parent in enumerate(found):
        if parent.kind == "sublayers":
            children = [
                i for i, groups in enumerate(found) if groups.kind != "sublayers" and groups.name == parent.name
            ]
            assert len(children) == 1 and children[0] < place
            assert parent.size == found[children[0]].size * len(found[children[0]])
    sizes = [groups.size for groups in found]
    assert sizes == sorted(sizes)


def test_scaling_children_first_is_the_proximal_step_of_nested_groups():
    """Against a minimum found by descent: 1/2 |w - z|^2 + sum of the norms, units within their sublayer."""
    model = temporal_head()
    groups = find_groups(model, ("sublayers", "units"), {"blocks.0.mlp": 1.0})
    named = {name: p.detach().double() for name, p in model.named_parameters() if name.startswith("blocks.0.mlp")}
    with torch.no_grad():
        named = {
            name: torch.randn(p.shape, generator=torch.Generator().manual_seed(3)).double() for name, p in named.items()
        }
    threshold = 0.09
    ours = {name: tensor.clone() for name, tensor in named.items()}
    for family in groups:
        norms = squared_norms(ours, family.counted, len(family)).sqrt()
        scale_groups(ours, family, (1 - threshold * family.weight / norms).clamp(min=0))
    counted = {part.name for family in groups for part in family.counted}
    free = {name: named[name].clone().requires_grad_(True) for name in counted}

    def objective(w):
        distance = sum((w[name] - named[name]).square().sum() for name in counted)
        return 0.5 * distance + penalty(w, groups, threshold)

    optimizer = torch.optim.LBFGS(list(free.values()), max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = objective(free)
        loss.backward()
        return loss

    optimizer.step(closure)
    least = objective(free).item()
    assert objective(ours).item() <= least + 1e-6 * abs(least)
    for name in counted:
        torch.testing.assert_close(ours[name], free[name].detach(), atol=1e-2, rtol=1e-2)
    assert all((ours[name] == 0).any() or (ours[name].abs() < named[name].abs()).all() for name in counted)


def test_tied_biases_have_no_say_in_whether_a_filter_lives_and_die_with_it():
    model = lenet()
    with torch.no_grad():
        for layer in (model.conv1, model.conv2):
            layer.weight[1] = 0
            layer.bias.fill_(0.7)  # of dead ones too
    tensors = dict(model.named_parameters())
    for groups in find_groups(model, ("filters",), {"conv*": 1.0}):
        layer = model.get_submodule(groups.name)
        assert [part.name for part in groups.tied] == [f"{groups.name}.bias"]
        assert (~alive(tensors, groups)).nonzero()[:, 0].tolist() == [1]
        before = layer.weight.detach().clone()
        with torch.no_grad():
            factors = torch.full((len(groups),), 0.25)
            factors[[1, 4]] = 0.0
            scale_groups(tensors, groups, factors)
        kept = factors > 0
        assert torch.equal(layer.weight[kept], 0.25 * before[kept]) and not layer.weight[~kept].any()
        assert (layer.bias[kept] == torch.tensor(0.7)).all()  # shrunk weights leave the bias as it was
        assert not layer.bias[~kept].any()
    for groups in find_groups(model, ("channels", "shapes"), {"conv*": 1.0}):
        assert groups.tied == ()


def test_queries_and_keys_are_tied_to_their_head_and_running_statistics_to_nothing():
    (heads,) = find_groups(temporal_head(), ("heads",), {"blocks.1.attn": 1.0})
    assert heads.size == 2 * 4 * 8  # values and outputs of one head of width 4
    assert {(part.name.rpartition("attn.")[2], part.axis) for part in heads.counted} == {
        ("in_proj_weight", 0),
        ("out_proj.weight", 1),
    }
    rows = {part.name.rpartition(".")[2]: part.indices.tolist() for part in heads.tied}
    own = [[4 * h + i for i in range(4)] for h in range(2)]
    q_and_k = [[*row, *(i + 8 for i in row)] for row in own]
    assert rows == {
        "in_proj_weight": q_and_k,
        "in_proj_bias": [[*a, *(i + 16 for i in b)] for a, b in zip(q_and_k, own, strict=True)],
    }
    torch.manual_seed(0)
    net = ResNet(10, blocks=1)
    buffers = dict(net.named_buffers())
    found = find_groups(net, ("units", "sublayers"))
    assert found and not [part.name for groups in found for part in groups.tied if part.name in buffers]


def test_patterns_choose_the_first_match_and_zero_leaves_alone():
    found = find_groups(lenet(), ("units",), {"conv2": 0.0, "conv*": 0.5, "*": 2.0})
    assert {groups.name: groups.scale for groups in found} == {"conv1": 0.5, "fc1": 2.0}
    assert {groups.scale for groups in find_groups(lenet(), ("units",))} == {1.0}
    for kinds, scales, message in (
        (("units", "nodes"), None, r"unknown kinds of groups \['nodes'\]; choose among units, heads"),
        (("heads",), None, "this network has no heads; it has channels, filters, shapes, units"),
        (("units",), {"*": 1.0, "conv1": 1.0}, r"patterns \['conv1'\] match no layer with units; layers are conv1"),
    ):
        with pytest.raises(ValueError, match=message):
            find_groups(lenet(), kinds, scales)
    with pytest.raises(ValueError, match="no groups at all"):
        find_groups(torch.nn.Linear(2, 2), ("units",))

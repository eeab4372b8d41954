"""Which groups there are, how large each is and what it weighs, also where families of groups cross in one tensor."""

import math

import pytest
import torch

from mote.models.image_nets import LeNet
from mote.sparsity.groups import KINDS, alive, find_groups
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

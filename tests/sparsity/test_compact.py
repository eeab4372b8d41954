"""Removal keeps the function: compact networks against dense ones with zeros, for every kind of group."""

import pytest
import torch

from mote.models.clip import load_backbone
from mote.models.image_nets import MLP, LeNet, ResNet
from mote.models.narrow import narrow
from mote.models.sites import sites
from mote.models.temporal import TemporalHead
from mote.sparsity.compact import compact, largest_difference, widths
from mote.sparsity.groups import find_groups, scale_groups


def randomise(model):
    """Random biases, norm scales and running statistics, so that nothing is zero by chance of initialisation."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            elif tensor.is_floating_point() and ((tensor.ndim <= 2 and "weight" not in name) or "bn" in name):
                tensor.normal_(std=0.5, generator=generator)
    return model.eval()


def head(experts=1):
    torch.manual_seed(0)
    return randomise(TemporalHead(width=16, num_layers=2, num_heads=4, num_experts=experts, max_frames=6))


def routing(experts):
    return torch.softmax(torch.randn(2, experts, generator=torch.Generator().manual_seed(2)), 1)


NETS = {
    "lenet": lambda: (LeNet(10), (3, 1, 28, 28)),
    "mlp": lambda: (MLP(10, hidden=(30, 20)), (3, 1, 28, 28)),
    "resnet": lambda: (ResNet(10, blocks=2), (3, 3, 32, 32)),
}


def made(name):
    torch.manual_seed(0)
    net, shape = NETS[name]()
    return randomise(net), torch.randn(shape, generator=torch.Generator().manual_seed(1))


def kill(model, site, dead, *, incoming=True, outgoing=True, biases=True):
    """Zero chosen sides of the chosen parts."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    parts = [*(site.incoming if incoming else ()), *(site.outgoing if outgoing else ()), *(site.tied if biases else ())]
    with torch.no_grad():
        for part in parts:
            if "running" not in part.name:
                tensors[part.name].index_fill_(part.axis, part.indices[dead].flatten(), 0.0)


def check(model, small, run, expected_widths):
    with torch.no_grad():
        before, after = run(model), run(small)
    assert before.abs().max() > 0.1
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    assert widths(small) == expected_widths
    for _, tensor in small.named_parameters():
        assert tensor.is_contiguous()
    count = [sum(p.numel() for p in net.parameters()) for net in (model, small)]
    assert count[1] < count[0]


@pytest.mark.parametrize("sides", ["both", "incoming", "incoming and bias", "outgoing"])
@pytest.mark.parametrize("name", ["lenet", "mlp", "resnet"])
def test_image_networks_lose_units(name, sides):
    model, x = made(name)
    expected = widths(model)
    options = {
        "both": {},
        "incoming": {"outgoing": False, "biases": False},
        "incoming and bias": {"outgoing": False},
        "outgoing": {"incoming": False, "biases": False},
    }[sides]
    for i, site in enumerate(sites(model)):
        dead = torch.arange(1, len(site), 2 + i)
        kill(model, site, dead, **options)
        # A constant before a zero-padded convolution cannot move: the residual network keeps those channels ...
        stays = name == "resnet" and sides == "incoming"
        if stays:  # ... but for those that the ReLU silences
            silent = (site.emitted()[dead] == 0).sum().item()
            assert 0 < silent < len(dead)
        expected[site.name] -= silent if stays else len(dead)
    check(model, compact(model), lambda net: net(x), expected)


@pytest.mark.parametrize("sides", ["incoming", "outgoing"])
def test_the_head_loses_units_and_heads_with_biases(sides):
    model, x = head(), torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    expected = widths(model)
    for site in sites(model):
        dead = torch.tensor([0, 2])
        kill(model, site, dead, incoming=sides == "incoming", outgoing=sides == "outgoing", biases=False)
        expected[site.name] -= 2
    check(model, compact(model), lambda net: net(x, torch.ones(2, 1)), expected)


def test_zero_queries_and_keys_are_no_reason_to_remove_a_head():
    model = head()
    with torch.no_grad():
        for block in model.layers():
            block.attn.in_proj_weight[:32].zero_()
            block.attn.in_proj_bias[:32].zero_()
    assert widths(compact(model)) == widths(model)


def test_units_go_when_zero_in_every_expert_and_only_then():
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    model = head(experts=3)
    expected = widths(model)
    for block, site in zip(model.layers(), (s for s in sites(model) if s.kind == "units"), strict=True):
        with torch.no_grad():
            block.mlp.up_weight[:2, 5].zero_()  # not in the third expert
            block.mlp.up_weight[:, 6].zero_()  # in all, but a bias stays that cannot be folded before the merge
            block.mlp.up_weight[:, 7:9].zero_()
            block.mlp.up_bias[:, 7:9].zero_()
            block.mlp.down_weight[:, :, 11].zero_()
        expected[site.name] -= 3
    small = compact(model)
    check(model, small, lambda net: net(x, routing(3)), expected)
    folded = model
    folded.fold_(routing(3))
    expected = {name: count - ("mlp" in name) for name, count in expected.items()}
    check(folded, compact(folded), lambda net: net(x, torch.ones(2, 1)), expected)


@pytest.mark.parametrize("which", ["attn", "mlp"])
@pytest.mark.parametrize("biases", [True, False])
def test_the_head_loses_whole_sublayers(which, biases):
    model, x = head(), torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    for groups in find_groups(model, ("sublayers",), {f"blocks.1.{which}": 1.0}):
        saved = {n: p.detach().clone() for n, p in model.named_parameters() if n.endswith("bias")}
        with torch.no_grad():
            scale_groups(dict(model.named_parameters()), groups, torch.zeros(1))
            if biases:  # a constant stays
                for name, parameter in model.named_parameters():
                    if name in saved:
                        parameter.copy_(saved[name])
    expected = {name: count for name, count in widths(model).items() if name != f"blocks.1.{which}"}
    check(model, compact(model), lambda net: net(x, torch.ones(2, 1)), expected)


@pytest.mark.parametrize("biases", [True, False])
def test_the_residual_network_loses_branches(biases):
    model, x = made("resnet")
    block = model.blocks[2]
    with torch.no_grad():
        block.conv1.weight.zero_()
        block.conv2.weight.zero_()
        if not biases:
            block.bn2.weight.zero_()
            block.bn2.bias.zero_()
    expected = {name: count for name, count in widths(model).items() if name != "blocks.2"}
    small = compact(model)
    check(model, small, lambda net: net(x), expected)
    assert small.sizes["inner"] == [16, 16, 0, 32, 64, 64]
    again = ResNet(10, **small.sizes)
    again.load_state_dict(small.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(x), small(x))


def test_the_sizes_of_a_compact_image_network_rebuild_it():
    for name in ("lenet", "mlp"):
        model, x = made(name)
        for site in sites(model):
            kill(model, site, torch.arange(3))
        small = compact(model)
        again = type(small)(10, **small.sizes)
        again.load_state_dict(small.state_dict())
        with torch.no_grad():
            assert torch.equal(again.eval()(x), small(x))


def test_a_chain_keeps_one_part():
    model, x = made("lenet")
    kill(model, sites(model)[1], torch.arange(50), biases=False)
    small = compact(model)
    assert widths(small) == {"conv1": 1, "conv2": 1, "fc1": 1}  # constants all the way
    with torch.no_grad():
        torch.testing.assert_close(small(x), model(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sides", ["incoming", "outgoing"])
def test_a_clip_tower_loses_units_heads_and_sublayers(sides):
    towers = load_backbone("tiny")
    model = randomise(towers.visual)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    expected = widths(model)
    for site in sites(model):
        dead = torch.arange(len(site)) if site.name.startswith("transformer.resblocks.3") else torch.tensor([1])
        kill(model, site, dead, incoming=sides == "incoming", outgoing=sides == "outgoing", biases=False)
        expected[site.name] -= len(dead)
    expected = {name: count for name, count in expected.items() if count}
    check(model, compact(model), lambda net: net(images), expected)


def test_narrow_refuses_what_it_cannot_do():
    model, _ = made("lenet")
    with pytest.raises(ValueError, match="conv9: not a place where this network can lose width"):
        narrow(model, {"conv9": torch.arange(2)})
    with pytest.raises(ValueError, match="conv1: has 20 parts"):
        narrow(model, {"conv1": torch.tensor([20])})
    with pytest.raises(ValueError, match="keep one"):
        narrow(model, {"conv1": torch.tensor([], dtype=torch.int64)})


@pytest.mark.parametrize("kind", ["head", "tower"])
@pytest.mark.parametrize("zero", [[], [0], [0, 1, 2], [0, 1, 2, 3]])
def test_a_head_whose_value_bias_is_partly_zero_leaves_its_constant_behind(kind, zero):
    """Values from nothing but the bias are the same for every token: what is not zero of them moves into the output."""
    if kind == "head":
        model, name = head(), "blocks.0.attn"
        x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
        run = lambda net: net(x, torch.ones(2, 1))  # noqa: E731
    else:
        model, name = randomise(load_backbone("tiny").visual), "transformer.resblocks.1.attn"
        images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        run = lambda net: net(images)  # noqa: E731
    expected, attention = widths(model), model.get_submodule(name)
    width = attention.out_proj.weight.shape[1]
    size = width // attention.num_heads
    value = 2 * width + size  # of the second head
    with torch.no_grad():
        attention.in_proj_weight[value : value + size] = 0
        attention.in_proj_bias[[value + i for i in zero]] = 0
    moved = attention.in_proj_bias[value : value + size].detach().double()
    assert (moved == 0).sum() == len(zero)
    small = compact(model)
    check(model, small, run, expected | {name: expected[name] - 1})
    gain = attention.out_proj.weight[:, size : 2 * size].detach().double() @ moved
    own = small.get_submodule(name).out_proj.bias - attention.out_proj.bias
    torch.testing.assert_close(own.double(), gain, atol=1e-6, rtol=1e-5)


def test_a_head_is_kept_while_a_single_value_weight_lives_and_is_read():
    model = head()
    attention = model.layers()[0].attn
    with torch.no_grad():
        attention.in_proj_weight[32:36] = 0
        attention.in_proj_weight[35, 15] = 1e-3
    assert widths(compact(model)) == widths(model)
    with torch.no_grad():  # written, but not read
        attention.out_proj.weight[:, :4] = 0
        attention.out_proj.weight[15, 3] = 1e-3
    assert widths(compact(model)) == widths(model)
    with torch.no_grad():
        attention.out_proj.weight[15, 3] = 0
    assert widths(compact(model))["blocks.0.attn"] == 3


def test_the_difference_of_outputs_is_relative_to_the_larger_and_to_one():
    a, b = torch.tensor([1.0, -2.0]), torch.tensor([1.0, -5.0])
    assert largest_difference(a, b) == largest_difference(b, a) == pytest.approx(3 / 5)
    assert largest_difference(a / 10, b / 10) == pytest.approx(0.3)

"""The inequality in its forms: true where it claims to be, the naive one shown false where weights are shared."""

import pytest
import torch
from networks import SmallViT, data, mlp
from oracles.curvature_reference import margin_of
from torch import nn

from mote.diagnostics.quantities.input_smoothness import first_affine, first_layer_sides, operator_norm, residual_sides
from mote.models.image_nets import ImageClassifier, LeNet
from mote.models.temporal import TemporalHead


def sides_of(module, x, y):
    name, layer, _ = first_affine(module, x)
    example = torch.zeros_like(x[:1]) if not isinstance(layer, nn.Linear) else x[:1].flatten(1)
    return name, first_layer_sides(module, layer, operator_norm(layer, example), x, y)


def test_a_perceptron_against_its_own_gradients():
    """|grad_x| <= |W| |grad_b| and <= |W| |grad_W| / |x|, both sides by a loop."""
    module, (x, y) = mlp(), data()
    name, sides = sides_of(module, x, y)
    assert (name, sides.form) == ("0", "linear")
    norm = torch.linalg.matrix_norm(module[0].weight, 2).item()
    for i in range(len(y)):
        one = x[i].clone().requires_grad_()
        q = margin_of(module(one[None])[0], int(y[i]))
        by_x, by_w, by_b = torch.autograd.grad(q, (one, module[0].weight, module[0].bias))
        assert sides.left[i].item() == pytest.approx(by_x.norm().item())
        assert sides.right[i].item() == pytest.approx(norm * by_b.norm().item())
        assert sides.naive[i].item() == pytest.approx(norm * by_w.norm().item() / x[i].norm().item())
    assert (sides.left <= sides.right * (1 + 1e-12)).all() and (sides.left <= sides.naive * (1 + 1e-12)).all()


def test_patches_share_weights_and_the_naive_form_is_false():
    """On random small vision transformers the form with G holds for all, the paper's fails for some."""
    worst, naive = 0.0, 0.0
    for seed in range(20):
        torch.manual_seed(seed)
        module = SmallViT().double().eval()
        x, y = torch.randn(4, 3, 12, 12).double(), torch.tensor([0, 1, 2, 0])
        name, sides = sides_of(module, x, y)
        assert (name, sides.form) == ("patch", "patches")
        worst = max(worst, (sides.left / sides.right).max().item())
        naive = max(naive, (sides.left / sides.naive).max().item())
        if seed == 0:  # G is the gradient in the positional embedding of a single picture
            q = margin_of(module(x[:1])[0], 0)
            (by_position,) = torch.autograd.grad(q, module.position)
            norm = torch.linalg.matrix_norm(module.patch.weight.flatten(1), 2)
            assert sides.right[0].item() == pytest.approx((norm * by_position[1:].norm()).item())
    assert worst <= 1 and naive > 1


def test_overlapping_convolutions_need_the_norm_of_the_whole_map():
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3, stride=1, padding=1).double()
    x = torch.zeros(1, 2, 6, 6).double()
    matrix = torch.autograd.functional.jacobian(lambda t: layer(t), x).reshape(3 * 36, 72)
    assert operator_norm(layer, x) == pytest.approx(torch.linalg.matrix_norm(matrix, 2).item(), rel=1e-5)
    assert operator_norm(layer, x) > 1.2 * torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item()
    net = ImageClassifier(LeNet(4, in_channels=1, size=16, hidden=8)).eval()
    pixels, y = 255 * torch.rand(5, 1, 16, 16), torch.arange(5) % 4
    name, sides = sides_of(net, pixels, y)
    assert (name, sides.form) == ("net.conv1", "convolution")
    assert (sides.left <= sides.right * (1 + 1e-5)).all() and (sides.left > 0).all()


def test_frames_of_a_clip_are_taken_together():
    class Clips(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = SmallViT()

        def forward(self, frames):
            return self.net(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).mean(1)

    torch.manual_seed(0)
    module, y = Clips().double().eval(), torch.tensor([0, 2])
    x = torch.randn(2, 4, 3, 12, 12).double()
    _, layer, _ = first_affine(module, x)
    sides = first_layer_sides(module, layer, operator_norm(layer, x[:1, 0]), x, y)
    one = x[0].clone().requires_grad_()
    (by_x,) = torch.autograd.grad(margin_of(module(one[None])[0], 0), one)
    assert sides.left[0].item() == pytest.approx(by_x.norm().item())
    assert sides.left.shape == (2,) and (sides.left <= sides.right).all()


def test_there_is_no_inequality_where_the_layer_is_not_the_only_way_in():
    class Skips(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.out = nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.out(x + torch.tanh(self.first(x)))

    torch.manual_seed(0)
    x, y = data()
    module = Skips().double().eval()
    layer = first_affine(module, x)[1]
    # The layer's input is the sample itself, whose gradient has the path past it as well.
    assert first_layer_sides(module, layer, operator_norm(layer, x[:1]), x, y) is None
    assert first_affine(nn.Flatten(), x) is None


def test_a_temporal_head_needs_both_its_paths():
    torch.manual_seed(0)
    head, text = TemporalHead(8, 2, 2, 1).double().eval(), nn.functional.normalize(torch.randn(3, 8).double(), dim=-1)
    routing, y = torch.ones(2, 1).double(), torch.tensor([0, 1, 2, 0])
    features = nn.functional.normalize(torch.randn(4, 5, 8).double(), dim=-1)
    network = lambda branch, past: 10 * nn.functional.normalize((past + head(branch, routing)).mean(1), dim=-1) @ text.T  # noqa: E731
    sides = residual_sides(network, features, y)
    for i in range(4):
        one = features[i : i + 1].clone().requires_grad_()
        q = margin_of(network(one, one)[0], int(y[i]))
        (by_x,) = torch.autograd.grad(q, one, retain_graph=True)
        (alone,) = torch.autograd.grad(margin_of(network(one, one.detach())[0], int(y[i])), head.position)
        assert sides.left[i].item() == pytest.approx(by_x.norm().item())
        assert sides.naive[i].item() == pytest.approx(alone.norm().item())
    assert (sides.left <= sides.right).all() and sides.form == "residual"

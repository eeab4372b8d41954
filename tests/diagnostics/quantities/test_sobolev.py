import math

import pytest
import torch
from networks import SmallViT, data, mlp
from oracles.curvature_reference import margin_of
from torch import nn

from mote.diagnostics.quantities.sobolev import (
    frame_norms,
    input_norms,
    margin,
    margin_gradient,
    power_sums,
    radius,
    sobolev_seminorm,
)


def test_margins_and_gradients_are_those_of_a_loop_over_samples():
    module, (x, y) = mlp(), data()
    logits, q, gradient = margin_gradient(module, x, y)
    torch.testing.assert_close(logits, module(x))
    for i in range(len(y)):
        one = x[i].clone().requires_grad_()
        expected = margin_of(module(one[None])[0], int(y[i]))
        torch.testing.assert_close(q[i], expected.detach())
        (slope,) = torch.autograd.grad(expected, one)
        torch.testing.assert_close(gradient[i], slope)
        assert input_norms(gradient)[i].item() == pytest.approx(slope.norm().item())
    assert x.grad is None and all(p.grad is None for p in module.parameters())


def test_a_linear_classifier_has_its_closed_form():
    """q = (w_y - w_j) x with j the best other: gradient w_y - w_j, and x - r grad / |grad| lies on the boundary."""
    module, (x, y) = nn.Linear(5, 3).double().eval(), data(9)
    logits, q, gradient = margin_gradient(module, x, y)
    others = logits.scatter(1, y[:, None], -math.inf).argmax(1)
    torch.testing.assert_close(gradient, (module.weight[y] - module.weight[others]).detach())
    r = radius(q, input_norms(gradient))
    moved = module(x - (r / input_norms(gradient))[:, None] * gradient)
    gap = moved.gather(1, y[:, None]) - moved.gather(1, others[:, None])
    assert gap.abs().max() < 1e-12
    k = 2
    expected = sum(float((g.abs() ** (2 * k)).sum()) for g in gradient) / len(gradient)
    assert sobolev_seminorm(power_sums(gradient, (1, k))[:, 1], k) == pytest.approx(expected ** (1 / (2 * k)))


def test_the_radius_does_not_change_with_the_temperature_and_norms_do():
    x, y = data()

    class Scaled(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.net, self.scale = mlp(), scale

        def forward(self, inputs):
            return self.scale * self.net(inputs)

    found = [margin_gradient(Scaled(scale), x, y)[1:] for scale in (1.0, 37.0)]
    (q1, g1), (q2, g2) = found
    torch.testing.assert_close(radius(q1, input_norms(g1)), radius(q2, input_norms(g2)))
    torch.testing.assert_close(37 * input_norms(g1), input_norms(g2))


def test_frames_share_the_gradient_of_their_clip():
    gradient = torch.randn(4, 3, 2, 5, 5)
    torch.testing.assert_close(frame_norms(gradient).square().sum(1), input_norms(gradient).square())


def test_a_gradient_of_zero_is_infinitely_far_and_a_tie_is_at_the_boundary():
    far = radius(torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.0, 0.0, 1.5]))
    assert far.tolist() == [math.inf, -math.inf, 2.0]
    assert margin(torch.tensor([[1.0, 1.0]]), torch.tensor([0])).tolist() == [0.0]


def test_a_vision_transformer_in_float32_agrees_with_its_double():
    torch.manual_seed(0)
    module = SmallViT().eval()
    x, y = torch.randn(3, 3, 12, 12), torch.tensor([0, 1, 2])
    single = margin_gradient(module, x, y)[2]
    double = margin_gradient(module.double(), x.double(), y)[2]
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-6)


def test_mistakes():
    with pytest.raises(ValueError, match="two classes"):
        margin(torch.zeros(2, 1), torch.zeros(2).long())
    with pytest.raises(ValueError, match="orders"):
        power_sums(torch.zeros(2, 3), (0, 1))

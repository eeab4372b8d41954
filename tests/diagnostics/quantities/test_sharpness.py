"""Lanczos, traces and curvature products against whole matrices in float64."""

import pytest
import torch
from networks import SmallViT, data, mlp, problem
from oracles import curvature_reference as slow
from torch import nn

from mote.diagnostics.quantities.lanczos import hutchinson_trace, top_eigenpair
from mote.diagnostics.quantities.network import CROSS_ENTROPY, FlatNetwork
from mote.diagnostics.quantities.sharpness import gauss_newton_product, gradient, hessian_product

LOSSES = pytest.mark.parametrize("loss", [CROSS_ENTROPY, slow.SQUARED], ids=["cross_entropy", "squared"])


def symmetric(size=40, seed=0):
    torch.manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
    values = torch.linspace(-2, 1, size, dtype=torch.float64).exp() * torch.where(torch.arange(size) % 7 == 0, -1, 1)
    return q @ torch.diag(values) @ q.T


@pytest.mark.parametrize("basis", [4, 8, 40])
def test_lanczos_finds_the_top_eigenpair_with_the_residual_it_states(basis):
    matrix, start = symmetric(), torch.randn(40, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(matrix)
    found = top_eigenpair(lambda v: matrix @ v, start, tolerance=1e-8, basis=basis, max_products=400)
    assert found.converged and found.value == pytest.approx(values[-1].item(), rel=1e-7)
    assert abs(found.vector @ vectors[:, -1]).item() == pytest.approx(1, abs=1e-6)
    residual = (matrix @ found.vector - found.value * found.vector).norm().item()
    assert found.residual == pytest.approx(residual, abs=1e-10)
    assert values[0].item() - 1e-9 <= found.lowest and found.squares <= matrix.square().sum().item() + 1e-9
    values_seen = [value for value, _ in found.history]
    assert values_seen == sorted(values_seen) or basis < 40  # without restarts a Ritz value never falls


def test_lanczos_says_when_it_did_not_converge_and_when_nothing_is_left():
    matrix, start = symmetric(), torch.randn(40, dtype=torch.float64)
    short = top_eigenpair(lambda v: matrix @ v, start, tolerance=1e-8, max_products=3)
    assert not short.converged and len(short.history) == 3
    true = (matrix @ short.vector - short.value * short.vector).norm().item()
    assert short.residual == pytest.approx(true) and true > 1e-3
    flat = top_eigenpair(lambda v: 0 * v, start)
    assert flat.converged and flat.value == 0 and len(flat.history) == 1
    low_rank = torch.outer(start, start)
    assert top_eigenpair(lambda v: low_rank @ v, torch.ones(40).double()).value == pytest.approx((start @ start).item())
    with pytest.raises(ValueError, match="not finite"):
        top_eigenpair(lambda v: v * torch.nan, start)
    with pytest.raises(ValueError, match="basis >= 3"):
        top_eigenpair(lambda v: v, start, basis=2)


def test_traces():
    matrix, like = symmetric(), torch.zeros(40, dtype=torch.float64)
    assert slow.exact_trace(lambda v: matrix @ v, like) == pytest.approx(matrix.trace().item())
    mean, error = hutchinson_trace(lambda v: matrix @ v, like, probes=400, seed=3)
    off = (matrix.square().sum() - matrix.diagonal().square().sum()).item()
    assert error == pytest.approx((2 * off / 400) ** 0.5, rel=0.2)  # variance 2 sum_{i != j} a_ij^2 for signs
    assert abs(mean - matrix.trace().item()) < 4 * error
    assert hutchinson_trace(lambda v: matrix @ v, like, probes=400, seed=3)[0] == mean
    diagonal = torch.arange(40, dtype=torch.float64)
    assert hutchinson_trace(lambda v: diagonal * v, like, probes=1) == (diagonal.sum().item(), None)


@LOSSES
@pytest.mark.parametrize("names", [None, ["2.weight", "0.bias"]])
def test_products_are_those_of_the_explicit_matrices(loss, names):
    module, (x, y) = mlp(), data()
    found = problem(module, x, y, loss, names)
    network, theta = found.network, found.theta
    hessian = slow.hessian(network, theta, x, y, loss)
    gauss_newton = sum(slow.sample_matrices(network, theta, x, y, loss)) / len(y)
    v = torch.randn_like(theta)
    torch.testing.assert_close(hessian_product(found, v), hessian @ v)
    torch.testing.assert_close(gauss_newton_product(found, v), gauss_newton @ v)
    top = top_eigenpair(lambda u: hessian_product(found, u), v, tolerance=1e-9)
    assert top.value == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-8)
    assert slow.exact_trace(lambda u: gauss_newton_product(found, u), theta) == pytest.approx(
        gauss_newton.trace().item()
    )
    leaf = theta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss.value(network(leaf, x), y).mean(), leaf)
    torch.testing.assert_close(gradient(found), slope)


def test_a_linear_network_has_its_closed_form():
    """Squared loss, f = W x: Gauss-Newton and Hessian are I_K (x) 1/n sum x x^T, whatever the labels."""
    module, (x, y) = nn.Linear(5, 3, bias=False).double().eval(), data(11)
    found, covariance = problem(module, x, y, slow.SQUARED), x.T @ x / len(x)
    for product in (gauss_newton_product, hessian_product):
        top = top_eigenpair(lambda v, product=product: product(found, v), torch.randn(15).double(), tolerance=1e-10)
        assert top.value == pytest.approx(torch.linalg.eigvalsh(covariance)[-1].item())
        trace = slow.exact_trace(lambda v, product=product: product(found, v), found.theta)
        assert trace == pytest.approx(3 * covariance.trace().item())


def test_a_two_layer_linear_network_has_its_closed_form():
    """f = b a x with scalars: at b a = target Gauss-Newton is x^2 (b, a)(b, a)^T, top and trace x^2 (a^2 + b^2)."""
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False)).double().eval()
    with torch.no_grad():
        module[0].weight.fill_(2.0)
        module[1].weight.copy_(torch.tensor([[0.5], [0.0]]))
    found = problem(module, torch.ones(1, 1).double(), torch.tensor([0]), slow.SQUARED)
    start = torch.tensor([1.0, 0.3, 0.2]).double()
    top = top_eigenpair(lambda v: gauss_newton_product(found, v), start, tolerance=1e-10)
    # parameters (a, b1, b2): J = [[b1, a, 0], [b2, 0, a]], and the residual is zero
    assert top.value == pytest.approx(2.0**2 + 0.5**2)
    assert slow.exact_trace(lambda v: gauss_newton_product(found, v), start) == pytest.approx(2.0**2 * 2 + 0.5**2)
    v = torch.tensor([0.2, -1.0, 0.7]).double()
    torch.testing.assert_close(hessian_product(found, v), gauss_newton_product(found, v))


def test_attention_has_second_derivatives_and_the_parameters_stay_as_they_are():
    torch.manual_seed(0)
    module, y = SmallViT(size=8, width=4).double().eval(), torch.tensor([0, 2])
    x, before = torch.randn(2, 3, 8, 8).double(), [p.clone() for p in module.parameters()]
    names = ["attention.in_proj_weight", "position"]
    found = problem(module, x, y, names=names)
    v = torch.randn_like(found.theta)
    hessian = slow.hessian(found.network, found.theta, x, y, CROSS_ENTROPY)
    torch.testing.assert_close(hessian_product(found, v), hessian @ v)
    gauss_newton = sum(slow.sample_matrices(found.network, found.theta, x, y, CROSS_ENTROPY)) / 2
    torch.testing.assert_close(gauss_newton_product(found, v), gauss_newton @ v)
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, module.parameters(), strict=True))
    assert torch.backends.mha.get_fastpath_enabled()


def test_curvlinops_agrees():
    curvlinops = pytest.importorskip("curvlinops")
    module, (x, y) = mlp(dtype=torch.float32), data(dtype=torch.float32)
    found, parameters = problem(module, x, y), list(module.parameters())
    v = torch.randn_like(found.theta)
    for theirs, ours in ((curvlinops.HessianLinearOperator, hessian_product),
                         (curvlinops.GGNLinearOperator, gauss_newton_product)):  # fmt: skip
        operator = theirs(module, nn.CrossEntropyLoss(), parameters, [(x, y)], check_deterministic=False)
        torch.testing.assert_close(ours(found, v), operator @ v, rtol=1e-4, atol=1e-6)


def test_mistakes():
    with pytest.raises(ValueError, match="training mode"):
        FlatNetwork(mlp().train())
    with pytest.raises(ValueError, match=r"no parameter '3\.weight'"):
        FlatNetwork(mlp(), ["3.weight"])
    with pytest.raises(ValueError, match="choose some"):
        FlatNetwork(mlp(), [])
    with pytest.raises(ValueError, match="one probe"):
        hutchinson_trace(lambda v: v, torch.ones(2), probes=0)

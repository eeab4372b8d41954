"""What single samples do, against whole matrices one after the other; and the theory on networks that were trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import SmallViT, data, mlp, problem
from oracles import curvature_reference as slow
from torch import nn
from torch.func import functional_call, grad, vmap

from mote.diagnostics.quantities.gradient_noise import (
    moment,
    moment_limit,
    noise_factor,
    nonuniformity_product,
    rate_limits,
    sample_curvature,
    sample_gradients,
    theory_of,
)
from mote.diagnostics.quantities.input_smoothness import first_layer_sides
from mote.diagnostics.quantities.lanczos import top_eigenpair
from mote.diagnostics.quantities.network import CROSS_ENTROPY
from mote.diagnostics.quantities.sharpness import gauss_newton_product, hessian_product

LOSSES = pytest.mark.parametrize("loss", [CROSS_ENTROPY, slow.SQUARED], ids=["cross_entropy", "squared"])


@LOSSES
@pytest.mark.parametrize("at_once", [1, 10**6], ids=["one at a time", "all at once"])
def test_samples_are_those_of_a_loop(loss, at_once):
    module, (x, y) = mlp(), data()
    found = problem(module, x, y, loss, gradients_at_once=at_once)
    network, theta = found.network, found.theta
    ours, matrices = sample_gradients(found, 3, orders=(1, 2)), slow.sample_matrices(network, theta, x, y, loss)
    items = list(zip(x, y, strict=True))
    by_loss = slow.gradients_of(
        lambda t, item: loss.value(network(t, item[0][None]), item[1][None])[0], lambda _: theta, items
    )
    by_margin = slow.gradients_of(
        lambda t, item: slow.margin_of(network(t, item[0][None])[0], int(item[1])), lambda _: theta, items
    )
    assert ours.index.tolist() == list(range(7)) and ours.top is not None
    for i, matrix in enumerate(matrices):
        assert ours.loss[i].item() == pytest.approx(by_loss[i].norm().item())
        assert ours.margin[i].item() == pytest.approx(by_margin[i].norm().item())
        assert ours.margin_sums[i].tolist() == pytest.approx(
            [(by_margin[i] ** 2).sum().item(), (by_margin[i] ** 4).sum().item()]
        )
        assert ours.trace[i].item() == pytest.approx(matrix.trace().item())
        assert ours.squares[i].item() == pytest.approx(matrix.square().sum().item())
        assert ours.top[i].item() == pytest.approx(torch.linalg.eigvalsh(matrix)[-1].item())
    mean, v = sum(matrices) / 7, torch.randn_like(theta)
    index, along = sample_curvature(found, v)
    assert along.tolist() == pytest.approx([(v @ matrix @ v).item() for matrix in matrices])
    assert index.tolist() == ours.index.tolist() and moment(along, 3) == pytest.approx(np.mean(along.numpy() ** 3))
    spread = sum(matrix @ matrix for matrix in matrices) / 7 - mean @ mean
    torch.testing.assert_close(nonuniformity_product(found, v), spread @ v)
    # the trace of the Gauss-Newton matrix of a squared loss is the mean squared gradient, summed over outputs
    assert ours.trace.mean().item() == pytest.approx(slow.exact_trace(lambda u: gauss_newton_product(found, u), theta))


@LOSSES
def test_random_combinations_estimate_what_all_rows_give(loss):
    module, (x, y) = mlp(classes=6), data(classes=6)
    found = problem(module, x, y, loss)
    exact = sample_gradients(found, 6)
    draws = [sample_gradients(found, 6, probes=4, seed=seed) for seed in range(150)]
    for name in ("trace", "squares"):
        values = torch.stack([getattr(draw, name) for draw in draws])  # (draws, n)
        error = values.std(0) / 150**0.5
        assert ((values.mean(0) - getattr(exact, name)).abs() < 4.5 * error + 1e-12).all()
    assert draws[0].top is None
    backwards = problem(module, x.flip(0), y.flip(0), loss)
    other = sample_gradients(backwards, 6, probes=4)  # the same samples under other indices: other signs
    assert not torch.allclose(other.trace.flip(0), draws[0].trace)
    again = sample_gradients(problem(module, x, y, loss, size=2), 6, probes=4)
    torch.testing.assert_close(again.trace, draws[0].trace)


def test_the_rates_enclose_the_one_at_which_second_moments_grow():
    """Against the operator on second moments itself, batches drawn in every possible way (Mulayoff & Michaeli)."""
    torch.manual_seed(0)
    for batch_size in (1, 2, 3, 5):
        matrices = [a @ a.T for a in torch.randn(5, 3, 2, dtype=torch.float64)]
        mean, p = sum(matrices) / 5, noise_factor(5, batch_size)
        values, vectors = torch.linalg.eigh(mean)
        limits = rate_limits(
            p,
            values[-1].item(),
            torch.stack([vectors[:, -1] @ matrix @ vectors[:, -1] for matrix in matrices]),
            mean.trace().item(),
            mean.square().sum().item(),
            sum(matrix.square().sum().item() for matrix in matrices) / 5,
            max(torch.linalg.eigvalsh(matrix)[-1].item() for matrix in matrices),
        )

        def grows(rate, matrices=matrices, batch_size=batch_size):
            operator = slow.second_moment_operator(matrices, rate, batch_size)
            return torch.linalg.eigvals(operator).abs().max().item() > 1 + 1e-9

        low, high = 0.0, 2 * limits["full_batch"]
        for _ in range(40):  # the true limit, by bisection
            middle = (low + high) / 2
            low, high = (low, middle) if grows(middle) else (middle, high)
        necessary = [limits[name] for name in ("full_batch", "direction", "trace")]
        assert limits["sufficient"] <= low + 1e-6 and min(necessary) >= low - 1e-6
        if batch_size == 5:  # no noise
            assert low == pytest.approx(limits["full_batch"], rel=1e-6) and p == 0


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_with_momentum_the_full_batch_rate_is_that_of_torchs_own_steps(momentum):
    """On a quadratic of curvature 4: below the limit the weight goes to zero, above it grows."""
    none = torch.zeros(1)
    limits = rate_limits(0.5, 4.0, none, 1.0, 1.0, 1.0, 1.0, momentum)
    assert [name for name, limit in limits.items() if limit is not None] == ["full_batch"]
    for factor, stable in ((0.99, True), (1.01, False)):
        weight = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=factor * limits["full_batch"], momentum=momentum)
        for _ in range(3000):
            weight.grad = 4.0 * weight.detach()
            optimizer.step()
        assert (abs(weight.item()) < 1e-3) == stable and (abs(weight.item()) > 1e3) == (not stable)


def test_the_note_names_the_bound_of_the_optimizer():
    assert theory_of("sgd", 0.1, 0.0, (0.9, 0.999)).startswith("theory of plain SGD")
    assert "momentum 0.9 on full batches" in theory_of("sgd", 0.1, 0.9, (0.9, 0.999))
    assert "must stay below 380 and is not measured" in theory_of("adamw", 0.1, 0.9, (0.9, 0.999))  # 38 / eta


def trained(count=100, n=6, inputs=5, hidden=20, rate=0.2, batch=2, steps=1200):
    """`count` tanh networks fitted by SGD on squared loss, one target each; returns modules, data, final losses."""
    module = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, 2)).eval()
    generator = torch.Generator().manual_seed(0)
    start = {
        name: torch.randn(count, *p.shape, generator=generator) / (p.shape[-1] ** 0.5 if p.ndim > 1 else 10)
        for name, p in module.named_parameters()
    }
    x = torch.randn(count, n, inputs, generator=generator)
    y = torch.randint(2, (count, n), generator=generator)
    picks = torch.rand(steps, count, n, generator=generator).argsort(-1)[..., :batch]

    def loss(p, x, y):
        return slow.SQUARED.value(functional_call(module, p, (x,)), y).mean()

    step = vmap(grad(loss))
    rows = torch.arange(count)[:, None]
    for chosen in picks:
        slopes = step(start, x[rows, chosen], y[rows, chosen])
        start = {name: start[name] - rate * slopes[name] for name in start}
    return module, start, x, y, vmap(loss)(start, x, y)


def check_smoothness(module, x, y, trace):
    """|grad_x| <= |W| |grad_b| and the paper's form for each sample; over all: <= |W|^2 / min |x|^2 times the trace."""
    norm = torch.linalg.matrix_norm(module[0].weight.detach(), 2).item()
    sides = first_layer_sides(module, module[0], norm, x, y)
    assert sides.form == "linear"
    assert (sides.left <= sides.right * (1 + 1e-9)).all() and (sides.left <= sides.naive * (1 + 1e-9)).all()
    slopes = vmap(torch.func.jacrev(module))(x)  # (n, K, d)
    mean = slopes.square().sum().item() / len(x)
    assert mean <= norm**2 / x.norm(dim=1).min().item() ** 2 * trace


@pytest.mark.slow
def test_the_theory_holds_on_trained_networks():
    """SGD at a constant rate that fitted its samples: moments, necessary rates, flat hence smooth."""
    rate, batch, n = 0.2, 2, 6
    module, parameters, x, y, losses = trained(rate=rate, batch=batch, n=n)
    fitted = 0
    for number in range(0, 100, 4):
        torch.nn.utils.vector_to_parameters(
            torch.cat([p[number].flatten() for p in parameters.values()]), module.parameters()
        )
        found = problem(module.double(), x[number].double(), y[number], slow.SQUARED, size=n)
        samples = sample_gradients(found, 2)
        matrices = slow.sample_matrices(found.network, found.theta, x[number].double(), y[number], slow.SQUARED)
        hessian = sum(matrices) / n
        values, vectors = torch.linalg.eigh(hessian)
        along = sample_curvature(found, vectors[:, -1])[1]
        assert values[-1].item() == pytest.approx(along.mean().item(), rel=1e-6)
        assert samples.trace.mean().item() == pytest.approx(hessian.trace().item(), rel=1e-6)
        check_smoothness(module, x[number].double(), y[number], hessian.trace().item())
        if losses[number] > 1e-6:
            continue
        fitted += 1
        assert values[-1].item() <= 2 / rate
        for order in (1, 2, 3):
            assert moment(along, order) <= moment_limit(order, rate, batch)
        squares = hessian.square().sum().item()
        limits = rate_limits(
            noise_factor(n, batch), values[-1].item(), along, hessian.trace().item(), squares,
            samples.squares.mean().item(), samples.top.max().item(),
        )  # fmt: skip
        assert all(rate <= limits[name] for name in ("full_batch", "direction", "trace"))
        assert limits["sufficient"] <= min(limits["full_batch"], limits["direction"], limits["trace"]) * (1 + 1e-9)
    assert fitted >= 23, f"only {fitted} of 25 networks fitted; the rest say nothing"


def test_a_small_vision_transformer():
    torch.manual_seed(0)
    module, y = SmallViT(size=8, width=4).double().eval(), torch.tensor([0, 2, 1])
    x = torch.randn(3, 3, 8, 8).double()
    found = problem(module, x, y, names=["patch.weight", "attention.in_proj_weight"])
    matrices = slow.sample_matrices(found.network, found.theta, x, y, CROSS_ENTROPY)
    samples, v = sample_gradients(found, 3), torch.randn_like(found.theta)
    assert samples.trace.tolist() == pytest.approx([matrix.trace().item() for matrix in matrices])
    mean = sum(matrices) / 3
    spread = sum(matrix @ matrix for matrix in matrices) / 3 - mean @ mean
    torch.testing.assert_close(nonuniformity_product(found, v), spread @ v)
    top = top_eigenpair(lambda u: nonuniformity_product(found, u), v, tolerance=1e-9)
    assert top.value == pytest.approx(torch.linalg.eigvalsh(spread)[-1].item())


def test_two_parts_of_the_samples_add_up_to_the_whole():
    """Each half hands in its sums and gets back those of the whole, which must be what both handed in."""
    module, (x, y) = mlp(), data(8)
    v = torch.randn(57, dtype=torch.float64)

    def share(rank, step, add_up):
        found = problem(module, x[rank::step], y[rank::step], add_up=add_up)
        return replace(found, batches=[(a, b, step * i + rank) for a, b, i in found.batches], total=8)

    for product in (gauss_newton_product, hessian_product, nonuniformity_product):
        whole, handed = [], ([], [])
        expected = product(share(0, 1, lambda t, whole=whole: whole.append(t) or t), v)
        for rank in range(2):
            totals = iter(whole)
            own = handed[rank]
            given = product(share(rank, 2, lambda t, own=own, totals=totals: own.append(t) or next(totals)), v)
            assert torch.equal(given, expected)
        for total, first, second in zip(whole, *handed, strict=True):
            torch.testing.assert_close(first + second, total)
            assert not torch.allclose(first, total)
    exact = sample_gradients(share(0, 1, lambda t: t), 3, probes=3)
    for rank in range(2):
        mine = sample_gradients(share(rank, 2, lambda t: t), 3, probes=3)
        torch.testing.assert_close(mine.trace, exact.trace[mine.index])


def test_mistakes():
    with pytest.raises(ValueError, match="between 1 and the 5 samples"):
        noise_factor(5, 6)
    with pytest.raises(ValueError, match="2 probes"):
        sample_gradients(problem(mlp(), *data()), 3, probes=1)
    assert noise_factor(10, 10) == 0 and noise_factor(10, 1) == 1

"""Gradients and curvature of single samples, and the learning rates that they allow.

Ma & Ying (NeurIPS 2021, arXiv 2105.13462); Mulayoff & Michaeli (ICML 2024), for losses whose samples have positive
semi-definite curvature H_i, H = 1/n sum_i H_i. Near a minimum SGD on batches of B out of n samples moves as

    v <- (I - eta H_batch) v,        p = (n - B) / (B (n - 1))       H_batch has covariance p times that of one H_i

Here H_i = J_i^T S_i J_i, the Gauss-Newton matrix of sample i (see `sharpness`). Reported are

    non-uniformity   s = lambda_max( 1/n sum_i H_i^2 - H^2 )^(1/2)
    moments          1/n sum_i (u^T H_i u)^k  <=  2^k B^(k-1) / eta^k    along every unit u, if the k-th moment of v
                     stays bounded (k = 1 along the top eigenvector: lambda_max(H) <= 2 / eta)
    rates            necessary, with a = lambda_max(H) and its vector u:   eta <= 2 / a,
                     eta <= 2 a / (a^2 + p/n sum_i (u^T H_i u - a)^2),
                     eta <= 2 tr H / ((1 - p) |H|_F^2 + p/n sum_i |H_i|_F^2);
                     a lower bound in the place of |H|_F leaves the last one true, if weaker;
                     sufficient:  eta <= 2 / ((1 - p) a + p max_i lambda_max(H_i))

The sufficient one: E |v|^2 does not grow if eta ((1 - p) H^2 + p/n sum_i H_i^2) <= 2 H as matrices, and H^2 <= a H,
H_i^2 <= max_j lambda_max(H_j) H_i. All of it is for plain SGD at a constant rate. With momentum b (without dampening)
the steps of the full batch are bounded by eta <= 2 (1 + b) / a (heavy ball); nothing is known here of its noise. Adam
and AdamW are bounded by the curvature that their preconditioner P leaves, lambda_max(P^-1 H) <=
(2 + 2 b_1) / ((1 - b_1) eta) on full batches (Cohen et al., arXiv 2207.14484), which is not measured; for them, for
decay of weights and for schedules a rate above a bound of SGD is a warning light and no more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.func import vmap

from mote.diagnostics.quantities.lanczos import random_signs
from mote.diagnostics.quantities.network import Problem, jvp, vjp
from mote.diagnostics.quantities.sobolev import margin, power_sums


@dataclass(frozen=True)
class SampleGradients:
    """Norms of the parameter gradients of samples, in their order, and properties of each H_i.

    index: of the samples. loss, margin: L2 norms of the gradients of loss and margin. margin_sums: of the margin's
    gradient, |.|_{2k}^{2k} for each order. trace, squares: tr H_i and |H_i|_F^2, exact or unbiased estimates. top:
    lambda_max(H_i), None where it is not exact.
    """

    index: Int64[Tensor, "n"]
    loss: Float64[Tensor, "n"]
    margin: Float64[Tensor, "n"]
    margin_sums: Float64[Tensor, "n orders"]
    trace: Float64[Tensor, "n"]
    squares: Float64[Tensor, "n"]
    top: Float64[Tensor, "n"] | None


def sample_gradients(
    problem: Problem, num_classes: int, *, probes: int | None = None, seed: int = 0, orders: Sequence[int] = (1, 2, 3)
) -> SampleGradients:
    """One pass over this process's samples, a few at a time.

    With R the rows of the loss' factor (S_i = R^T R), A_i = R J_i (K, P) gives H_i = A_i^T A_i, and N_i = A_i A_i^T has
    its trace, Frobenius norm and eigenvalues. `probes` None: all K rows. Else that many random sign combinations c of
    them, for which E |c^T A_i|^2 = tr H_i, and E (c^T N_i c')^2 = |H_i|_F^2 for two of them; at least 2. Their signs
    depend on `seed` and the index of the sample only.
    """
    if probes is not None and probes < 2:
        raise ValueError(f"expected at least 2 probes, got {probes}")
    network, loss, theta = problem.network, problem.loss, problem.theta

    def of_sample(x: Tensor, y: Tensor, mixture: Tensor) -> tuple[Tensor, ...]:
        logits, pull = vjp(lambda t: network(t, x[None])[0], theta)
        one = torch.ones_like(logits[0])
        by_loss = vjp(lambda z: loss.value(z[None], y[None])[0], logits)[1](one)[0]
        by_margin = vjp(lambda z: margin(z[None], y[None])[0], logits)[1](one)[0]
        rows = mixture @ loss.factor(logits)  # (m, K)
        (gradients,) = vmap(pull)(torch.cat([torch.stack([by_loss, by_margin]), rows]))  # (2 + m, P)
        norms = gradients[:2].norm(dim=1).double()
        products = (gradients[2:] @ gradients[2:].T).double()  # N_i, or its combinations
        return norms, power_sums(gradients[1:2], orders)[0], products

    found = []
    for inputs, label, index in problem.chunks(each=2 + (probes or num_classes)):
        mixtures = torch.stack([_mixture(i, num_classes, probes, seed, theta) for i in index.tolist()])
        found.append((index, *vmap(of_sample)(inputs, label, mixtures)))
    index, norms, sums, products = (torch.cat(part).cpu() for part in zip(*found, strict=True))
    diagonal, squares = products.diagonal(dim1=1, dim2=2), products.square().sum((1, 2))
    if probes is None:
        top = torch.linalg.eigvalsh(products)[:, -1]
        return SampleGradients(index, norms[:, 0], norms[:, 1], sums, diagonal.sum(1), squares, top)
    apart = (squares - diagonal.square().sum(1)) / (probes * (probes - 1))
    return SampleGradients(index, norms[:, 0], norms[:, 1], sums, diagonal.mean(1), apart, None)


def _mixture(index: int, num_classes: int, probes: int | None, seed: int, like: Tensor) -> Float[Tensor, "m K"]:
    if probes is None:
        return torch.eye(num_classes, dtype=like.dtype, device=like.device)
    return random_signs(probes * num_classes, seed, index, like).view(probes, num_classes)


def sample_curvature(problem: Problem, u: Float[Tensor, "P"]) -> tuple[Int64[Tensor, "n"], Float64[Tensor, "n"]]:
    """(index, u^T H_i u) of this process's samples."""
    indices, values = [], []
    for inputs, _, index in problem.batches:
        logits, change = jvp(lambda t, x=inputs: problem.network(t, x), problem.theta, u)
        values.append((change * problem.loss.curvature(logits, change)).sum(1).double())
        indices.append(index)
    return torch.cat(indices).cpu(), torch.cat(values).cpu()


def nonuniformity_product(problem: Problem, v: Float[Tensor, "P"]) -> Float[Tensor, "P"]:
    """(1/n sum_i H_i^2 - H^2) v = 1/n sum_i H_i (H_i v - H v): s^2 is the largest eigenvalue of this.

    H_i (H_i v - H v) = J_i^T S_i (J_i J_i^T u_i - J_i H v) with u_i = S_i J_i v. All but J_i J_i^T u_i is the same
    product for every sample, done for a batch at once; that one needs a gradient of each sample, a few at a time.
    """
    theta, curvature = problem.theta, problem.loss.curvature
    pushed, total = [], torch.zeros_like(v)
    for inputs, _, _ in problem.batches:
        network = lambda t, x=inputs: problem.network(t, x)  # noqa: E731
        logits, change = jvp(network, theta, v)
        pushed.append(curvature(logits, change))
        total += vjp(network, theta)[1](pushed[-1])[0]
    mean = problem.add_up(total) / problem.total

    def there_and_back(x: Tensor, u: Tensor) -> Tensor:
        network = lambda t: problem.network(t, x[None])[0]  # noqa: E731
        return jvp(network, theta, vjp(network, theta)[1](u)[0])[1]

    total = torch.zeros_like(v)
    for (inputs, _, _), u in zip(problem.batches, pushed, strict=True):
        network = lambda t, x=inputs: problem.network(t, x)  # noqa: E731
        logits, of_mean = jvp(network, theta, mean)
        size = problem.at_once(each=2)
        own = torch.cat([vmap(there_and_back)(*part) for part in zip(inputs.split(size), u.split(size), strict=True)])
        total += vjp(network, theta)[1](curvature(logits, own - of_mean))[0]
    return problem.add_up(total) / problem.total


def noise_factor(total: int, batch_size: int) -> float:
    """p = (n - B) / (B (n - 1)): of drawing B of n samples without replacement.

    Raises ValueError unless 1 <= B <= n and n >= 2.
    """
    if not 1 <= batch_size <= total or total < 2:
        raise ValueError(f"expected a batch size between 1 and the {total} samples (at least 2), got {batch_size}")
    return (total - batch_size) / (batch_size * (total - 1))


def moment(along: Float[Tensor, "n"], order: int) -> float:
    """1/n sum_i (u^T H_i u)^k."""
    return float(along.double().pow(order).mean())


def moment_limit(order: int, rate: float, batch_size: int) -> float:
    """2^k B^(k-1) / eta^k, which no `moment` exceeds where the k-th moment of SGD stays bounded."""
    return 2.0**order * batch_size ** (order - 1) / rate**order


def rate_limits(
    p: float,
    top: float,
    along: Float[Tensor, "n"],
    trace: float,
    squares: float,
    sample_squares: float,
    sample_top: float | None,
    momentum: float = 0.0,
) -> dict[str, float | None]:
    """Largest learning rates: `full_batch`, `direction`, `trace` (necessary), and `sufficient` (None if not known).

    With momentum only the first is known.

    Args:
        p: `noise_factor`.
        top: a, the largest eigenvalue of H, > 0.
        along: u^T H_i u along its eigenvector.
        trace: tr H.
        squares: |H|_F^2 or a lower bound on it.
        sample_squares: 1/n sum_i |H_i|_F^2.
        sample_top: max_i lambda_max(H_i).
        momentum: of SGD, in [0, 1).
    """
    if momentum:
        return {"full_batch": 2 * (1 + momentum) / top, "direction": None, "trace": None, "sufficient": None}
    spread = float((along.double() - top).square().mean())
    return {
        "full_batch": 2 / top,
        "direction": 2 * top / (top**2 + p * spread),
        "trace": 2 * trace / ((1 - p) * squares + p * sample_squares),
        "sufficient": None if sample_top is None else 2 / ((1 - p) * top + p * sample_top),
    }


def theory_of(method: str, rate: float, momentum: float, betas: tuple[float, float]) -> str:
    """What the limits say of a run by this optimizer, for a reader."""
    if method == "sgd" and momentum:
        return (
            f"theory of SGD with momentum {momentum:g} on full batches at a constant rate, estimated on the samples "
            "measured; of the noise of smaller batches nothing is known"
        )
    plain = "theory of plain SGD at a constant rate on all listed samples, estimated on those measured"
    if method == "sgd":
        return f"{plain}; with weight decay or a schedule a rate above a limit is a warning light"
    own = (2 + 2 * betas[0]) / ((1 - betas[0]) * rate)
    return (
        f"{plain}; for {method}, which was used, a rate above a limit is a warning light: its own bound is on the "
        f"curvature divided by its preconditioner, which must stay below {own:.3g} and is not measured"
    )

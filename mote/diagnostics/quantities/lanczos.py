"""Largest eigenvalue of a symmetric operator that is known by its products only, and estimates of its trace.

Lanczos (1950) with full reorthogonalisation (every new direction is made orthogonal to all kept ones, twice), and thick
restarts (Wu & Simon, SIAM J. Matrix Anal. Appl. 2000): when `basis` vectors are kept, the best Ritz vectors begin the
next basis, so that memory stays bounded. With Q the basis, T = Q^T A Q and w the part of A q_m outside of Q,

    Ritz pair (t, Q s):  T s = t s,    |A Q s - t Q s| = |w| |s_m|

so the residual needs no product of its own. A symmetric A has an eigenvalue within the residual of every t.

Trace: sum_i v_i^T A v_i over unit vectors, or Hutchinson (1989), E v^T A v = tr A for v of random signs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Product = Callable[[Tensor], Tensor]  # v (P,) -> A v


@dataclass(frozen=True)
class TopEigenpair:
    """The largest (algebraic) eigenvalue that was found, and its accuracy.

    value, vector (unit length): the Ritz pair. residual: |A x - value x|. history: after each product the Ritz value
    and its residual. converged: residual <= tolerance * |value|, or the basis spans an invariant subspace. lowest: the
    smallest Ritz value, an upper bound on the smallest eigenvalue. squares: sum of squared Ritz values, a lower bound
    on the squared Frobenius norm.
    """

    value: float
    vector: Float[Tensor, "P"]
    residual: float
    history: list[tuple[float, float]]
    converged: bool
    lowest: float
    squares: float


def top_eigenpair(
    product: Product,
    start: Float[Tensor, "P"],
    *,
    tolerance: float = 1e-3,
    max_products: int = 100,
    basis: int = 20,
) -> TopEigenpair:
    """Largest eigenvalue of the symmetric A behind `product`, from the vector `start`.

    Args:
        product: v -> A v; the same in every process.
        start: not zero, and not orthogonal to the eigenvector: a random vector.
        tolerance: relative residual at which the iteration stops, > 0.
        max_products: number of products after which it stops unconverged.
        basis: vectors kept, >= 3; memory is basis * P numbers.

    Raises:
        ValueError: settings out of range, or products that are not finite.
    """
    if basis < 3 or max_products < 1 or not tolerance > 0 or not start.norm() > 0:
        raise ValueError(f"expected basis >= 3, max_products >= 1, tolerance > 0, got {basis}, {max_products}")
    kept, q = [], start / start.norm()  # the basis as a list: a matrix would need copies of it
    projected = torch.zeros(0, 0, dtype=torch.float64)
    history: list[tuple[float, float]] = []
    while True:
        w = product(q)
        if not torch.isfinite(w).all():
            raise ValueError("a curvature product is not finite; the network or its data hold no usable numbers")
        kept.append(q)
        first, scale = _orthogonalise(w, kept), w.norm().item()
        column = first + _orthogonalise(w, kept)
        projected = _bordered(projected, column)
        values, vectors = torch.linalg.eigh(projected)
        beta = w.norm().item()
        value, s = values[-1].item(), vectors[:, -1]
        exhausted = beta <= 4 * torch.finfo(start.dtype).eps * max(scale, abs(value))
        residual = 0.0 if exhausted else beta * abs(s[-1].item())
        history.append((value, residual))
        converged = exhausted or residual <= tolerance * abs(value)
        if converged or len(history) == max_products or len(kept) == len(start):
            x = _combine(kept, s)
            squares = values.square().sum().item()
            return TopEigenpair(value, x / x.norm(), residual, history, converged, values[0].item(), squares)
        q = w / beta
        if len(kept) == basis:
            chosen = slice(-(basis // 2), None)
            kept = [_combine(kept, column) for column in vectors[:, chosen].T]
            projected = torch.diag(values[chosen])


def _orthogonalise(w: Tensor, kept: list[Tensor]) -> Float[Tensor, "m"]:
    """Coefficients of `w` along the vectors of `kept`; those components are subtracted from `w` in place."""
    parts = torch.stack([torch.dot(q, w) for q in kept])
    for q, part in zip(kept, parts, strict=True):
        w -= part * q
    return parts.double().cpu()


def _bordered(projected: Tensor, column: Float[Tensor, "m"]) -> Float[Tensor, "m m"]:
    """`projected` (T) with a row and a column more, both `column`: the newest basis vector's."""
    size = len(column)
    grown = torch.zeros(size, size, dtype=torch.float64)
    grown[:-1, :-1] = projected
    grown[-1, :], grown[:, -1] = column, column
    return grown


def _combine(kept: list[Tensor], weights: Float[Tensor, "m"]) -> Float[Tensor, "P"]:
    out = torch.zeros_like(kept[0])
    for q, weight in zip(kept, weights.tolist(), strict=True):
        out.add_(q, alpha=weight)
    return out


def random_signs(size: int, seed: int, number: int, like: Tensor) -> Float[Tensor, "P"]:
    """Random vector of ±1 that depends on `seed` and `number` only, not on the device or the process."""
    generator = torch.Generator().manual_seed((seed << 24) ^ number)
    return (2.0 * torch.randint(2, (size,), generator=generator) - 1).to(like)


def hutchinson_trace(
    product: Product, like: Float[Tensor, "P"], *, probes: int, seed: int = 0
) -> tuple[float, float | None]:
    """(estimate of tr A, its standard error, None for a single probe) from `probes` random sign vectors."""
    if probes < 1:
        raise ValueError(f"a trace needs at least one probe, got {probes}")
    found = []
    for number in range(probes):
        v = random_signs(len(like), seed, number, like)
        found.append(torch.dot(v, product(v)).double().item())
    values = torch.tensor(found, dtype=torch.float64)
    error = None if probes == 1 else float(values.std(correction=1) / probes**0.5)
    return float(values.mean()), error

"""Spearman's rank correlation and how often chance alone gives one as large; numpy only.

rho is Pearson's correlation of the ranks, tied values sharing the mean of theirs. p is the share of orders of one side
whose |rho| is at least as large: over all orders for up to 8 pairs, else over random ones (counting the one observed).
"""

import math
from itertools import permutations

import numpy as np
from jaxtyping import Float, Float64

ALL_ORDERS = 8  # up to so many pairs every order is gone through: 40320


def ranks(values: Float[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Return 1 for the smallest to n for the largest, ties sharing the mean of their places."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place]


def spearman(
    a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"], seed: int = 0, draws: int = 20_000
) -> tuple[float, float] | None:
    """Return (rho, two-sided permutation p), or None where one side has no order: all values equal.

    Raises ValueError for fewer than 3 pairs or a value that is NaN.
    """
    if len(a) != len(b) or len(a) < 3 or np.isnan(a).any() or np.isnan(b).any():
        raise ValueError(f"expected at least 3 pairs of numbers, got {len(a)} and {len(b)}")
    first, second = (ranks(np.asarray(side, dtype=np.float64)) - (len(a) + 1) / 2 for side in (a, b))
    scale = math.sqrt((first**2).sum() * (second**2).sum())
    if scale == 0:
        return None
    rho = float(first @ second / scale)
    if len(a) <= ALL_ORDERS:
        others = np.array(list(permutations(second))) @ first / scale
        return rho, float((np.abs(others) >= abs(rho) - 1e-12).mean())
    rng = np.random.default_rng(seed)
    others = np.array([rng.permutation(second) @ first for _ in range(draws)]) / scale
    return rho, float(((np.abs(others) >= abs(rho) - 1e-12).sum() + 1) / (draws + 1))

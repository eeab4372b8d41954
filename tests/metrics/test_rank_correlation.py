"""Spearman's rank correlation and its permutation p against loops over ranks and orders."""

import math
from itertools import permutations

import numpy as np
import pytest
import scipy.stats

from mote.metrics.statistics import rank_correlation


def loop_ranks(values):
    return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]


def loop_rho(a, b):
    first, second = ([r - (len(a) + 1) / 2 for r in loop_ranks(side)] for side in (a, b))
    return np.dot(first, second) / math.sqrt(np.dot(first, first) * np.dot(second, second))


def data(n, tied):
    rng = np.random.default_rng(n)
    a = rng.normal(size=n)
    b = a + rng.normal(size=n)
    return (np.round(a, 0), np.round(b, 0)) if tied else (a, b)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n", [4, 5, 6])
def test_of_few_pairs_every_order_is_gone_through(n, tied):
    a, b = data(n, tied)
    rho, p = rank_correlation(a, b)
    assert rho == pytest.approx(loop_rho(a, b))
    orders = [loop_rho(a, order) for order in permutations(b)]
    assert p == pytest.approx(np.mean([abs(other) >= abs(rho) - 1e-12 for other in orders]))


@pytest.mark.parametrize("tied", [False, True])
def test_of_many_pairs_random_orders_are_drawn_by_the_seed(tied):
    a, b = data(30, tied)
    a += 0.5 * data(31, tied)[0][:30]
    found = rank_correlation(a, b, seed=1)
    assert found == rank_correlation(a, b, seed=1)
    assert found[0] == pytest.approx(loop_rho(a, b))
    assert found[1] == pytest.approx(scipy.stats.spearmanr(a, b).pvalue, abs=0.02)
    assert rank_correlation(np.arange(20.0), np.arange(20.0), draws=99)[1] == 1 / 100  # the one observed counts


def test_no_order_no_correlation():
    assert rank_correlation(np.ones(4), np.arange(4.0)) is None
    assert rank_correlation(np.arange(4.0), np.arange(4.0)[::-1])[0] == pytest.approx(-1)
    with pytest.raises(ValueError, match="at least 3"):
        rank_correlation(np.arange(2.0), np.arange(2.0))

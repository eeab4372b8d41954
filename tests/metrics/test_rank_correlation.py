import numpy as np
import pytest
import scipy.stats

from mote.metrics.rank_correlation import ranks, spearman


@pytest.mark.parametrize("n", [3, 5, 8, 9, 30])
def test_rho_and_p_are_scipys(n):
    rng = np.random.default_rng(n)
    a = rng.normal(size=n)
    b = np.round(a + rng.normal(size=n), 0)  # with ties
    np.testing.assert_allclose(ranks(b), scipy.stats.rankdata(b))
    rho, p = spearman(a, b)
    theirs = scipy.stats.spearmanr(a, b)
    assert rho == pytest.approx(theirs.statistic)
    exact = scipy.stats.permutation_test(
        (a,), lambda x: scipy.stats.spearmanr(x, b).statistic, permutation_type="pairings",
        n_resamples=np.inf if n <= 5 else 400, rng=np.random.default_rng(0),
    )  # fmt: skip
    if n <= 5:
        share = np.mean(np.abs(exact.null_distribution) >= abs(rho) - 1e-12)
        assert p == pytest.approx(share)
    elif n == 30:
        assert p == pytest.approx(theirs.pvalue, abs=0.02)


def test_no_order_no_correlation():
    assert spearman(np.ones(4), np.arange(4.0)) is None
    assert spearman(np.arange(4.0), np.arange(4.0)[::-1])[0] == pytest.approx(-1)
    with pytest.raises(ValueError, match="at least 3"):
        spearman(np.arange(2.0), np.arange(2.0))

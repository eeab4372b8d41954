import itertools
import math

import pytest
import torch
from oracles import latent_reference as oracle
from scipy.stats import multivariate_normal

from mote.regularizers.gaussian_mixture import (
    Mixture,
    axis_centres,
    cdf_distance,
    class_latent_terms,
    covariance_distance,
    draw_modes,
    expected_cdf_distance,
    expected_covariance_distance,
    interpolate,
    isotropic,
    latent_terms,
    log_density,
    mixture_cdf,
    mixture_moments,
    mode_log_density,
    sample_mixture,
)
from mote.regularizers.mmd import mmd


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uneven(std: float = 0.7) -> Mixture:
    """Three modes in three dimensions, std not 1, priors not equal: where std and variance would be mixed up."""
    centres = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 0.5], [-1.0, 0.5, 2.0]], dtype=torch.float64)
    return isotropic(centres, std, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))


def tilted() -> Mixture:
    """Two modes with full covariances."""
    tril = torch.tensor([[[1.0, 0.0], [0.8, 0.5]], [[0.3, 0.0], [-0.4, 1.2]]], dtype=torch.float64)
    centres = torch.tensor([[3.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    return Mixture(centres, tril, torch.tensor([0.7, 0.3], dtype=torch.float64))


def drawn(mixture: Mixture, num: int, seed: int = 0) -> torch.Tensor:
    g = generator(seed)
    return sample_mixture(mixture, draw_modes(mixture, num, g), g)


def test_distances_are_those_of_the_loop():
    mixture, std = uneven(), 0.7
    z = 2 * torch.randn(7, 3, dtype=torch.float64, generator=generator())
    parts = (mixture.centres.tolist(), std, mixture.priors.tolist())
    assert float(mixture_cdf(z, mixture)[4, 1]) == pytest.approx(oracle.mixture_cdf(float(z[4, 1]), 1, *parts))
    assert float(cdf_distance(z, mixture).mean()) == pytest.approx(oracle.cdf_distance(z.tolist(), *parts), rel=1e-9)
    wanted = oracle.covariance_distance(z.tolist(), *parts)
    assert float(covariance_distance(z, mixture)) == pytest.approx(wanted, rel=1e-9)


def batches(mixture: Mixture, modes: list[int]):
    """(weight, codes) of all batches whose codes lie on the nodes of a quadrature in their modes.

    Gauss-Hermite with three nodes integrates polynomials of degree five exactly: means over these batches are the
    expectations over Gaussian ones, for the covariance and the mean term, which are of degree four and two.
    """
    dim = mixture.centres.shape[1]
    nodes = torch.tensor([-math.sqrt(3), 0.0, math.sqrt(3)], dtype=torch.float64)
    chances = [1 / 6, 2 / 3, 1 / 6]
    for choice in itertools.product(range(3), repeat=len(modes) * dim):
        noise = nodes[list(choice)].view(len(modes), dim)
        z = mixture.centres[modes] + torch.einsum("nij,nj->ni", mixture.scale_tril[modes], noise)
        yield math.prod(chances[i] for i in choice), z


def on_a_line() -> Mixture:
    """Two modes in one dimension, of two widths."""
    centres, stds, priors = (
        torch.tensor(numbers, dtype=torch.float64) for numbers in ([-1.0, 4.0], [0.5, 2.0], [0.3, 0.7])
    )
    return Mixture(centres[:, None], stds[:, None, None], priors)


def in_three() -> Mixture:
    """One mode in three dimensions with a full covariance, away from zero."""
    tril = torch.tensor([[[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [-0.3, 0.2, 1.5]]], dtype=torch.float64)
    return Mixture(torch.tensor([[1.0, -2.0, 0.5]]).double(), tril, torch.ones(1).double())


@pytest.mark.parametrize(("mixture", "num"), [(tilted(), 2), (on_a_line(), 2), (on_a_line(), 3)])
def test_codes_of_the_prior_give_one_in_expectation(mixture, num):
    """Over all modes and all nodes, exactly."""
    total = dict.fromkeys(("covariance", "mean", "distance"), 0.0)
    for modes in itertools.product(range(len(mixture.priors)), repeat=num):
        chance = math.prod(mixture.priors[list(modes)].tolist())
        for weight, z in batches(mixture, list(modes)):
            terms = latent_terms(z, mixture)
            for name in ("covariance", "mean"):
                total[name] += chance * weight * float(terms[name])
            total["distance"] += chance * weight * float(covariance_distance(z, mixture))
    expected = float(expected_covariance_distance(num, mixture))
    assert total == pytest.approx({"covariance": 1.0, "mean": 1.0, "distance": expected}, rel=1e-9)


@pytest.mark.parametrize("num", [1, 2, 3])
def test_the_distance_of_distribution_functions_has_its_expectation(num):
    """E of the mean of (u_(i) - i/N)^2 over the order statistics of uniforms, from the Beta(i, N + 1 - i) of each."""
    total = 0.0
    for i in range(1, num + 1):
        mean, variance = i / (num + 1), i * (num + 1 - i) / ((num + 1) ** 2 * (num + 2))
        total += (variance + (mean - i / num) ** 2) / num
    assert expected_cdf_distance(num) == pytest.approx(total, rel=1e-12)


def test_the_distance_of_distribution_functions_by_hand():
    """Codes at chosen quantiles, out of order, in two coordinates of their own widths and places."""
    mixture = Mixture(torch.tensor([[1.0, -2.0]]).double(), torch.diag(torch.tensor([2.0, 0.5]).double())[None],
                      torch.ones(1).double())  # fmt: skip
    u = torch.tensor([[0.9, 0.2], [0.1, 0.3], [0.4, 0.95]], dtype=torch.float64)
    z = mixture.centres + torch.special.ndtri(u) * torch.tensor([2.0, 0.5])
    by_hand = [
        ((0.1 - 1 / 3) ** 2 + (0.4 - 2 / 3) ** 2 + (0.9 - 1) ** 2) / 3,
        ((0.2 - 1 / 3) ** 2 + (0.3 - 2 / 3) ** 2 + (0.95 - 1) ** 2) / 3,
    ]
    assert cdf_distance(z, mixture).tolist() == pytest.approx(by_hand)
    assert float(latent_terms(z, mixture)["cdf"]) == pytest.approx(sum(by_hand) / 2 / (4 / 54))


def test_one_drawn_batch_of_each_size_is_near_one():
    """What the exact cases leave out: many dimensions, and the three terms of one call."""
    mixture = isotropic(axis_centres(10, 10, 6.0))
    terms = latent_terms(drawn(mixture, 4000), mixture)
    assert {name: 0.5 < float(value) < 2 for name, value in terms.items()} == dict.fromkeys(terms, True)


def test_the_expectations_are_the_closed_forms_of_the_note():
    assert expected_cdf_distance(100) == pytest.approx(1.6833e-3, rel=1e-4)
    assert expected_cdf_distance(2) == 0.125
    released = isotropic(axis_centres(10, 10, math.sqrt(2)))
    assert float(expected_covariance_distance(100, released)) == pytest.approx(1.30e-2, rel=0.02)


def test_moments_are_the_sums_over_the_modes():
    for mixture in (uneven(), tilted(), in_three()):
        mean, covariance = mixture_moments(mixture)
        second = torch.zeros_like(covariance)
        first = torch.zeros_like(mean)
        for p, c, tril in zip(mixture.priors, mixture.centres, mixture.scale_tril, strict=True):
            first += p * c
            second += p * (tril @ tril.T + torch.outer(c, c))  # E z z^T
        torch.testing.assert_close(mean, first)
        torch.testing.assert_close(covariance, second - torch.outer(first, first))


def test_codes_are_the_centre_of_their_mode_and_its_factor_times_the_noise():
    mixture, mode = tilted(), torch.tensor([1, 0, 0, 1])
    noise = torch.randn(4, 2, generator=generator(7)).double()
    found = sample_mixture(mixture, mode, generator(7))
    for z, k, eps in zip(found, mode.tolist(), noise, strict=True):
        torch.testing.assert_close(z, mixture.centres[k] + mixture.scale_tril[k] @ eps)
    modes = draw_modes(uneven(), 4000, generator())
    share = torch.bincount(modes, minlength=3) / 4000
    torch.testing.assert_close(share.double(), uneven().priors, atol=0.03, rtol=0)
    only = Mixture(mixture.centres, mixture.scale_tril, torch.tensor([0.0, 1.0]).double())
    assert (draw_modes(only, 20, generator()) == 1).all()


def test_the_order_of_the_batch_does_not_matter_and_far_codes_have_finite_gradients():
    z, label = drawn(uneven(), 40), torch.arange(40) % 3
    order = torch.randperm(40, generator=generator())
    for terms, shuffled in (
        (latent_terms(z, uneven()), latent_terms(z[order], uneven())),
        (class_latent_terms(z, label, uneven()), class_latent_terms(z[order], label[order], uneven())),
    ):
        assert all(float(terms[name]) == pytest.approx(float(shuffled[name])) for name in terms)
    far = (z + 50).float().requires_grad_(True)
    torch.stack(list(latent_terms(far, uneven()).values())).sum().backward()
    assert far.grad is not None and far.grad.isfinite().all() and far.grad.abs().max() > 0


def test_only_separated_modes_can_be_told_from_one_gaussian():
    """The released separation of sqrt 2 has no power, 6 std has (the note, A4.1)."""
    values = {}
    for separation in (math.sqrt(2), 6.0):
        mixture = isotropic(axis_centres(10, 10, separation))
        mean, covariance = mixture_moments(mixture)
        gaussian = torch.distributions.MultivariateNormal(mean, covariance)
        torch.manual_seed(0)
        values[separation] = float(
            torch.stack([latent_terms(gaussian.sample((100,)), mixture)["cdf"] for _ in range(30)]).mean()
        )
    assert abs(values[math.sqrt(2)] - 1) < 0.2
    assert values[6.0] > 2


def shared() -> Mixture:
    """Three modes of one covariance, which is not round, and priors that class-conditional terms must not read."""
    tril = torch.tensor([[1.0, 0.0], [0.7, 0.4]], dtype=torch.float64).repeat(3, 1, 1)
    centres = torch.tensor([[3.0, 0.0], [0.0, 1.0], [-4.0, 2.0]], dtype=torch.float64)
    return Mixture(centres, tril, torch.tensor([0.8, 0.1, 0.1], dtype=torch.float64))


@pytest.mark.parametrize(("dim", "label"), [(2, [0, 0]), (1, [2, 0, 2])])
def test_class_conditional_codes_of_the_prior_give_one_in_expectation(dim, label):
    """Exactly, also where a class has a single code and a mode has none."""
    whole, total = shared(), {"covariance": 0.0, "mean": 0.0}
    mixture = Mixture(whole.centres[:, :dim], whole.scale_tril[:, :dim, :dim], whole.priors)
    for weight, z in batches(mixture, label):
        terms = class_latent_terms(z, torch.tensor(label), mixture)
        total = {name: value + weight * float(terms[name]) for name, value in total.items()}
    assert total == pytest.approx({"covariance": 1.0, "mean": 1.0}, rel=1e-9)


def test_class_conditional_terms_are_those_of_each_class_around_its_own_mode():
    mixture, label = shared(), torch.tensor([2, 0, 2, 2, 0])
    z = drawn(mixture, 5)
    own = Mixture(torch.zeros(1, 2).double(), mixture.scale_tril[:1], torch.ones(1).double())
    each = [latent_terms(z[label == c] - mixture.centres[c], own) for c in (0, 2)]
    found = class_latent_terms(z, label, mixture)
    for name in ("cdf", "mean"):
        assert float(found[name]) == pytest.approx(sum(float(one[name]) for one in each) / 2)
    moved = z + torch.tensor([[5.0, -3.0]]).double()[[0] * 5]  # around their own means, whatever these are
    assert float(class_latent_terms(moved, label, mixture)["covariance"]) == pytest.approx(float(found["covariance"]))
    assert class_latent_terms(moved, label, mixture)["mean"] > found["mean"] + 10


def test_densities_are_scipys_and_responsibilities_find_the_modes():
    mixture = tilted()
    z = drawn(mixture, 6)
    covariances = mixture.scale_tril @ mixture.scale_tril.mT
    wanted = sum(
        p * multivariate_normal(c, s).pdf(z.numpy())
        for p, c, s in zip(mixture.priors.numpy(), mixture.centres.numpy(), covariances.numpy(), strict=True)
    )
    assert torch.allclose(log_density(z, mixture), torch.from_numpy(wanted).log())
    apart = isotropic(axis_centres(5, 8, 8.0))
    mode = draw_modes(apart, 500, generator())
    assert (mode_log_density(sample_mixture(apart, mode, generator(1)), apart).argmax(1) == mode).float().mean() > 0.999


def test_centres_lie_as_far_apart_as_asked():
    centres = axis_centres(7, 16, 4.0, std=0.5)
    distance = torch.cdist(centres, centres)[~torch.eye(7, dtype=torch.bool)]
    assert torch.allclose(distance, torch.tensor(2.0))
    line = interpolate(centres[:2], centres[2:4], 5)
    assert torch.equal(line[:, 0], centres[:2]) and torch.equal(line[:, -1], centres[2:4])
    assert torch.allclose(line[:, 2], (centres[:2] + centres[2:4]) / 2)


def test_what_the_statistics_cannot_do_is_said():
    with pytest.raises(ValueError, match="11 modes need a latent of at least 11 dimensions"):
        axis_centres(11, 10)
    with pytest.raises(ValueError, match="must be > 0 std, got 0"):
        axis_centres(2, 2, 0.0)
    mixture = isotropic(axis_centres(3, 3))
    with pytest.raises(ValueError, match="at least 2 codes in a batch, got 1"):
        latent_terms(torch.zeros(1, 3), mixture)
    with pytest.raises(ValueError, match="label 3 has no mode"):
        class_latent_terms(torch.zeros(9, 3), torch.arange(9) % 4, mixture)
    with pytest.raises(ValueError, match="leave no within-class covariance"):
        class_latent_terms(torch.zeros(3, 3), torch.arange(3), mixture)


def test_mmd_is_that_of_the_loop_and_zero_on_average_for_one_distribution():
    z, prior = (torch.randn(6, 4, dtype=torch.float64, generator=generator(s)) for s in (0, 1))
    assert float(mmd(z, prior, 8.0)) == pytest.approx(oracle.mmd(z.tolist(), prior.tolist(), 8.0), rel=1e-9)
    assert float(mmd(z[:2], prior[:2], 8.0)) == pytest.approx(oracle.mmd(z[:2].tolist(), prior[:2].tolist(), 8.0))
    pairs = torch.randn(200, 2, 10, 4, generator=generator(2))
    values = torch.stack([mmd(a, b, 8.0) for a, b in pairs])
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(200)
    with pytest.raises(ValueError, match="two samples of one size, at least 2, got 1 and 1"):
        mmd(z[:1], prior[:1], 8.0)

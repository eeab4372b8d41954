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


@pytest.mark.parametrize("mixture", [isotropic(axis_centres(10, 10, math.sqrt(2))), uneven(), tilted()])
@pytest.mark.parametrize("num", [2, 9, 100])
def test_codes_of_the_prior_give_one_on_average(mixture, num):
    batches = 300
    codes = drawn(mixture, num * batches).view(batches, num, -1)
    terms = [latent_terms(z, mixture) for z in codes]
    for name in ("cdf", "covariance", "mean"):
        values = torch.stack([term[name] for term in terms])
        error = values.std() / math.sqrt(batches)
        assert abs(values.mean() - 1) < 4 * error, f"{name}: {values.mean():.3f} ± {error:.3f}"


def test_the_expectations_are_the_closed_forms_of_the_note():
    assert expected_cdf_distance(100) == pytest.approx(1.6833e-3, rel=1e-4)
    assert expected_cdf_distance(2) == 0.125
    released = isotropic(axis_centres(10, 10, math.sqrt(2)))
    assert float(expected_covariance_distance(100, released)) == pytest.approx(1.30e-2, rel=0.02)


def test_moments_are_those_of_a_million_draws():
    for mixture in (uneven(), tilted()):
        z = drawn(mixture, 1_000_000)
        mean, covariance = mixture_moments(mixture)
        assert torch.allclose(z.mean(0), mean, atol=0.01)
        assert torch.allclose(z.T.cov(), covariance, atol=0.02)


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
            torch.stack([latent_terms(gaussian.sample((100,)), mixture)["cdf"] for _ in range(100)]).mean()
        )
    assert abs(values[math.sqrt(2)] - 1) < 0.1
    assert values[6.0] > 2


def test_class_conditional_codes_of_the_prior_give_one_on_average():
    mixture, batches = isotropic(axis_centres(4, 5, 6.0, std=0.5), 0.5), 400
    label = torch.tensor([0] * 20 + [1] * 5 + [2] * 2 + [3])  # long-tailed
    codes = sample_mixture(mixture, label.repeat(batches), generator()).view(batches, len(label), 5)
    terms = [class_latent_terms(z, label, mixture) for z in codes]
    for name in ("cdf", "covariance", "mean"):
        values = torch.stack([term[name] for term in terms])
        assert abs(values.mean() - 1) < 4 * values.std() / math.sqrt(batches), name
    swapped = class_latent_terms(codes[0], 3 - label, mixture)
    assert float(swapped["mean"]) == pytest.approx(1 + 7 * 3**2 / (5 * 0.5**2), rel=0.2)  # 7 codes a class, 6 std off
    assert swapped["cdf"] > 4 and abs(swapped["covariance"] - terms[0]["covariance"]) < 1e-3  # around their own means


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
    pairs = torch.randn(1000, 2, 10, 4, generator=generator(2))
    values = torch.stack([mmd(a, b, 8.0) for a, b in pairs])
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(1000)
    with pytest.raises(ValueError, match="two samples of one size, at least 2, got 1 and 1"):
        mmd(z[:1], prior[:1], 8.0)

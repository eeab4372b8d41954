import pytest
import torch

from mote.models.autoencoder import ImageAutoencoder
from mote.regularizers.gaussian_mixture import axis_centres, class_latent_terms, isotropic, latent_terms
from mote.tasks.autoencoder import AutoencoderTask

WEIGHTS = {"reconstruction": 10.0, "cdf": 1.0, "covariance": 2.0, "mean": 0.5, "kl": 3.0, "mmd": 4.0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(num: int = 24) -> dict[str, torch.Tensor]:
    images = torch.randint(0, 256, (num, 1, 8, 8), dtype=torch.uint8, generator=generator())
    return {"images": images, "label": torch.arange(num) % 3, "valid": torch.ones(num, dtype=torch.bool)}


def task(method: str = "gm", **options) -> AutoencoderTask:
    torch.manual_seed(0)
    codes = 8 if method == "vae" else 4
    prior = isotropic(axis_centres(3, 4)) if method in ("gm", "wae_mmd") else None
    options = {"weights": WEIGHTS, **options}
    return AutoencoderTask(ImageAutoencoder(size=8, latent=4, codes=codes, width=4), prior, method=method, **options)


@torch.no_grad()
def test_the_terms_are_the_weighted_ones_of_the_regularizer():
    for conditional in (False, True):
        built = task(conditional=conditional).eval()
        loss, terms = built(batch(), generator())
        z, x = built.model.encode(batch()["images"]).detach(), batch()["images"] / 255
        prior = isotropic(axis_centres(3, 4))
        wanted = class_latent_terms(z, batch()["label"], prior) if conditional else latent_terms(z, prior)
        for name in ("cdf", "covariance", "mean"):
            assert float(terms[name]) == pytest.approx(WEIGHTS[name] * float(wanted[name]), rel=1e-5)
        error = ((built.model.decode(z) - x) ** 2).mean().detach()
        assert float(terms["reconstruction"]) == pytest.approx(10 * float(error), rel=1e-5)
        assert float(loss.detach()) == pytest.approx(sum(float(term.detach()) for term in terms.values()), rel=1e-5)


@torch.no_grad()
def test_the_kl_is_that_of_torch_and_noise_comes_from_the_generator():
    built = task("vae").eval()
    _, terms = built(batch(), generator(1))
    mean, log_variance = built.model.encode(batch()["images"]).chunk(2, dim=1)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    wanted = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    assert float(terms["kl"]) == pytest.approx(3 * float(wanted), rel=1e-5)
    again, other = built(batch(), generator(1))[1], built(batch(), generator(2))[1]
    assert torch.equal(again["reconstruction"], terms["reconstruction"])
    assert not torch.equal(other["reconstruction"], terms["reconstruction"])


@pytest.mark.parametrize("method", ["gm", "ae", "vae", "wae_mmd"])
def test_every_method_trains_and_names_its_terms(method):
    built = task(method)
    optimizer = torch.optim.AdamW(built.parameters(), 1e-2)
    first = None
    for step in range(30):
        loss, terms = built(batch(), generator(step))
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in built.parameters())
        optimizer.step()
        first = first or terms
    names = {"gm": {"cdf", "covariance", "mean"}, "ae": set(), "vae": {"kl"}, "wae_mmd": {"mmd"}}
    assert first is not None and set(terms) == {"reconstruction"} | names[method]
    assert terms["reconstruction"] < first["reconstruction"]


@torch.no_grad()
def test_a_term_of_weight_zero_is_absent_and_an_invalid_picture_weighs_nothing():
    built = task(weights=WEIGHTS | {"mean": 0.0}).eval()
    assert set(built(batch(), generator())[1]) == {"reconstruction", "cdf", "covariance"}
    marked = batch()
    marked["images"][5] = 255
    marked["valid"][5] = False
    rest = {name: torch.cat([value[:5], value[6:]]) for name, value in batch().items()}
    assert float(built(marked, generator())[0]) == pytest.approx(float(built(rest, generator())[0]), rel=1e-6)


def test_mistakes_are_named():
    model = ImageAutoencoder(size=8, latent=4, width=4)
    with pytest.raises(ValueError, match="unknown method 'gan'"):
        AutoencoderTask(model, method="gan", weights=WEIGHTS)
    with pytest.raises(ValueError, match="method gm needs a prior"):
        AutoencoderTask(model, weights=WEIGHTS)
    with pytest.raises(ValueError, match="method ae takes no prior"):
        AutoencoderTask(model, isotropic(axis_centres(3, 4)), method="ae", weights=WEIGHTS)
    with pytest.raises(ValueError, match="must not be negative: cdf"):
        AutoencoderTask(model, method="ae", weights=WEIGHTS | {"cdf": -1.0})


def test_the_error_is_summed_in_single_precision_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        _, terms = task().eval()(batch(), generator())
    assert terms["reconstruction"].dtype == torch.float32


@torch.no_grad()
def test_errors_of_pictures_in_half_precision_are_squared_in_single_precision():
    """Decoded in bf16, which has three digits; the target and the squares have all of theirs."""
    built = task("ae", weights=WEIGHTS).eval()
    images = batch()["images"]
    with torch.autocast("cpu", torch.bfloat16):
        decoded = built.model.decode(built.model.encode(images).float())
        _, terms = built(batch(), generator())
    assert decoded.dtype == torch.bfloat16
    wanted = 10 * (decoded.double() - images.double() / 255).square().mean()
    assert float(terms["reconstruction"]) == pytest.approx(float(wanted), rel=1e-6)

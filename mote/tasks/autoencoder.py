"""Autoencoders whose codes should follow a prior, from which samples are then drawn.

    reconstruction = reconstruction_weight * mean (x - D(z))^2, over all numbers of the batch

| method | z | latent terms, weighted | source |
|---|---|---|---|
| gm | E(x) | cdf, covariance, mean of `regularizers.gaussian_mixture`; `conditional`: by class | Saseendran 2021 |
| ae | E(x) | none; a mixture is fitted to the codes afterwards | Ghosh 2020 |
| vae | m + e^(l/2) eps, (m, l) = E(x) | kl = kl_weight * mean_b KL(N(m, diag e^l) || N(0, I)), nats | Kingma 2014 |
| wae_mmd | E(x) | mmd = mmd_weight * MMD^2(z, draws of the mixture) of `regularizers.mmd` | Tolstikhin 2018 |

The latent terms of gm are over their value for a perfect encoder: with weight 1 they are read against 1. They are of
the codes of one forward pass, so each accumulation step matches the prior on its own part of the batch.
Draws come from the step's generator, so a resumed run repeats them. A term of weight 0 is absent and costs nothing.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mote.models.autoencoder import ImageAutoencoder, sample_posterior
from mote.regularizers.gaussian_mixture import (
    Mixture,
    class_latent_terms,
    draw_modes,
    latent_terms,
    mixture_moments,
    sample_mixture,
)
from mote.regularizers.mmd import mmd

METHODS = ("gm", "ae", "vae", "wae_mmd")


class AutoencoderTask(nn.Module):
    """batch, generator -> (loss, terms).

    Args:
        model: the network; for a vae with 2 d codes.
        prior: what gm and wae_mmd match; None for the others.
        method: of the table above.
        conditional: gm: mode = label.
        weights: `reconstruction` and those of the method's latent terms by name.

    Raises:
        ValueError: an unknown method, one without the prior it needs, or a negative weight.
    """

    def __init__(
        self,
        model: ImageAutoencoder,
        prior: Mixture | None = None,
        *,
        method: str = "gm",
        conditional: bool = False,
        weights: Mapping[str, float],
    ):
        super().__init__()
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
        if (prior is None) == (method in ("gm", "wae_mmd")):
            raise ValueError(f"method {method} {'needs a prior' if prior is None else 'takes no prior'}")
        if negative := [name for name, weight in weights.items() if weight < 0]:
            raise ValueError(f"loss weights must not be negative: {', '.join(negative)}")
        self.model, self.method, self.conditional, self.weights = model, method, conditional, dict(weights)
        for name, value in (prior._asdict() if prior is not None else {}).items():
            self.register_buffer(name, value.detach().float().clone())

    @property
    def prior(self) -> Mixture | None:
        """The mixture of gm and wae_mmd, where the model is."""
        return Mixture(*map(self.get_buffer, Mixture._fields)) if self.method in ("gm", "wae_mmd") else None

    def forward(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its already weighted terms (scalars), all differentiable.

        Args:
            batch: `images` (B, C, S, S); `label` (B,) where conditional; optionally `valid`.
            generator: of a vae's noise and wae_mmd's draws, on the CPU.
        """
        images, valid = batch["images"], batch.get("valid")
        if valid is not None and not valid.all():
            batch, images = {**batch, "label": batch["label"][valid]}, images[valid]
        codes = self.model.encode(images)
        with torch.autocast(codes.device.type, enabled=False):  # statistics of the batch want all their digits
            z, terms = self._latent(codes.float(), batch, generator)
        errors = (self.model.decode(z).float() - self.model.target(images)).square()
        terms = {"reconstruction": errors.mean(), **terms}
        weighted = {name: self.weights[name] * value for name, value in terms.items() if self.weights[name]}
        return torch.stack(list(weighted.values())).sum(), weighted

    def predict(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Reconstructions of `images` (B, C, S, S); a vae's from the means of its codes."""
        codes = self.model.encode(batch["images"])
        return self.model.decode(codes.chunk(2, dim=1)[0] if self.method == "vae" else codes)

    def _latent(
        self, codes: Float[Tensor, "B codes"], batch: Mapping[str, Tensor], generator: torch.Generator
    ) -> tuple[Float[Tensor, "B d"], dict[str, Tensor]]:
        """What the decoder gets, and the terms of the method."""
        prior = self.prior
        if self.method == "vae":
            z, mean, log_variance = sample_posterior(codes, generator)
            kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
            return z, {"kl": kl.mean()}
        if prior is None:
            return codes, {}
        if self.method == "wae_mmd":
            draws = sample_mixture(prior, draw_modes(prior, len(codes), generator).to(codes.device), generator)
            distance = 2 * float(mixture_moments(prior)[1].trace())
            return codes, {"mmd": mmd(codes, draws, distance)}
        if not any(self.weights[name] for name in ("cdf", "covariance", "mean")):
            return codes, {}
        return codes, class_latent_terms(codes, batch["label"], prior) if self.conditional else latent_terms(
            codes, prior
        )

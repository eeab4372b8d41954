"""Classification of still images, with R-Drop where it is wanted.

    ce     = mean_b CE(logits_b, target_b)                 (with R-Drop: the sum of both passes, L_NLL of its eq. 3)
    r_drop = r_drop_weight * mean_b L_KL                   see `regularizers.r_drop`

The two passes of R-Drop are one pass over [x; x], as in its algorithm 1: dropout draws for every row of a batch. A
batch that was mixed (see `mote.datasets.mixing`) brings its soft `target` and is mixed once, for both passes.
A term of weight 0 is absent and costs nothing. Images with `valid` false weigh nothing.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mote.regularizers.r_drop import check_noise, symmetric_kl


class ImageTask(nn.Module):
    """batch, generator -> (loss, terms).

    Args:
        model: images (B, C, H, W), uint8 or floats in 0..255 -> logits (B, K).
        r_drop_weight: alpha, >= 0.
        r_drop_temperature: of the KL, > 0.

    Raises:
        ValueError: a negative weight; at the first batch, R-Drop on a network without dropout.
    """

    def __init__(self, model: nn.Module, *, r_drop_weight: float = 0.0, r_drop_temperature: float = 1.0):
        super().__init__()
        if r_drop_weight < 0:
            raise ValueError(f"loss weights must not be negative: {r_drop_weight=}")
        self.model = model
        self.r_drop_weight, self.r_drop_temperature = r_drop_weight, r_drop_temperature

    def forward(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its already weighted terms (scalars), all differentiable.

        Args:
            batch: `images`, `label` (B,) int64 or `target` (B, K), which goes first, and optionally `valid` (B,) bool.
            generator: of the routing; not used, an image network has none.
        """
        images, label = batch["images"], batch["label"]
        target = batch.get("target", label)
        weight = batch.get("valid", torch.ones_like(label, dtype=torch.bool)).float()
        weight = weight / weight.sum().clamp(min=1)  # (B,), a mean over the valid images
        if not self.r_drop_weight:
            loss = (weight * F.cross_entropy(self.model(images).float(), target, reduction="none")).sum()
            return loss, {"ce": loss}
        first, second = self.model(images.repeat(2, 1, 1, 1)).float().chunk(2)  # (B, K) each
        if self.training:
            check_noise(first, second)
        ce = F.cross_entropy(first, target, reduction="none") + F.cross_entropy(second, target, reduction="none")
        kl = symmetric_kl(first, second, self.r_drop_temperature)
        terms = {"ce": (weight * ce).sum(), "r_drop": self.r_drop_weight * (weight * kl).sum()}
        return torch.stack(list(terms.values())).sum(), terms

    @torch.no_grad()
    def predict(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "B K"]:
        """Logits."""
        return self.model(batch["images"])

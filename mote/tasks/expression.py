"""Classification of faces whose classes are very unequal in number: re-balanced losses, and mined extra knowledge.

Losses and maps: `tasks.long_tail`. With x' the mirrored images, M and M' the class activation maps of both (head
detached) and q the target, smoothed where that is wanted:

    ce        = mean_b loss(logits_b, q_b)                          (with R-Drop: the sum of both passes)
    attention = strength * mean_b RAC(M_b, M'_b)                    Lambda of the note on normalised weights
    r_drop    = r_drop_weight * mean_b L_KL                         see `regularizers.r_drop`

The mirror is taken of the images as they come, after all augmentation and mixing, and goes through the network in the
same call, so that under data parallelism a step is one forward pass. It is seen by `attention` only. What R-Drop
draws twice is the dropout before the head; the network below runs once. A term of weight 0 is absent and costs nothing.
Images with `valid` false weigh nothing. The classes must not change under mirroring (left and right do).
"""

from collections.abc import Mapping
from typing import Any, Protocol, cast

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn

from mote.regularizers.r_drop import check_noise, symmetric_kl
from mote.tasks.long_tail import LongTailLoss


class MapModel(Protocol):
    """A network with a feature map: `models.image_nets.ImageClassifier` or `models.feature_maps.CLIPImages`."""

    @property
    def scale(self) -> float | Tensor:
        """Multiplier of the cosines that the logits are; 1 for other logits."""
        ...

    def encode(self, images: Tensor) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D h w"]]:
        """Pooled features and feature map of images."""
        ...

    def classify(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Logits of pooled features."""
        ...

    def directions(self) -> Float[Tensor, "K D"]:
        """Class vectors, whose products with the feature map are the class activation maps."""
        ...


class ExpressionTask(nn.Module):
    """batch, generator -> (loss, terms).

    Args:
        model: a network with a feature map, see `MapModel`.
        counts: training samples of every class, as of `long_tail.checked_counts`.
        head_only: only the head is trained: the network below stays in evaluation mode.
        r_drop_weight, r_drop_temperature: see `tasks.image`.
        correction: what `LongTailLoss` takes; the scale of ldam is the model's.

    Raises:
        ValueError: an unknown loss, a negative weight, epsilon outside [0, 1]; at the first batch, R-Drop without
            dropout.
    """

    def __init__(
        self,
        model: nn.Module,
        counts: Real[Tensor, "K"],
        *,
        head_only: bool = False,
        r_drop_weight: float = 0.0,
        r_drop_temperature: float = 1.0,
        **correction: Any,
    ):
        super().__init__()
        if r_drop_weight < 0:
            raise ValueError(f"loss weights must not be negative: {r_drop_weight=}")
        self.model, self.head_only = model, head_only
        self.long_tail = LongTailLoss(counts, **correction)
        self.r_drop_weight, self.r_drop_temperature = r_drop_weight, r_drop_temperature

    def train(self, mode: bool = True) -> "ExpressionTask":
        """Switch training mode, of the head alone where only that is trained."""
        super().train(mode)
        if self.head_only:
            self.model.eval()
        return self

    def forward(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its already weighted terms (scalars), all differentiable.

        Args:
            batch: `images`, `label` (B,) int64 or `target` (B, K), which goes first, and optionally `valid` (B,) bool.
            generator: of the routing; not used, an image network has none.
        """
        model = cast(MapModel, self.model)
        images, label = batch["images"], batch["label"]
        target = batch.get("target", label)
        weight = batch.get("valid", torch.ones_like(label, dtype=torch.bool)).float()
        weight = weight / weight.sum().clamp(min=1)  # (B,), a mean over the valid images
        pooled, features = model.encode(torch.cat([images, images.flip(-1)]) if self.long_tail.strength else images)
        pooled = pooled[: len(images)]
        first = model.classify(pooled).float()
        terms = {"ce": (weight * self.long_tail(first, target, model.scale)).sum()}
        if self.r_drop_weight:
            second = model.classify(pooled).float()
            if self.training:
                check_noise(first, second)
            terms["ce"] = terms["ce"] + (weight * self.long_tail(second, target, model.scale)).sum()
            kl = symmetric_kl(first, second, self.r_drop_temperature)
            terms["r_drop"] = self.r_drop_weight * (weight * kl).sum()
        if self.long_tail.strength:
            terms["attention"] = (weight * self.long_tail.consistency(features, model.directions())).sum()
        return torch.stack(list(terms.values())).sum(), terms

    @torch.no_grad()
    def predict(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "B K"]:
        """Logits."""
        return self.model(batch["images"])

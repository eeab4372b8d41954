"""Classification of faces whose classes are very unequal in number: re-balanced losses, and mined extra knowledge.

Paper of MEK: see ``regularizers.extra_knowledge``; the other losses: ``regularizers.long_tail``. With x' the mirrored
images, M and M' the class activation maps of both (head detached) and q the target, smoothed where that is wanted:

    ce        = mean_b loss(logits_b, q_b)                          (with R-Drop: the sum of both passes)
    attention = strength * mean_b RAC(M_b, M'_b)                    Lambda of the note on normalised weights
    r_drop    = r_drop_weight * mean_b L_KL                         see ``regularizers.r_drop``

The mirror is taken of the images as they come, after all augmentation and mixing, and goes through the network in the
same call, so that under data parallelism a step is one forward pass. It is seen by ``attention`` only. What R-Drop
draws twice is the dropout before the head; the network below runs once. A term of weight 0 is absent and costs nothing.
Images with ``valid`` false weigh nothing. The classes must not change under mirroring (left and right do).
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn

from mote.regularizers.extra_knowledge import (
    attention_consistency,
    class_activation_maps,
    class_weights,
    smooth_label_matrix,
    soft_targets,
)
from mote.regularizers.long_tail import LOSSES, effective_number_weights
from mote.regularizers.r_drop import check_noise, symmetric_kl


class MapModel(Protocol):
    """What the task needs of a network; ``models.image_nets.ImageClassifier`` and ``models.feature_maps.ClipImages``.

    encode: images -> (pooled features (B, D), feature map (B, D, h, w)); classify: pooled features -> logits (B, K);
    directions: (K, D), whose products with the map are the class activation maps; scale: of the logits.
    """

    scale: Any
    encode: Any
    classify: Any
    directions: Any


class ExpressionTask(nn.Module):
    """batch, generator -> (loss, terms).

    Args:
        model: a network with a feature map, see ``MapModel``.
        counts: training samples of every class, as of ``long_tail.checked_counts``.
        loss: a name of ``long_tail.LOSSES``; of ``ldam`` the scale is the model's.
        options: keyword arguments of that loss.
        epsilon: of the re-balanced smooth labels; 0 leaves the targets as they are.
        strength: Lambda of the attention consistency, >= 0.
        rebalanced: its weights go with 1 / n_c (MEK); else all are equal (EAC).
        head_only: only the head is trained: the network below stays in evaluation mode.
        r_drop_weight, r_drop_temperature: see ``tasks.image``.

    Raises:
        ValueError: an unknown loss, a negative weight, epsilon outside [0, 1]; at the first batch, R-Drop without
            dropout.
    """

    counts: Tensor
    weight: Tensor
    smooth: Tensor
    late_weight: Tensor
    deferred: Tensor

    def __init__(
        self,
        model: nn.Module,
        counts: Real[Tensor, "K"],
        *,
        loss: str = "ce",
        options: Mapping[str, float] | None = None,
        epsilon: float = 0.0,
        strength: float = 0.0,
        rebalanced: bool = True,
        head_only: bool = False,
        r_drop_weight: float = 0.0,
        r_drop_temperature: float = 1.0,
    ):
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"unknown loss {loss!r}; choose one of {', '.join(LOSSES)}")
        if r_drop_weight < 0 or strength < 0:
            raise ValueError(f"loss weights must not be negative: {strength=}, {r_drop_weight=}")
        self.model, self.loss, self.options = model, loss, dict(options or {})
        self.epsilon, self.strength, self.head_only = epsilon, strength, head_only
        self.r_drop_weight, self.r_drop_temperature = r_drop_weight, r_drop_temperature
        weight = class_weights(counts)
        late = effective_number_weights(counts, self.options.pop("beta", 0.0)) if loss == "ldam" else weight
        for name, value in (
            ("counts", counts),
            ("weight", (weight if rebalanced else torch.ones_like(weight)).float()),
            ("smooth", smooth_label_matrix(weight, epsilon).float()),
            ("late_weight", late.float()),
        ):
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("deferred", torch.tensor(False))  # whether the deferred weights of ldam count now

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
        model: Any = self.model
        images, label = batch["images"], batch["label"]
        target = batch.get("target", label)
        weight = batch.get("valid", torch.ones_like(label, dtype=torch.bool)).float()
        weight = weight / weight.sum().clamp(min=1)  # (B,), a mean over the valid images
        pooled, features = model.encode(torch.cat([images, images.flip(-1)]) if self.strength else images)
        pooled = pooled[: len(images)]
        first = model.classify(pooled).float()
        terms = {"ce": (weight * self.losses(first, target)).sum()}
        if self.r_drop_weight:
            second = model.classify(pooled).float()
            if self.training:
                check_noise(first, second)
            terms["ce"] = terms["ce"] + (weight * self.losses(second, target)).sum()
            kl = symmetric_kl(first, second, self.r_drop_temperature)
            terms["r_drop"] = self.r_drop_weight * (weight * kl).sum()
        if self.strength:
            terms["attention"] = (weight * self.consistency(features)).sum()
        return torch.stack(list(terms.values())).sum(), terms

    def losses(self, logits: Float[Tensor, "B K"], target: Tensor) -> Float[Tensor, "B"]:
        """The loss of every sample; `target`: labels (B,) or probabilities (B, K)."""
        if self.epsilon:
            target = soft_targets(target, self.smooth)
        options: dict[str, Any] = dict(self.options)
        if self.loss == "ldam":
            weight = torch.where(self.deferred, self.late_weight, 1.0)
            options |= {"scale": self.model.scale, "weight": weight}
        return LOSSES[self.loss](logits, target, self.counts, **options)

    def consistency(self, features: Float[Tensor, "two_B D h w"]) -> Float[Tensor, "B"]:
        """RAC of every sample from the feature maps of images and, behind them, their mirrored twins; in float32."""
        model: Any = self.model
        with torch.autocast(features.device.type, enabled=False):
            maps, mirrored = class_activation_maps(features.float(), model.directions().float()).chunk(2)
            return attention_consistency(maps, mirrored, self.weight, self.strength)

    @torch.no_grad()
    def predict(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "B K"]:
        """Logits."""
        return self.model(batch["images"])


class Deferral:
    """Deferred re-weighting (Cao et al. 2019): after ``start`` of all updates the task's deferred weights count.

    Called after every update, see ``training.step.AfterUpdate``; the task's buffer resumes with its weights.
    """

    def __init__(self, task: ExpressionTask, start: float):
        self.task, self.start = task, start

    def __call__(self, optimizer: Any, fraction: float) -> dict[str, float]:
        """Switch over where it is time; `fraction` of all updates were made before this one."""
        self.task.deferred.fill_(fraction >= self.start)
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the buffer is the state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing."""

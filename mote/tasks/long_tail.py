"""The loss of every sample where classes are very unequal in number: what the tasks for faces and for clips share.

Losses: `regularizers.long_tail`; smooth labels and attention consistency: `regularizers.extra_knowledge`
(MEK, Zhang et al., NeurIPS 2023). A target that is soft already, as mixed samples have it, is smoothed class by class:
smoothing is linear, so this is the mixture of the smoothed labels, and nothing is mixed twice.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Real, Shaped
from torch import Tensor, nn

from mote.regularizers.extra_knowledge import (
    attention_consistency,
    class_activation_maps,
    class_weights,
    smooth_label_matrix,
    soft_targets,
)
from mote.regularizers.long_tail import LOSSES, effective_number_weights


class LongTailLoss(nn.Module):
    """logits, targets, scale -> the loss of every sample; its buffers are all it has.

    Args:
        counts: training samples of every class, as of `long_tail.checked_counts`.
        loss: a name of `long_tail.LOSSES`.
        options: keyword arguments of that loss.
        epsilon: of the re-balanced smooth labels; 0 leaves the targets as they are.
        strength: Lambda of the attention consistency, >= 0; 0: the task computes no map.
        rebalanced: its weights go with 1 / n_c (MEK); else all are equal (EAC).

    Raises:
        ValueError: an unknown loss, a negative strength, epsilon outside [0, 1].
    """

    counts: Tensor
    weight: Tensor
    smooth: Tensor
    late_weight: Tensor
    deferred: Tensor

    def __init__(
        self,
        counts: Real[Tensor, "K"],
        *,
        loss: str = "ce",
        options: Mapping[str, float] | None = None,
        epsilon: float = 0.0,
        strength: float = 0.0,
        rebalanced: bool = True,
    ):
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"unknown loss {loss!r}; choose one of {', '.join(LOSSES)}")
        if strength < 0:
            raise ValueError(f"loss weights must not be negative: {strength=}")
        self.loss, self.options = loss, dict(options or {})
        self.epsilon, self.strength = epsilon, strength
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

    def forward(
        self, logits: Float[Tensor, "B K"], target: Shaped[Tensor, "B *K"], scale: float | Tensor = 1.0
    ) -> Float[Tensor, "B"]:
        """The loss of every sample.

        Args:
            logits: of the head, scale included.
            target: labels (B,) or probabilities (B, K).
            scale: multiplier of the cosines of a cosine head, for the margins of ldam.
        """
        if self.epsilon:
            target = soft_targets(target, self.smooth)
        options: dict[str, object] = dict(self.options)
        if self.loss == "ldam":
            options |= {"scale": scale, "weight": torch.where(self.deferred, self.late_weight, 1.0)}
        return LOSSES[self.loss](logits, target, self.counts, **options)

    def consistency(
        self, features: Float[Tensor, "two_B *T D h w"], directions: Float[Tensor, "K D"]
    ) -> Float[Tensor, "B"]:
        """RAC of every sample, in float32.

        Args:
            features: maps of the samples and, behind them, of their mirrored twins.
            directions: weights of the head, or class features; they get no gradient.
        """
        with torch.autocast(features.device.type, enabled=False):
            maps, mirrored = class_activation_maps(features.float(), directions.float()).chunk(2)
            return attention_consistency(maps, mirrored, self.weight, self.strength)


class Deferral:
    """Deferred re-weighting (Cao et al. 2019): after `start` of all updates the deferred weights count.

    Called after every update, see `training.step.AfterUpdate`; the loss's buffer resumes with its weights.
    """

    def __init__(self, loss: LongTailLoss, start: float):
        self.loss, self.start = loss, start

    def __call__(self, optimizer: object, fraction: float) -> dict[str, float]:
        """Switch over where it is time; `fraction` of all updates were made before this one."""
        self.loss.deferred.fill_(fraction >= self.start)
        return {}

    def state_dict(self) -> dict[str, object]:
        """Empty: the state is a buffer of the loss, which is saved with the weights."""
        return {}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Nothing to do, see `state_dict`."""

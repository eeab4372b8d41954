"""Video classification with a mixture of temporal experts and weight-merging regularisation.

Paper: MoTE (Zhu et al., NeurIPS 2024), eq. 5 to 10. With e the frame features of a batch (CLIP runs once), r a routing
of one expert per layer and m a random merge, both drawn once per forward pass:

    ce        = CE(classify(head(e, r)))                                      L_TE
    merged_ce = merged_weight * CE(classify(head(e, m)))                      lambda * L_WMR, lambda = 0.5
    anchor    = anchor_weight * anchor_loss(e, head(e, m))                    eta * L_MSE,    eta = 0.1
    loss      = ce + merged_ce + anchor

A term of weight 0 is absent and costs nothing. With one expert both passes are the same: there is no `merged_ce`, and
the anchor reads the only pass. Without a temporal head there is `ce` alone. Where the text tower is tuned too
(`class_features`), the class features of both cross-entropies are computed once per forward pass, with gradient. Clips
with `valid` false weigh nothing: every term is the mean over the valid clips of the batch, and zero where there are
none.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from mote.models.clip import ClassFeatures
from mote.models.routing import DEFAULT_TEMPERATURES, one_expert, random_merge
from mote.models.video_clip import VideoCLIP
from mote.regularizers.weight_merging import anchor_loss


class VideoTask(nn.Module):
    """batch, generator -> (loss, terms).

    Args:
        model: the trained model.
        text: (K, D) L2-normalised class features, fixed.
        class_features: in the place of `text` where the text tower is tuned.
        merged_weight, anchor_weight: >= 0, see above.
        anchor: form of the anchor, "released" or "paper".
        route_temperature: of the routing draw.
        merge_temperatures: set from which the merge temperature of each layer is drawn.

    Raises:
        ValueError: a negative weight, a text width that is not the model's.
    """

    text: Tensor

    def __init__(
        self,
        model: VideoCLIP,
        text: Float[Tensor, "K D"],
        *,
        class_features: ClassFeatures | None = None,
        merged_weight: float = 0.5,
        anchor_weight: float = 0.1,
        anchor: str = "released",
        route_temperature: float = 1.0,
        merge_temperatures: Sequence[float] = DEFAULT_TEMPERATURES,
    ):
        super().__init__()
        if merged_weight < 0 or anchor_weight < 0:
            raise ValueError(f"loss weights must not be negative: {merged_weight=}, {anchor_weight=}")
        if text.shape[1] != model.embed_dim:
            raise ValueError(f"class features have width {text.shape[1]}, the model {model.embed_dim}; use one CLIP")
        self.model, self.class_features = model, class_features
        self.register_buffer("text", text.detach().clone())
        self.merged_weight, self.anchor_weight, self.anchor = merged_weight, anchor_weight, anchor
        self.route_temperature, self.merge_temperatures = route_temperature, tuple(merge_temperatures)

    def class_text(self) -> Float[Tensor, "K D"]:
        """Class features as they are now; computed, with gradient, where the text tower is tuned."""
        return self.text if self.class_features is None else self.class_features()

    def features(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "B T D"]:
        """Frame features of a batch: its cached `features`, or its `frames` (B, T, 3, H, W) uint8 through CLIP."""
        return batch["features"] if "features" in batch else self.model.encode_frames(batch["frames"])

    def forward(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its already weighted terms (scalars), all differentiable.

        Args:
            batch: `frames` or `features`, `label` (B,) int64 in 0..K-1, and optionally `valid` (B,) bool.
            generator: on the CPU; routing is drawn from it, once for the whole batch.
        """
        features, label, text = self.features(batch), batch["label"], self.class_text()
        valid = batch.get("valid", torch.ones_like(label, dtype=torch.bool))
        layers, experts = self.model.num_layers, self.model.num_experts
        draws = []
        if experts > 1:
            draws.append(self.model.routing(lambda rows, e: one_expert(rows, e, generator, self.route_temperature)))
        if experts > 1 and (self.merged_weight or self.anchor_weight):
            draws.append(self.model.routing(lambda rows, e: random_merge(rows, e, generator, self.merge_temperatures)))
        # Both passes in one call of the head, (R, B, T, D); with at most one draw `merged` is the only pass.
        passes = self.model.head(features, torch.stack(draws)) if draws else self.model.head(features)[None]
        video, merged = passes[0], passes[-1]
        terms = {"ce": self.cross_entropy(video, text, label, valid)}
        if experts > 1 and self.merged_weight:
            terms["merged_ce"] = self.merged_weight * self.cross_entropy(merged, text, label, valid)
        if layers and self.anchor_weight:
            terms["anchor"] = self.anchor_weight * self.anchor_term(features, merged, valid)
        return torch.stack(list(terms.values())).sum(), terms

    def cross_entropy(
        self,
        video: Float[Tensor, "B T D"],
        text: Float[Tensor, "K D"],
        label: Int64[Tensor, "B"],
        valid: Bool[Tensor, "B"],
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy over the valid clips; zero where there are none."""
        losses = F.cross_entropy(self.model.classify(video, text), label, reduction="none")  # (B,)
        return (losses * valid).sum() / valid.sum().clamp(min=1)

    def anchor_term(
        self, features: Float[Tensor, "B T D"], merged: Float[Tensor, "B T D"], valid: Bool[Tensor, "B"]
    ) -> Float[Tensor, ""]:
        """Anchor of the valid clips: an invalid clip is made equal to its anchor, then the mean is rescaled."""
        merged = torch.where(valid[:, None, None], merged, features)  # (B, T, D)
        return anchor_loss(features, merged, self.anchor) * (len(valid) / valid.sum().clamp(min=1))

    @torch.no_grad()
    def predict(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "B K"]:
        """Logits with the experts merged uniformly."""
        return self.model.classify(self.model.head(self.features(batch)), self.class_text())

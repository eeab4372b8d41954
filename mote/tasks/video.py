"""Video classification with a mixture of temporal experts and weight-merging regularisation.

Paper: MoTE (Zhu et al., NeurIPS 2024), eq. 5 to 10. With e the frame features of a batch (CLIP runs once), r a routing
of one expert per layer and m a random merge, both drawn once per forward pass:

    ce        = CE(classify(head(e, r)))                                      L_TE
    merged_ce = merged_weight * CE(classify(head(e, m)))                      lambda * L_WMR, lambda = 0.5
    anchor    = anchor_weight * anchor_loss(e, head(e, m))                    eta * L_MSE,    eta = 0.1
    r_drop    = r_drop_weight * mean symmetric_kl(classify(head(e, r)), classify(head(e, r2)))    alpha * L_KL
    loss      = ce + merged_ce + anchor + r_drop

Two ablations of the paper change this. With routing="all" (table 2a, "all data to every expert") no expert is drawn:
the batch goes through each of them, pass i through expert i of every layer, and `ce` is the mean over these E passes
(the paper does not say how layers are combined). With merged="kl" or "mse" (table 7c) the merged pass learns from the
routed one in the place of the labels:

    merged_kl  = merged_weight * mean KL(P_routed || P_merged)                P = softmax of the logits
    merged_mse = merged_weight * anchor_loss(head(e, r), head(e, m))          in the form of the anchor

The routed pass is the target and gets no gradient from it (the paper names the losses only).

A term of weight 0 is absent and costs nothing. With one expert both passes are the same: there is no merged term, and
the anchor reads the only pass. Without a temporal head there is `ce` alone. Where the text tower is tuned too
(`class_features`), the class features of all cross-entropies are computed once per forward pass, with gradient. Clips
with `valid` false weigh nothing: every term is the mean over the valid clips of the batch, and zero where there are
none. A batch that was mixed (see `mote.datasets.mixing`) brings its soft `target`.

R-Drop (see `regularizers.r_drop`) takes a second, independent routing r2 over the same frame features, so it costs a
pass of the head and none of CLIP; `ce` is then the sum over both passes, L_NLL of its eq. 3. What is random between
the passes is the routing alone: the towers' features are shared and the head has no dropout. In a step where r2 happens
to equal r the term is zero.

Where classes are very unequal in number, `long_tail` (see `tasks.long_tail`; MEK, Zhang et al., NeurIPS 2023, here
for clips) takes the place of every CE above: of the routed pass, of the merged one, and of R-Drop's second one. Its
attention consistency adds one term. With F the normalised patch tokens of every frame in the joint space, from the CLIP
tower alone, F' those of the mirrored clip (all frames together), and y_k detached:

    M[b,t,k,h,w] = <F[b,t,:,h,w], y_k>        attention = strength * mean_b RAC(M_b, M'_b)

M are cosines, without the logit scale, and frames are averaged like pixels. The mirror is taken of the frames as they
come, after all augmentation and mixing, and goes through the tower in the same call; the temporal head, the losses and
the anchor see the clip as it is. No routing has part in it, and neither has the temporal head: only the tower learns
from it. The classes must not change under mirroring (moving left does).
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from mote.models.clip import ClassFeatures
from mote.models.feature_maps import frame_maps
from mote.models.routing import DEFAULT_TEMPERATURES, draw_depth, one_expert, random_merge, same_expert
from mote.models.video_clip import VideoCLIP
from mote.regularizers.r_drop import symmetric_kl
from mote.regularizers.weight_merging import anchor_loss
from mote.tasks.long_tail import LongTailLoss


class VideoTask(nn.Module):
    """batch, generator -> (loss, terms).

    Args:
        model: the trained model.
        text: (K, D) L2-normalised class features, fixed.
        class_features: in the place of `text` where the text tower is tuned.
        merged_weight, anchor_weight: >= 0, see above.
        anchor: form of the anchor, "released" or "paper".
        routing: "one" expert a layer is drawn, or "all" are run.
        merged: loss of the merged pass, "ce", "kl" or "mse".
        route_temperature: of the routing draw.
        merge_temperatures: set from which the merge temperature of each layer is drawn.
        r_drop_weight: alpha, >= 0; 0 runs no second pass.
        r_drop_temperature: > 0, divides the logits inside the KL.
        drop_path: probability that a part of a temporal layer is left out of a step, see `draw_depth`; in [0, 1).
        long_tail: in the place of cross-entropy, see above; with maps, batches must have `frames`, and the tower be one
            of `feature_maps.frame_maps`.

    Raises:
        ValueError: a negative weight, an unknown loss or routing, a text width that is not the model's, R-Drop where no
            routing is drawn.
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
        routing: str = "one",
        merged: str = "ce",
        route_temperature: float = 1.0,
        merge_temperatures: Sequence[float] = DEFAULT_TEMPERATURES,
        r_drop_weight: float = 0.0,
        r_drop_temperature: float = 1.0,
        long_tail: LongTailLoss | None = None,
        drop_path: float = 0.0,
    ):
        super().__init__()
        if merged_weight < 0 or anchor_weight < 0 or r_drop_weight < 0:
            raise ValueError(f"loss weights must not be negative: {merged_weight=}, {anchor_weight=}, {r_drop_weight=}")
        if routing not in ("one", "all") or merged not in ("ce", "kl", "mse"):
            raise ValueError(f"expected routing one or all, merged ce, kl or mse; got {routing=}, {merged=}")
        if r_drop_weight and (model.num_experts == 1 or routing == "all"):
            raise ValueError(
                "r_drop: its two passes would be identical, with one expert or all of them no routing is drawn; "
                "use model.experts > 1 and loss.routing=one, or set r_drop.weight=0"
            )
        if text.shape[1] != model.embed_dim:
            raise ValueError(f"class features have width {text.shape[1]}, the model {model.embed_dim}; use one CLIP")
        self.model, self.class_features, self.long_tail = model, class_features, long_tail
        self.register_buffer("text", text.detach().clone())
        self.merged_weight, self.anchor_weight, self.anchor = merged_weight, anchor_weight, anchor
        self.routing, self.merged = routing, merged
        self.route_temperature, self.merge_temperatures = route_temperature, tuple(merge_temperatures)
        self.r_drop_weight, self.r_drop_temperature = r_drop_weight, r_drop_temperature
        self.drop_path = drop_path

    def class_text(self) -> Float[Tensor, "K D"]:
        """Class features as they are now; computed, with gradient, where the text tower is tuned."""
        return self.text if self.class_features is None else self.class_features()

    def features(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "B T D"]:
        """Frame features of a batch: its cached `features`, or its `frames` (B, T, 3, H, W) uint8 through CLIP."""
        return batch["features"] if "features" in batch else self.model.encode_frames(batch["frames"])

    def forward(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its already weighted terms (scalars), all differentiable.

        Args:
            batch: `frames` or `features`, `label` (B,) int64 in 0..K-1 or `target` (B, K), which goes first, and
                optionally `valid` (B,) bool.
            generator: on the CPU; routing and what `drop_path` leaves out are drawn from it, once for the whole batch.
        """
        text = self.class_text()
        features, attention = self.with_consistency(batch, text)
        target = batch.get("target", batch["label"])
        valid = batch.get("valid", torch.ones_like(batch["label"], dtype=torch.bool))
        draws = self.draw(generator)
        # All passes in one call of the head, (R, B, T, D).
        rows = torch.cat(list(draws.values())) if draws else None
        layers = self.model.num_layers
        depth = draw_depth(layers, self.drop_path, generator) if layers and self.drop_path else None
        passes = self.model.head(features, rows, depth=depth)
        passes = passes[None] if rows is None else passes
        of = dict(zip(draws or ("routed",), passes.split([len(draw) for draw in draws.values()] or 1), strict=True))
        routed, merged = of["routed"], of.get("merged", of["routed"])[0]
        logits = [self.model.classify(video, text) for video in routed]
        terms = {"ce": torch.stack([self.cross_entropy(one, target, valid) for one in logits]).mean()}
        if "second" in of:
            second = self.model.classify(of["second"][0], text)
            terms["ce"] = terms["ce"] + self.cross_entropy(second, target, valid)
            kl = symmetric_kl(logits[0], second, self.r_drop_temperature)
            terms["r_drop"] = self.r_drop_weight * mean_over(kl, valid)
        if self.model.num_experts > 1 and self.merged_weight:
            if self.merged == "mse":
                losses = [self.anchor_term(video.detach(), merged, valid) for video in routed]
            else:
                own = self.model.classify(merged, text)
                learn = self.cross_entropy if self.merged == "ce" else self.divergence
                losses = [learn(own, one, valid) for one in ([target] if self.merged == "ce" else logits)]
            terms[f"merged_{self.merged}"] = self.merged_weight * torch.stack(losses).mean()
        if self.model.num_layers and self.anchor_weight:
            terms["anchor"] = self.anchor_weight * self.anchor_term(features, merged, valid)
        if attention is not None:
            terms["attention"] = mean_over(attention, valid)
        return torch.stack(list(terms.values())).sum(), terms

    def with_consistency(
        self, batch: Mapping[str, Tensor], text: Float[Tensor, "K D"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B"] | None]:
        """Frame features of a batch, and the attention consistency of every clip where it is wanted."""
        if self.long_tail is None or not self.long_tail.strength:
            return self.features(batch), None
        frames = batch["frames"]
        features, maps = frame_maps(self.model, torch.cat([frames, frames.flip(-1)]))
        return features[: len(frames)], self.long_tail.consistency(maps, text)

    def draw(self, generator: torch.Generator) -> dict[str, Float[Tensor, "R L E"]]:
        """The routings of one step by the name of their passes, in an order in which no draw moves another.

        R is 1, and for "routed" E where all experts are run.
        """
        draws: dict[str, Tensor] = {}
        if self.model.num_experts == 1:
            return draws

        def routed(rows: int, experts: int) -> Tensor:
            return one_expert(rows, experts, generator, self.route_temperature)

        def each(index: int) -> Tensor:
            return self.model.routing(lambda rows, experts: same_expert(rows, experts, index))

        every = self.routing == "all"
        chosen = [each(i) for i in range(self.model.num_experts)] if every else [self.model.routing(routed)]
        draws["routed"] = torch.stack(chosen)
        if self.merged_weight or self.anchor_weight:
            draws["merged"] = self.model.routing(
                lambda rows, e: random_merge(rows, e, generator, self.merge_temperatures)
            )[None]
        if self.r_drop_weight:
            draws["second"] = self.model.routing(routed)[None]
        return draws

    def cross_entropy(
        self, logits: Float[Tensor, "B K"], target: Int64[Tensor, "B"] | Float[Tensor, "B K"], valid: Bool[Tensor, "B"]
    ) -> Float[Tensor, ""]:
        """Mean over the valid clips of the cross-entropy, or of what takes its place; zero where there are none."""
        if self.long_tail is None:
            return mean_over(F.cross_entropy(logits, target, reduction="none"), valid)
        return mean_over(self.long_tail(logits, target, self.model.logit_scale.exp().detach()), valid)

    def divergence(
        self, logits: Float[Tensor, "B K"], target: Float[Tensor, "B K"], valid: Bool[Tensor, "B"]
    ) -> Float[Tensor, ""]:
        """Mean KL(softmax(target) || softmax(logits)) over the valid clips, in nats; no gradient for the target."""
        log_p, log_q = F.log_softmax(target.detach(), dim=-1), F.log_softmax(logits, dim=-1)
        return mean_over(F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(dim=-1), valid)

    def anchor_term(
        self, features: Float[Tensor, "B T D"], merged: Float[Tensor, "B T D"], valid: Bool[Tensor, "B"]
    ) -> Float[Tensor, ""]:
        """Anchor loss of the valid clips: an invalid clip is made equal to its anchor, then the mean is rescaled."""
        merged = torch.where(valid[:, None, None], merged, features)  # (B, T, D)
        return anchor_loss(features, merged, self.anchor) * (len(valid) / valid.sum().clamp(min=1))

    @torch.no_grad()
    def predict(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "B K"]:
        """Logits with the experts merged uniformly."""
        return self.model.classify(self.model.head(self.features(batch)), self.class_text())


def mean_over(values: Float[Tensor, "B"], valid: Bool[Tensor, "B"]) -> Float[Tensor, ""]:
    """Mean of the valid ones; zero where there are none."""
    return (values * valid).sum() / valid.sum().clamp(min=1)

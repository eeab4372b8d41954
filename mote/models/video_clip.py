"""A CLIP image tower with a temporal head: the trained part of every model of this package.

Paper: MoTE (Zhu et al., NeurIPS 2024), eq. 1 to 3. With f the visual tower, e_i = f(frame_i), h the temporal head, rho
the gate of temporal feature modulation and y_k the normalised text feature of class k:

    z = mean_i (e_i + rho * h(e)_i);   logit_k = exp(logit_scale) * <z / |z|, y_k>

The text tower is not part of the model: class features are computed once per vocabulary. Without a temporal head
(`temporal=None`) this is CLIP with mean pooling; with one expert it is the plain temporal transformer.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from mote.files.preprocessing import AS_CLIP, Preprocessing
from mote.models.open_clip_blocks import only_class_token
from mote.models.routing import uniform_merge
from mote.models.temporal import TemporalHead


class VideoCLIP(nn.Module):
    """Visual tower, temperature and temporal head.

    Args:
        visual: images (N, 3, S, S), normalised floats -> (N, D); its last block is changed, see
            `open_clip_blocks`.
        logit_scale: logarithm of the factor on the cosines, as in CLIP; copied, trainable.
        temporal: of width D; None is mean pooling.
        embed_dim: D.
        mean, std: statistics of the tower's pixels in [0, 1], three numbers each.
        preprocessing: how frames become the images of the tower.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        visual: nn.Module,
        logit_scale: Float[Tensor, ""],
        temporal: TemporalHead | None = None,
        *,
        embed_dim: int,
        mean: Sequence[float],
        std: Sequence[float],
        preprocessing: Preprocessing = AS_CLIP,
    ):
        super().__init__()
        only_class_token(visual)
        self.visual = visual
        self.logit_scale = nn.Parameter(logit_scale.detach().clone())
        self.temporal = temporal
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(value).view(3, 1, 1), persistent=False)
        self.embed_dim, self.preprocessing = embed_dim, preprocessing
        self.widths: dict[str, int] = {}  # what `narrow` left at each place where it took something
        self.gradient_checkpointing = False

    @property
    def num_layers(self) -> int:
        """L, 0 without a temporal head."""
        return 0 if self.temporal is None else len(self.temporal.blocks)

    @property
    def num_experts(self) -> int:
        """E, 1 without a temporal head and after folding."""
        return 1 if self.temporal is None else self.temporal.num_experts

    @property
    def expert_part(self) -> str:
        """What an expert is; "ffn" without a temporal head and after folding."""
        return "ffn" if self.temporal is None else self.temporal.expert_part

    def routing(self, rows: Callable[[int, int], Float[Tensor, "R E"]]) -> Float[Tensor, "L N"]:
        """The routing of all layers from a function of (number of rows, E): a row per layer, or two joined where both
        halves of the feed-forward networks are routed separately.
        """
        parts = 2 if self.expert_part == "separate" else 1
        return rows(self.num_layers * parts, self.num_experts).reshape(self.num_layers, -1)

    def encode_frames(self, frames: Num[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T D"]:
        """Frame features e, one call of the visual tower on all frames; pixels are normalised here, on the device.

        Pixels are uint8, or floats in the same range 0..255 (what mixing gives).
        """
        return self.visual(self.normalize_images(frames.flatten(0, 1))).unflatten(0, frames.shape[:2])

    def normalize_images(self, images: Num[Tensor, "N 3 H W"]) -> Float[Tensor, "N 3 H W"]:
        """Pixels in 0..255 as the visual tower takes them."""
        # The patch convolution decides the precision: towers in half precision keep other parameters in float32.
        parameters = list(self.visual.parameters())
        dtype = next((p.dtype for p in parameters if p.ndim == 4), parameters[0].dtype)
        return images.to(dtype, copy=True).div_(255).sub_(self.mean.to(dtype)).div_(self.std.to(dtype))

    def head(
        self,
        features: Float[Tensor, "B T D"],
        routing: Float[Tensor, "*passes L N"] | None = None,
        gate: int | float | Float[Tensor, "B"] = 1.0,
        depth: Float[Tensor, "L 2"] | None = None,
    ) -> Float[Tensor, "... B T D"]:
        """features + gate * h(features), with the experts merged by `routing` (None: uniformly).

        depth: parts of layers to leave out in training, see `TemporalHead.forward`.

        R routings (R, L, E) give R results (R, B, T, D), in less time than R calls. Without a temporal head the
        features come back as they are, once. Raises ValueError as `TemporalHead.forward`.
        """
        if self.temporal is None:
            return features
        if routing is None:
            routing = self.routing(uniform_merge)
        temporal = self.temporal(features, routing.to(features.device), depth)
        if isinstance(gate, Tensor):
            gate = gate[:, None, None]  # (B, 1, 1)
        return features + gate * temporal

    def classify(self, video: Float[Tensor, "B T D"], text: Float[Tensor, "K D"]) -> Float[Tensor, "B K"]:
        """Logits: exp(logit_scale) * cosine of the mean over frames with each row of `text` (L2-normalised).

        Computed in float32 also under autocast: at a scale of 100, bfloat16 cosines would err by 0.4.
        """
        with torch.autocast(video.device.type, enabled=False):
            pooled = self.pool(video)
            return self.logit_scale.exp() * pooled @ text.to(pooled.dtype).T

    def pool(self, video: Float[Tensor, "B T D"]) -> Float[Tensor, "B D"]:
        """What is compared with class features: the mean over frames, of length 1, in float32 also under autocast."""
        with torch.autocast(video.device.type, enabled=False):
            return F.normalize(video.to(torch.promote_types(video.dtype, torch.float32)).mean(dim=1), dim=-1)

    def fold(self, routing: Float[Tensor, "L N"] | None = None) -> "VideoCLIP":
        """The model with the experts merged for good into plain feed-forward networks (None: uniformly).

        Gives the outputs of `head(features, routing)` at the cost of one expert. All other parameters are shared with
        this model, which is left as it is; deepcopy the result for one that can be trained on its own.
        """
        folded = self.sharing_parameters()
        if folded.temporal is not None:
            if routing is None:
                routing = self.routing(uniform_merge)
            folded.temporal.fold_(routing)
        return folded

    def sharing_parameters(self) -> "VideoCLIP":
        """A copy whose modules may be replaced, on the same parameters."""
        return copy.deepcopy(self, {id(p): p for p in self.parameters()})

    def set_pixels(
        self, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, **preprocessing: object
    ) -> None:
        """Prepare pixels otherwise than the tower's own way; what is None stays. See `Preprocessing` for the names."""
        for name, value in (("mean", mean), ("std", std)):
            if value is not None:
                setattr(self, name, getattr(self, name).new_tensor(value).view(3, 1, 1))
        self.preprocessing = self.preprocessing.changed(**preprocessing)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute activations in backward to save memory; takes effect in training mode only.

        Raises:
            ValueError: when the visual tower cannot do it.
        """
        self._checkpoint_visual(enabled and self.training)
        self.gradient_checkpointing = enabled
        if self.temporal is not None:
            self.temporal.gradient_checkpointing = enabled

    def train(self, mode: bool = True) -> "VideoCLIP":
        """Switch training mode, and with it gradient checkpointing of the visual tower."""
        super().train(mode)
        if self.gradient_checkpointing:
            self._checkpoint_visual(mode)
        return self

    def _checkpoint_visual(self, enabled: bool) -> None:
        switch = getattr(self.visual, "set_grad_checkpointing", None)
        if switch is None:
            kind = type(self.visual).__name__
            raise ValueError(f"the visual tower {kind} has no gradient checkpointing; turn it off")
        switch(enabled)

"""Temporal head: a small transformer over frame features, whose feed-forward networks are mixtures of experts.

Paper: MoTE (Zhu et al., NeurIPS 2024), eq. 3 and section 2.2; the shape of the head is that of Text4Vis (Wu et al.,
AAAI 2023). For frame features e (`features`, (B, T, D)) it computes the temporal branch h(e) only; the caller adds e:

    x = e + position[:T];   L times: x = x + attention(norm_1 x);  x = x + experts(norm_2 x);   h(e) = x

Pre-norm, no final norm, no attention mask, no dropout. Attention, norms and positions are shared by all experts. In
training `depth` may leave out parts of layers (stochastic depth, Huang et al., ECCV 2016), which the paper does not.
"""

from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mote.models.attention import mix_tokens
from mote.models.experts import ExpertFFN


class Attention(nn.Module):
    """Multi-head self-attention over the frames of each clip, with parameters named as in nn.MultiheadAttention."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)  # as the released model: not N(0, 0.02), see its initialisation
        nn.init.normal_(self.out_proj.weight, std=0.02)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Float[Tensor, "*batch T D"]) -> Float[Tensor, "*batch T D"]:
        """softmax(q k^T / sqrt(d)) v per head; d is D / num_heads as long as no head is removed."""
        return self.out_proj(mix_tokens(x, self.in_proj_weight, self.in_proj_bias, self.num_heads))


class Block(nn.Module):
    """One pre-norm layer: self-attention, then merged experts."""

    def __init__(
        self, width: int, num_heads: int, num_experts: int, ln_eps: float, hidden: int, same_init: bool, part: str
    ):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=ln_eps)
        self.attn = Attention(width, num_heads)
        self.ln_2 = nn.LayerNorm(width, eps=ln_eps)
        self.mlp = ExpertFFN(width, hidden, num_experts, same_init, part)

    def forward(
        self,
        x: Float[Tensor, "*given B T D"],
        routing: Float[Tensor, "*passes N"],
        depth: Float[Tensor, "2"] | None = None,
    ) -> Float[Tensor, "*passes B T D"]:
        """One layer with the experts merged by `routing`; passes may still share x, as before the first layer.

        depth: factors on what attention and experts add.
        """
        attended = self.attn(self.ln_1(x))
        x = x + (attended if depth is None else depth[0] * attended)
        mixed = self.mlp(self.ln_2(x), routing)
        return x + (mixed if depth is None else depth[1] * mixed)


class HeadSizes(NamedTuple):
    """Arguments of `TemporalHead` that rebuild a head of known width, under their names in `model.json`."""

    num_layers: int
    num_experts: int
    expert_part: str
    num_heads: int
    ln_eps: float
    ffn_ratio: int | float
    max_frames: int


class TemporalHead(nn.Module):
    """The temporal branch h(e).

    Args:
        width: D, of the frame features; a multiple of `num_heads`.
        num_layers: L >= 1 (for mean pooling, L = 0, build no head at all).
        num_heads: attention heads.
        num_experts: E >= 1; 1 is the plain temporal transformer.
        max_frames: rows of the position embedding, the longest clip accepted.
        ln_eps: epsilon of the layer norms; the authors' checkpoints need 1e-12.
        ffn_ratio: hidden width of an expert over D.
        same_init: start all experts of a layer from the same weights (ablation, table 2a).
        expert_part: what an expert is, "ffn", "up", "down" or "separate", see `ExpertFFN` (ablation, table 7a).

    Raises:
        ValueError: when the sizes do not fit.
    """

    def __init__(
        self,
        width: int,
        num_layers: int,
        num_heads: int,
        num_experts: int,
        max_frames: int = 77,
        ln_eps: float = 1e-5,
        ffn_ratio: int | float = 4,
        same_init: bool = False,
        expert_part: str = "ffn",
    ):
        super().__init__()
        if num_layers < 1 or num_heads < 1 or max_frames < 1:
            raise ValueError(
                f"num_layers, num_heads and max_frames must be at least 1, got {num_layers}, {num_heads}, {max_frames}"
            )
        if width % num_heads:
            raise ValueError(f"width {width} is not a multiple of num_heads {num_heads}; choose a divisor of {width}")
        self.position = nn.Parameter(torch.empty(max_frames, width))
        nn.init.normal_(self.position, std=0.02)
        self.num_heads, self.ffn_ratio = num_heads, ffn_ratio  # of the whole head, before anything is removed
        hidden = round(width * ffn_ratio)
        self.blocks = nn.ModuleList(
            Block(width, num_heads, num_experts, ln_eps, hidden, same_init, expert_part) for _ in range(num_layers)
        )
        self.gradient_checkpointing = False

    @property
    def num_experts(self) -> int:
        """Number of experts E; 1 after folding."""
        return self.layers()[0].mlp.num_experts

    @property
    def expert_part(self) -> str:
        """What an expert is, see `ExpertFFN`; "ffn" after folding."""
        return self.layers()[0].mlp.part

    def sizes(self) -> HeadSizes:
        """The arguments that rebuild this head, of the width that it has."""
        first, frames = self.layers()[0], len(self.position)
        layers, experts, part = len(self.blocks), self.num_experts, self.expert_part
        return HeadSizes(layers, experts, part, self.num_heads, first.ln_1.eps, self.ffn_ratio, frames)

    def layers(self) -> list[Block]:
        """The L blocks as a typed list."""
        return cast("list[Block]", list(self.blocks))

    def fold_(self, routing: Float[Tensor, "L N"]) -> None:
        """Replace the experts of every layer by their merge (in place): afterwards E = 1 and the routing row is [1]."""
        for block, row in zip(self.layers(), routing, strict=True):
            block.mlp = block.mlp.fold(row)

    def forward(
        self,
        features: Float[Tensor, "B T D"],
        routing: Float[Tensor, "*passes L N"],
        depth: Float[Tensor, "L 2"] | None = None,
    ) -> Float[Tensor, "*passes B T D"]:
        """h(features) with the experts of layer l merged by `routing[l]`.

        R routings (R, L, E) give R results (R, B, T, D), in less time than R calls. depth: of `draw_depth`, the same
        for all of them; None leaves nothing out.

        Raises:
            ValueError: for more than `max_frames` frames, or a routing of another number of layers or experts.
        """
        frames = features.shape[1]
        if frames > len(self.position):
            raise ValueError(
                f"a clip has {frames} frames, the temporal head takes at most {len(self.position)}; sample fewer frames"
            )
        if routing.shape[-2] != len(self.blocks):
            raise ValueError(f"routing has {routing.shape[-2]} layers, the temporal head has {len(self.blocks)}")
        x = features + self.position[:frames]
        parts = [None] * len(self.blocks) if depth is None else depth.to(features.device).unbind()
        for block, row, part in zip(self.blocks, routing.unbind(-2), parts, strict=True):
            if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, row, part, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x, row, part)
        return x

"""Experts of a temporal layer: E feed-forward networks of which a weighted mean of the *weights* is run.

Paper: MoTE (Zhu et al., NeurIPS 2024), section 2.2 and eq. 5 to 7. For a routing row r (`routing`, shape (E,)):

    FFN(x) = W_down g(W_up x + b_up) + b_down,   W = sum_e r_e W_e,   g(u) = u * sigmoid(1.702 u)   (QuickGELU)

The experts are stacked along a first axis and merged by one contraction. Running a single expert is the one-hot row, so
experts that were not drawn get gradients that are zero rather than absent: distributed training needs no search for
unused parameters. With E = 1 the row can only be [1] and merging is a view.

What an expert is (`part`; table 7a): the whole network ("ffn", the method), its first or its second layer ("up",
"down"; the other layer exists once), or both layers with a row each ("separate": the row is then the one of the first
layer followed by the one of the second, 2E numbers).
"""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

PARTS = ("ffn", "up", "down", "separate")


def quick_gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x * sigmoid(1.702 x), the activation of CLIP; written with SiLU, which keeps one tensor fewer for backward."""
    return F.silu(1.702 * x) / 1.702


def feed_forward(
    x: Float[Tensor, "*batch D"],
    up_weight: Float[Tensor, "H D"],
    up_bias: Float[Tensor, "H"],
    down_weight: Float[Tensor, "D H"],
    down_bias: Float[Tensor, "D"],
) -> Float[Tensor, "*batch D"]:
    """The plain network: W_down g(W_up x + b_up) + b_down."""
    return F.linear(quick_gelu(F.linear(x, up_weight, up_bias)), down_weight, down_bias)


def merge(stack: Float[Tensor, "E *shape"], routing: Float[Tensor, "*passes N"]) -> Float[Tensor, "..."]:
    """Weighted sums over the experts of the stack, one per row: (*passes, *shape). A view when E = 1.

    Computed in the precision of the parameters also under autocast, so that folding changes nothing.

    Raises:
        ValueError: when the rows have another number of experts than the stack.
    """
    if len(stack) != routing.shape[-1]:
        raise ValueError(f"routing has {routing.shape[-1]} experts, the layer has {len(stack)}")
    if len(stack) == 1:
        return stack[0].expand(*routing.shape[:-1], *stack.shape[1:])
    with torch.autocast(stack.device.type, enabled=False):
        return torch.tensordot(routing.to(stack), stack, dims=1)


class ExpertFFN(nn.Module):
    """E feed-forward networks (D -> H -> D) sharing one forward pass through merged weights.

    Parameters: `up_weight` (E, H, D), `up_bias` (E, H), `down_weight` (E, D, H), `down_bias` (E, D), with 1 in
    the place of E for the layer that is not routed. Weights start from N(0, 0.02), biases from 0; every expert from its
    own draw, or all from one with `same_init`. `part`: what an expert is, see the top of this file.
    """

    def __init__(self, width: int, hidden: int, num_experts: int, same_init: bool = False, part: str = "ffn"):
        super().__init__()
        if part not in PARTS:
            raise ValueError(f"unknown part {part!r} of the experts; choose from {', '.join(PARTS)}")
        if num_experts < 1:
            raise ValueError(
                f"num_experts must be at least 1, got {num_experts}; for no temporal head use num_layers=0"
            )
        self.part = part
        up, down = (1 if part == "down" else num_experts), (1 if part == "up" else num_experts)
        self.up_weight = nn.Parameter(torch.empty(up, hidden, width))
        self.up_bias = nn.Parameter(torch.zeros(up, hidden))
        self.down_weight = nn.Parameter(torch.empty(down, width, hidden))
        self.down_bias = nn.Parameter(torch.zeros(down, width))
        for weight in (self.up_weight, self.down_weight):
            nn.init.normal_(weight, std=0.02)
            if same_init:
                weight.data.copy_(weight.data[:1].expand_as(weight))

    @property
    def num_experts(self) -> int:
        """Number of experts E; 1 after folding."""
        return max(len(self.up_weight), len(self.down_weight))

    def layer_rows(self, routing: Float[Tensor, "*passes N"]) -> tuple[Tensor, Tensor]:
        """The routing rows of the first and of the second layer, [1] for a layer that is not routed."""
        if self.part == "separate":
            up, down = routing.tensor_split(2, dim=-1)
            return up, down
        one = routing.new_ones(*routing.shape[:-1], 1)
        return (one if self.part == "down" else routing), (one if self.part == "up" else routing)

    def merged(self, routing: Float[Tensor, "*passes N"]) -> list[Tensor]:
        """The four parameters merged, in the order of `feed_forward`."""
        up, down = self.layer_rows(routing)
        stacks = ((self.up_weight, up), (self.up_bias, up), (self.down_weight, down), (self.down_bias, down))
        return [merge(stack, row) for stack, row in stacks]

    def forward(
        self, x: Float[Tensor, "*given B T D"], routing: Float[Tensor, "*passes N"]
    ) -> Float[Tensor, "*passes B T D"]:
        """Run the merged network, for one row (N,) or for each of R rows (R, N) on its own or on the same x.

        N is E, or 2E where both layers are routed separately.

        Raises:
            ValueError: when a row does not fit the number of experts.
        """
        weights = self.merged(routing)
        if routing.ndim == 1:
            return feed_forward(x, *weights)
        # Merging all rows at once matters for training: the stacks get one gradient instead of a sum over passes.
        x = x.expand(len(routing), *x.shape[-3:])
        return torch.stack([feed_forward(*parts) for parts in zip(x, *weights, strict=True)])

    def fold(self, routing: Float[Tensor, "N"]) -> "ExpertFFN":
        """The merged network as a module with one expert and parameters of its own; draws no random numbers."""
        stacks = (self.up_weight, self.up_bias, self.down_weight, self.down_bias)
        with torch.no_grad():
            memo = {
                id(p): nn.Parameter(weight.clone()[None], requires_grad=p.requires_grad)
                for p, weight in zip(stacks, self.merged(routing), strict=True)
            }
        folded = copy.deepcopy(self, memo)  # the memo hands out the merged parameters in place of the stacks
        folded.part = "ffn"
        return folded

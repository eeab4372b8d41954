"""The transformer blocks of open_clip: the only file that knows what their parts are called.

A block is x + attn(ln_1 x), then x + mlp(ln_2 x), where mlp is c_fc, an activation and c_proj. Two modules stand in
for parts of it, with the same parameters under the same names, so that state dicts fit either way:

- `ClassTokenBlock` for the last block of a ViT that returns its class token only. Keys and values of all tokens are
  needed there, but queries, output projection and feed-forward network of one token. With L blocks whose hidden layer
  is 4 times as wide, and many tokens, that saves about 10 / (12 L) of the tower's products, forward and backward.
  Features are the same up to rounding.
- `NarrowAttention` for an attention layer from which heads were removed.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from mote.models.attention import mix_tokens

ATTENTION, FEED_FORWARD = "attn", "mlp"  # names of a block's layers below the block
FIRST, SECOND = "mlp.c_fc", "mlp.c_proj"  # of the feed-forward network


class NarrowAttention(nn.Module):
    """Takes the place of an `nn.MultiheadAttention` (batch first, self-attention, no dropout) and may lose heads.

    Parameters and their names are those of the module it replaces, which it takes over.

    Raises:
        ValueError: the module does something else than plain self-attention.
    """

    def __init__(self, whole: nn.MultiheadAttention):
        super().__init__()
        weight, bias = whole.in_proj_weight, whole.in_proj_bias
        odd = whole.bias_k is not None or whole.add_zero_attn or whole.dropout or not whole.batch_first
        if weight is None or bias is None or odd:
            raise ValueError("only plain batch-first self-attention with biases and without dropout can lose heads")
        self.num_heads = whole.num_heads
        self.in_proj_weight, self.in_proj_bias = weight, bias
        self.out_proj = nn.Linear(weight.shape[1], weight.shape[1], device="meta")
        self.out_proj.weight, self.out_proj.bias = whole.out_proj.weight, whole.out_proj.bias

    def forward(
        self,
        query: Float[Tensor, "B T D"],
        key: Float[Tensor, "B T D"] | None = None,
        value: Float[Tensor, "B T D"] | None = None,
        *,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Float[Tensor, "B T D"], None]:
        """Self-attention of `query`; the other arguments are there because open_clip's block passes them.

        What `nn.MultiheadAttention` takes beside these (padding, a causal hint) is a TypeError rather than ignored.

        Raises:
            ValueError: `key` or `value` is another tensor, or weights are wanted.
        """
        if (key is not None and key is not query) or (value is not None and value is not query) or need_weights:
            raise ValueError("this attention has lost heads: it does self-attention only and returns no weights")
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(attn_mask, -torch.inf)
        mixed = mix_tokens(query, self.in_proj_weight, self.in_proj_bias, self.num_heads, attn_mask)
        return self.out_proj(mixed), None


class ClassTokenBlock(nn.Module):
    """Takes the place of a `ResidualAttentionBlock` and computes its first token, or all tokens after `all_tokens`.

    It has the children of the block that it replaces, under their names.
    """

    ln_1: nn.Module
    attn: nn.Module
    ls_1: nn.Module
    ln_2: nn.Module
    mlp: nn.Module
    ls_2: nn.Module

    def __init__(self, block: ResidualAttentionBlock):
        super().__init__()
        for name, child in block.named_children():
            self.add_module(name, child)
        self.training = block.training
        self._all_tokens = False

    def all_tokens(self) -> None:
        """From now on compute every token, with the numbers of open_clip's block."""
        self._all_tokens = True

    def forward(
        self, q_x: Float[Tensor, "N L D"], k_x: None = None, v_x: None = None, attn_mask: None = None
    ) -> Float[Tensor, "N L_out D"]:
        """The first token after the block (L_out = 1), or all of them; the signature is that of open_clip's block."""
        tokens = self.ln_1(q_x)
        asked = tokens if self._all_tokens else tokens[:, :1]
        if isinstance(self.attn, NarrowAttention):  # has no queries of its own
            attended = self.attn(tokens)[0][:, : asked.shape[1]]
        else:
            attended = self.attn(asked, tokens, tokens, need_weights=False)[0]
        x = q_x[:, : asked.shape[1]] + self.ls_1(attended)
        return x + self.ls_2(self.mlp(self.ln_2(x)))

    def _get_name(self) -> str:  # printed by repr, from which feature caches learn what a tower computes
        return (ResidualAttentionBlock if self._all_tokens else ClassTokenBlock).__name__


def only_class_token(visual: nn.Module) -> None:
    """Let the last block of an open_clip ViT compute the class token only, in place; other towers stay as they are."""
    blocks = _blocks(visual)
    if blocks is not None and isinstance(block := blocks[-1], ResidualAttentionBlock):
        blocks[-1] = ClassTokenBlock(block)


def all_tokens(visual: nn.Module) -> None:
    """Undo `only_class_token` for good, for readers of patch tokens; it may be called again at no cost.

    Not for the time of one forward pass: gradient checkpointing runs the block once more in the backward pass.
    """
    blocks = _blocks(visual)
    if blocks is not None and isinstance(block := blocks[-1], ClassTokenBlock):
        block.all_tokens()


def _blocks(visual: nn.Module) -> nn.ModuleList | None:
    """The blocks of an open_clip ViT that returns its class token and nothing else."""
    towers = [module for module in visual.modules() if isinstance(module, VisionTransformer)]  # adapters wrap it
    if len(towers) != 1 or towers[0].pool_type != "tok" or towers[0].attn_pool is not None or towers[0].output_tokens:
        return None
    return towers[0].transformer.resblocks


class PlainBlock(NamedTuple):
    """The layers of a block that can lose width; see the names at the top of this file."""

    attention: nn.MultiheadAttention | NarrowAttention
    activation: Callable[[Tensor], Tensor]


def plain_block(module: nn.Module) -> PlainBlock | None:
    """The layers of a block without cross-attention and without adapters; None for any other module."""
    if not isinstance(module, (ResidualAttentionBlock, ClassTokenBlock)) or hasattr(module, "ln_1_kv"):
        return None
    attention, layers = module.attn, [module.get_submodule(name) for name in (FIRST, SECOND)]
    if not isinstance(attention, (nn.MultiheadAttention, NarrowAttention)):
        return None
    plain = all(isinstance(layer, nn.Linear) for layer in layers)
    return PlainBlock(attention, module.get_submodule("mlp.gelu")) if plain else None

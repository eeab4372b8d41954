"""Self-attention whose inner width need not be the width of its input: what is left when heads are removed.

    out = W_o concat_h[softmax(q_h k_h^T / sqrt(d)) v_h] + b_o,     q, k, v = W_q x + b_q, W_k x + b_k, W_v x + b_v

d is the width of one head. It does not change when heads go, so the scale of the logits stays what it was.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def mix_tokens(
    x: Float[Tensor, "*batch T D"],
    in_weight: Float[Tensor, "I D"],
    in_bias: Float[Tensor, "I"],
    num_heads: int,
    mask: Float[Tensor, "*masks T T"] | None = None,
) -> Float[Tensor, "*batch T J"]:
    """The concatenated heads, before W_o: I = 3 J, J = num_heads * d, and J = 0 without heads.

    ``mask``, where given, is added to the logits.
    """
    if num_heads == 0:
        return x[..., :0]
    qkv = F.linear(x.flatten(0, -3), in_weight, in_bias)
    q, k, v = qkv.unflatten(2, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, T, d)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return mixed.transpose(1, 2).reshape(*x.shape[:-1], -1)


class NarrowAttention(nn.Module):
    """Takes the place of an ``nn.MultiheadAttention`` (batch first, self-attention, no dropout) and may lose heads.

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
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
        **_: Any,
    ) -> tuple[Float[Tensor, "B T D"], None]:
        """Self-attention of ``query``; the other arguments are there because its caller gives them.

        Raises:
            ValueError: ``key`` or ``value`` is another tensor, or weights are wanted.
        """
        if (key is not None and key is not query) or (value is not None and value is not query) or need_weights:
            raise ValueError("this attention has lost heads: it does self-attention only and returns no weights")
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(attn_mask, -torch.inf)
        mixed = mix_tokens(query, self.in_proj_weight, self.in_proj_bias, self.num_heads, attn_mask)
        return self.out_proj(mixed), None

"""Self-attention whose inner width need not be the width of its input: what is left when heads are removed.

    out = W_o concat_h[softmax(q_h k_h^T / sqrt(d)) v_h] + b_o,     q, k, v = W_q x + b_q, W_k x + b_k, W_v x + b_v

d is the width of one head. It does not change when heads are removed, so the scale of the logits stays what it was.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def mix_tokens(
    x: Float[Tensor, "*batch T D"],
    in_weight: Float[Tensor, "I D"],
    in_bias: Float[Tensor, "I"],
    num_heads: int,
    mask: Float[Tensor, "*masks T T"] | None = None,
) -> Float[Tensor, "*batch T J"]:
    """The concatenated heads, before W_o: I = 3 J, J = num_heads * d, and J = 0 without heads.

    `mask`, where given, is added to the logits.
    """
    if num_heads == 0:
        return x[..., :0]
    qkv = F.linear(x.flatten(0, -3), in_weight, in_bias)
    q, k, v = qkv.unflatten(2, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, T, d)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return mixed.transpose(1, 2).reshape(*x.shape[:-1], -1)

"""bfloat16 where it is fast and harmless: the factors of matrix products. All else stays in float32.

Sums, norms, softmax, positions, the residual stream and the comparison with texts stay in float32, so what is lost is
the rounding of factors, 2^-9 relative each.
"""

import copy
from typing import TypeVar

from torch import nn

from mote.models.experts import ExpertFFN
from mote.models.temporal import Attention

Part = TypeVar("Part", bound=nn.Module)
FACTORS = (nn.Linear, nn.MultiheadAttention, Attention, ExpertFFN)  # modules whose parameters go into matrix products


def in_bf16(module: Part) -> Part:
    """The module with the factors of its matrix products in bfloat16; run it under autocast. Shares all the rest.

    Under autocast the factors are rounded anyway, at every call: this gives the same numbers faster.
    """
    memo: dict[int, nn.Parameter] = {id(p): p for p in module.parameters()}
    for part in module.modules():
        if isinstance(part, FACTORS):
            for p in part.parameters(recurse=False):
                memo[id(p)] = nn.Parameter(p.detach().bfloat16(), requires_grad=False)
    return copy.deepcopy(module, memo)

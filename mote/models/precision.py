"""bfloat16 where it is fast and harmless: the factors of matrix products. All else stays in float32.

Sums, norms, softmax, positions, the residual stream and the comparison with texts stay in float32, so what is lost is
the rounding of factors, 2^-9 relative each.
"""

import copy
from typing import Literal, TypeVar

import torch
from torch import nn

from mote.models.experts import ExpertFFN
from mote.models.temporal import Attention

Part = TypeVar("Part", bound=nn.Module)
Precision = Literal["fp32", "bf16"]
FACTORS = (nn.Linear, nn.MultiheadAttention, Attention, ExpertFFN)  # modules whose parameters go into matrix products


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 by itself (AMX or AVX512-BF16; a GPU that does not emulate it)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def resolve_precision(wanted: Literal["fp32", "bf16", "auto"], device: torch.device) -> Precision:
    """`wanted`, and for "auto" bf16 where the device really has it, else fp32."""
    if wanted != "auto":
        return wanted
    return "bf16" if has_bf16(device) else "fp32"


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

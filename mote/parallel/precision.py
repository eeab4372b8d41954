"""Number formats that the machine multiplies fast."""

from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


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

"""Number formats that the machine multiplies fast."""

import warnings
from typing import Literal

import torch

from mote.parallel.launch import asked_for

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


def training_precision(wanted: str, *, cpu: bool = False) -> str:
    """`wanted`, and for "auto" bf16 where the device that will train has it, else fp32.

    Warns of bf16 on a processor without units for it: results are the same, but many times slower to compute.

    Args:
        wanted: a value of `optim.precision`; only "auto" changes.
        cpu: training stays on the CPU even where a GPU is present.
    """
    forced = cpu or asked_for("CPU")
    device = None if forced else torch.accelerator.current_accelerator(check_available=True)
    fast = resolve_precision("auto", device or torch.device("cpu"))
    if wanted == "bf16" and device is None and fast != wanted:
        warnings.warn(
            "optim.precision=bf16: this processor has no units for it, so it is several times slower than fp32; "
            "auto takes what is fast",
            stacklevel=1,  # one place, so that it is said once
        )
    return fast if wanted == "auto" else wanted

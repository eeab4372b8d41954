"""One process or many, CPU or GPU: the accelerator, and what evaluation needs of it.

`make_accelerator` is the only place that configures accelerate; it reads what `torchrun` or `accelerate launch` set,
and needs no environment variable of its own. `accelerate launch --cpu` starts one process on a machine; the launchers
that start several are torchrun and, through it, `accelerate launch --multi_gpu`, GPU or not.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import ProjectConfiguration, broadcast_object_list
from torch import Tensor

from mote.parallel.precision import resolve_precision

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
T = TypeVar("T")


def make_accelerator(
    precision: str = "fp32", *, cpu: bool = False, trackers: Sequence[str] = (), out: Path | None = None
) -> Accelerator:
    """The accelerator of this process.

    Args:
        precision: "fp32", "bf16", "fp16" (autocast; weights stay float32), or "auto", see `training_precision`.
        cpu: use the CPU even where a GPU is present.
        trackers: accelerate trackers besides the JSONL log, such as "tensorboard" and "wandb".
        out: run directory; trackers write below it.

    Raises:
        ValueError: an unknown precision, fp16 without a GPU, a tracker whose package is missing, a launch that asks for
            what would not happen: DeepSpeed, FSDP of version 1, or FSDP without a GPU.
    """
    precision = training_precision(precision, cpu=cpu)
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; choose from {sorted(PRECISIONS)}")
    available = sorted(str(getattr(name, "value", name)) for name in get_available_trackers())
    missing = [name for name in trackers if name not in available]
    if missing:
        raise ValueError(f"trackers {missing} cannot be imported; install them (mote[wandb]) or use one of {available}")
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":
        raise ValueError(
            "DeepSpeed is not supported; to train in shards launch with configs/accelerate/fsdp2.yaml, else with "
            "multi_gpu.yaml (plain DDP)"
        )
    project = ProjectConfiguration(project_dir=str(out), logging_dir=str(out / "trackers")) if out else None
    accelerator = Accelerator(
        mixed_precision=PRECISIONS[precision],
        cpu=cpu,
        log_with=list(trackers) or None,
        project_config=project,
        rng_types=[],  # samplers here are pure functions of the epoch: there is no generator to synchronise
    )
    if precision == "fp16" and accelerator.device.type == "cpu":
        raise ValueError("precision fp16 needs a GPU; use bf16 or fp32 on the CPU")
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and not accelerator.is_fsdp2:
        version = os.environ.get("FSDP_VERSION", "1")
        raise ValueError(
            f"FSDP was asked for (version {version}, on {accelerator.device.type}), but there is only version 2 on "
            "several GPUs; use configs/accelerate/fsdp2.yaml, or multi_gpu.yaml or cpu.yaml, without shards"
        )
    # The launcher gives an address when asked for several processes, but with --cpu it starts one (accelerate 1.15),
    # and it does not say how many were wanted.
    asked = os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_ADDR" in os.environ
    if asked and "WORLD_SIZE" not in os.environ and accelerator.num_processes == 1:
        warnings.warn(
            "`accelerate launch --cpu` started one process only; for N use `accelerate launch --config_file "
            "configs/accelerate/cpu.yaml --num_processes N` (or --multi_gpu in the place of --cpu) and run.cpu=true",
            stacklevel=2,
        )
    return accelerator


def training_precision(wanted: str, *, cpu: bool = False) -> str:
    """What `optim.precision` amounts to here: for "auto" bf16 on hardware that has it, else fp32.

    Warns of bf16 on a processor that has not: it computes the same, many times slower.
    """
    forced = cpu or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    device = None if forced else torch.accelerator.current_accelerator(check_available=True)
    fast = resolve_precision("auto", device or torch.device("cpu"))
    if wanted == "bf16" and device is None and fast != wanted:
        warnings.warn(
            "optim.precision=bf16: this processor has no units for it, so it is several times slower than fp32; "
            "auto takes what is fast",
            stacklevel=1,  # one place, so that it is said once
        )
    return fast if wanted == "auto" else wanted


def on_main(accelerator: Accelerator, function: Callable[[], T]) -> T:
    """Run `function` in the main process only; every process gets its (picklable) result, or raises its error."""
    result: list = [None, None]
    if accelerator.is_main_process:
        try:
            result[0] = function()
        except Exception as error:
            result[1] = error
    if accelerator.num_processes > 1:
        broadcast_object_list(result)
    if result[1] is not None:
        raise result[1]
    return result[0]


def add_up(accelerator: Accelerator, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sums over processes of tensors of equal shape, on the CPU. Call it in every process."""
    if accelerator.num_processes == 1:
        return dict(tensors)
    moved = {name: tensor.to(accelerator.device) for name, tensor in tensors.items()}
    return {name: tensor.cpu() for name, tensor in accelerator.reduce(moved, reduction="sum").items()}


def mean_over_processes(accelerator: Accelerator, values: Tensor) -> list[float]:
    """Mean of a vector over processes, as Python numbers."""
    total = accelerator.reduce(values.detach().to(torch.float32), reduction="sum")
    return (total / accelerator.num_processes).tolist()

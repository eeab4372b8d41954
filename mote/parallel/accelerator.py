"""One process or many, CPU or GPU: the accelerator, and what processes tell one another.

`make_accelerator` is the only place that configures accelerate; how many processes there are is the launcher's
business (see `launch`).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import ProjectConfiguration, broadcast_object_list, gather_object
from torch import Tensor

from mote.parallel.launch import check_outcome, check_request
from mote.parallel.precision import training_precision

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # optim.precision: accelerate's mixed_precision
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
        ValueError: an unknown precision, fp16 without a GPU, a tracker whose package is missing, or a launch that
            asks for what would not happen, see `launch`.
    """
    precision = training_precision(precision, cpu=cpu)
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; choose from {sorted(PRECISIONS)}")
    available = sorted(str(getattr(name, "value", name)) for name in get_available_trackers())
    missing = [name for name in trackers if name not in available]
    if missing:
        advice = f"pip install 'mote-video[{','.join(missing)}]', or use one of {available}"
        raise ValueError(f"trackers {missing} cannot be imported; {advice}")
    check_request(cpu=cpu, gpus=torch.accelerator.device_count())
    accelerator = Accelerator(
        mixed_precision=PRECISIONS[precision],
        cpu=cpu,
        log_with=list(trackers) or None,
        project_config=ProjectConfiguration(str(out), logging_dir=str(out / "trackers")) if out else None,
        rng_types=[],  # samplers here are pure functions of the epoch: there is no generator to synchronise
    )
    device = accelerator.device.type
    if precision == "fp16" and device == "cpu":
        raise ValueError("precision fp16 needs a GPU; use bf16 or fp32 on the CPU")
    check_outcome(device, processes=accelerator.num_processes, fsdp2=accelerator.is_fsdp2)
    return accelerator


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
        result[1].is_told = not accelerator.is_main_process  # type: ignore[attr-defined] # the main process tells the user
        raise result[1]
    return result[0]


def collect(accelerator: Accelerator, value: T) -> list[T]:
    """The (picklable) value of every process, in their order. Call it in every process."""
    return gather_object([value]) if accelerator.num_processes > 1 else [value]


def add_up(accelerator: Accelerator, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sums over processes of tensors of equal shape, on the CPU. Call it in every process."""
    if accelerator.num_processes == 1:
        return dict(tensors)
    moved = {name: tensor.to(accelerator.device) for name, tensor in tensors.items()}
    return {name: tensor.cpu() for name, tensor in accelerator.reduce(moved, reduction="sum").items()}


def mean_over_processes(accelerator: Accelerator, values: Tensor) -> Tensor:
    """Mean over processes, of the shape of `values`, float32. Call it in every process."""
    total = accelerator.reduce(values.detach().to(torch.float32), reduction="sum")
    return total / accelerator.num_processes

"""DeepSpeed ZeRO, stage 1 or 2: weights whole in every process, gradients and optimizer state in parts.

accelerate's `backward` makes DeepSpeed's update too. Here the engine is asked for the two by themselves, so that the
loss and the gradient are looked at before the update, as everywhere else. Checkpoints hold the state of the plain
optimizer, so a run goes on with or without DeepSpeed, on any number of processes.

The optimizer below is DeepSpeed's, whose parameters are the parts of this process: group i is one flat vector of the
weights `bit16_groups[i]` (in their precision here, float32).
"""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor


def check_zero(precision: str) -> None:
    """Raises ValueError where DeepSpeed is missing, or would do what this package does not support."""
    if find_spec("deepspeed") is None:
        raise ValueError("DeepSpeed was asked for, but is not installed; pip install deepspeed, or launch with FSDP2")
    stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    if stage not in ("1", "2"):
        raise ValueError(f"DeepSpeed ZeRO stage {stage} is not supported; use 1 or 2, or launch with FSDP2")
    if precision != "fp32":
        raise ValueError(f"optim.precision={precision} is not supported with DeepSpeed; use fp32, or launch with FSDP2")


def uses_zero(accelerator: Accelerator) -> bool:
    """Whether the processes were launched for DeepSpeed."""
    return accelerator.distributed_type == "DEEPSPEED"


def configure(accelerator: Accelerator, *, micro_batch: int, accumulation: int, clip_norm: float | None) -> None:
    """Tell DeepSpeed what the loop knows; before `prepare`."""
    plugin: Any = accelerator.state.deepspeed_plugin
    settings = {"train_micro_batch_size_per_gpu": micro_batch, "gradient_accumulation_steps": accumulation}
    plugin.deepspeed_config.update(settings, gradient_clipping=clip_norm or 0.0)


def backward(engine: Any, loss: Tensor, *, last: bool) -> None:
    """Gradients of one micro step, divided by the number of micro steps; averaged over processes in the last one."""
    engine.set_gradient_accumulation_boundary(last)
    engine.backward(loss)


def gradient_norm(engine: Any) -> float:
    """L2 norm of the whole gradient, the same in every process; after the last micro step, before the update.

    DeepSpeed says -1 where it is not finite; that is NaN here.
    """
    norm = float(engine.optimizer.scaled_global_norm())
    return norm if norm >= 0 else float("nan")


def step(engine: Any) -> None:
    """Clip and update."""
    engine.step()


def whole_state(optimizer: Any) -> dict[str, Any]:
    """The state dict that the plain optimizer would have; call it in every process."""
    from deepspeed.utils import safe_get_full_optimizer_state  # pyright: ignore[reportMissingImports]

    zero, state, number = optimizer.optimizer, {}, 0
    groups = []
    for group, parameters in zip(zero.param_groups, zero.bit16_groups, strict=True):
        own = zero.optimizer.state.get(group["params"][0], {})
        for i, parameter in enumerate(parameters, start=number):
            if own:
                moments = {key: safe_get_full_optimizer_state(parameter, key) for key in ("exp_avg", "exp_avg_sq")}
                state[i] = {"step": own["step"].clone(), **moments}
        numbers = list(range(number, number + len(parameters)))
        groups.append({**group, "params": numbers})
        number += len(parameters)
    return {"state": state, "param_groups": groups}


def load_whole_state(state: Mapping[str, Any], optimizer: Any) -> None:
    """The inverse of `whole_state`: every process takes its parts."""
    from deepspeed.utils import safe_set_full_optimizer_state  # pyright: ignore[reportMissingImports]

    zero = optimizer.optimizer
    if not state["state"]:
        return
    number = 0
    for group, parameters in zip(zero.param_groups, zero.bit16_groups, strict=True):
        part = group["params"][0]
        moments = {key: torch.zeros_like(part) for key in ("exp_avg", "exp_avg_sq")}
        zero.optimizer.state[part] = {"step": state["state"][number]["step"].clone(), **moments}
        number += len(parameters)
    zero._lazy_init_hp_params_optimizer_state()  # makes the parts of each weight known, as the first step does
    for i, parameter in enumerate(p for parameters in zero.bit16_groups for p in parameters):
        for key in ("exp_avg", "exp_avg_sq"):
            safe_set_full_optimizer_state(parameter, state["state"][i][key].to(parameter.device), key)

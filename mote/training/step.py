"""One optimizer step: micro steps, the check for NaN, clipping, the update.

For each of A micro steps: `task(batch, generator) -> (loss, terms)`, means over the valid clips of the micro batch, and
a backward pass of share * loss / A; processes average their gradients in the last one. With v valid clips of the V in
the whole step of A micro steps on N processes, share = v * A * N / V: the sum is the mean over all valid clips, as for
one large batch, however the undecodable ones are spread. The numbers of the step are averaged in one reduction.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch import Tensor

from mote.parallel.accelerator import mean_over_processes
from mote.training.checkpoint import Progress
from mote.training.hooks import Mix
from mote.training.layout import Layout
from mote.training.schedule import Schedule
from mote.training.seeds import mixing_generator, routing_generator, seed_dropout
from mote.training.signals import Stop
from mote.training.unreadable import Skipped


class NonFiniteError(ArithmeticError):
    """The loss or the gradient is NaN or infinite; raised in every process before the update."""


class Gradients(NamedTuple):
    """What is known of a step before its update, the same in every process.

    means: "loss" and its terms, over the valid clips of all processes; skipped: the undecodable clips, in order;
    stopping: whether some process was asked to stop.
    """

    means: dict[str, float]
    skipped: list[Skipped]
    stopping: bool


def backward(
    layout: Layout, stream: Iterator[dict], schedule: Schedule, *, step: int, mix: Mix | None, stop: Stop
) -> Gradients:
    """Leave the gradients of one optimizer step in the parameters.

    Args:
        layout: the prepared task.
        stream: micro batches of this process.
        schedule: how many of them make a step, and what random draws depend on.
        step: updates made before this one.
        mix: see `Hooks`.
        stop: whether this process was asked to stop, which all learn here.
    """
    accelerator, micro_steps, seed = layout.accelerator, schedule.accumulation, schedule.seed
    rank = accelerator.process_index
    layout.optimizer.zero_grad()
    sums: dict[str, Tensor] = {}
    missing: list[Skipped] = []
    batches = [next(stream) for _ in range(micro_steps)]
    for micro, (batch, share) in enumerate(zip(batches, _shares(accelerator, batches), strict=True)):
        if "valid" in batch:
            causes = batch.pop("cause", [""] * len(batch["valid"]))
            items = zip(batch["index"].tolist(), batch["valid"].tolist(), causes, strict=True)
            missing += [(index, cause) for index, valid, cause in items if not valid]
        batch = send_to_device(batch, accelerator.device, non_blocking=True)
        seed_dropout(seed, step, micro, rank)
        routing = routing_generator(seed, step, 0 if schedule.sync_routing else rank)
        if mix is not None:
            batch = mix(batch, mixing_generator(seed, step, micro, rank))
        with accelerator.no_sync(layout.module) if micro + 1 < micro_steps else nullcontext():
            loss, terms = layout.module(batch, routing)
            accelerator.backward(loss * share)
        for name, value in {"loss": loss, **terms}.items():
            sums[name] = sums.get(name, 0.0) + value.detach().float() * share / micro_steps
    # One small reduction for all numbers of the step; what is wrong with clips travels only when there are any.
    flags = torch.tensor([len(missing), stop.asked], dtype=torch.float32, device=accelerator.device)
    *values, count, stopping = mean_over_processes(accelerator, torch.stack([*sums.values(), *flags])).tolist()
    if count and accelerator.num_processes > 1:
        missing = gather_object(missing)
    return Gradients(dict(zip(sums, values, strict=True)), sorted(missing), stopping > 0)


def _shares(accelerator: Accelerator, batches: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Weight of the loss of each micro batch (A,): its valid clips over the mean number of them in a micro batch."""
    valid = [batch["valid"].sum() if "valid" in batch else torch.tensor(1) for batch in batches]  # 1: all are equal
    counts = torch.stack(valid).to(accelerator.device, torch.float32)
    if len(batches) * accelerator.num_processes == 1:
        return torch.ones_like(counts)  # the mean is over all clips already
    return counts / mean_over_processes(accelerator, counts.mean()).clamp(min=torch.finfo(torch.float32).tiny)


def update(layout: Layout, clip_norm: float | None, means: Mapping[str, float], progress: Progress) -> float | None:
    """Check, clip and apply the gradients.

    Args:
        layout: the prepared task, with its gradients.
        clip_norm: greatest L2 norm of the gradient; None measures it only.
        means: numbers of this step, which must be finite.
        progress: where the run stands, for the message.

    Returns:
        L2 norm of the gradient before clipping, None where fp16 skipped the update.

    Raises:
        NonFiniteError: a number or the gradient is not finite; no update was made.
    """
    norm = layout.gradient_norm(math.inf if clip_norm is None else clip_norm)
    # Under fp16 an overflowing gradient is normal: the scaler skips the update and halves its scale, down to a point.
    scaler = layout.accelerator.scaler
    overflow = scaler is not None and scaler.get_scale() > 1
    if not all(map(math.isfinite, means.values())) or not (math.isfinite(norm) or overflow):
        terms = ", ".join(f"{name} {value:g}" for name, value in means.items())
        raise NonFiniteError(
            f"step {progress.step + 1} (epoch {progress.epoch}) is not finite: {terms}, gradient norm {norm:g}; no "
            "update was made and the last checkpoint is intact; lower the learning rate, set clip_norm or use fp32"
        )
    layout.optimizer.step()
    return norm if math.isfinite(norm) else None

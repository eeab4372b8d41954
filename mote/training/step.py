"""One optimizer step: micro steps, the check for NaN, clipping, the update.

For each of A micro steps: `task(batch, generator) -> (loss, terms)`, means over the valid clips of the micro batch, and
a backward pass of share * loss / A; processes average their gradients in the last one. With v valid clips of the V in
the whole step of A micro steps on N processes, share = v * A * N / V: the sum is the mean over all valid clips, as for
one large batch, however the undecodable ones are spread. The numbers of the step are averaged in one reduction.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from mote.files.writing import write_atomic
from mote.parallel.accelerator import mean_over_processes, on_main
from mote.training.batches import StepBatches
from mote.training.checkpoint import Progress, save_checkpoint
from mote.training.seeds import mixing_generator, routing_generator, seed_dropout
from mote.training.sharded import cut_state, load_whole_weights, whole_state
from mote.training.signals import Stop

UNREADABLE = "unreadable.txt"  # in the run directory: a line `path<TAB>cause` for each undecodable training video
Mix = Callable[[Mapping[str, torch.Tensor], np.random.Generator], dict[str, torch.Tensor]]


class NonFiniteError(ArithmeticError):
    """The loss or the gradient is NaN or infinite; raised in every process before the update."""


class TooManySkippedError(RuntimeError):
    """More undecodable clips in an epoch than allowed; `skipped`: (index, "path<TAB>cause") of the last step."""

    def __init__(self, message: str, skipped: Sequence[tuple[int, str]] = ()):
        super().__init__(message, skipped)
        self.skipped = tuple(skipped)

    def __str__(self) -> str:
        return self.args[0]


@runtime_checkable
class AfterUpdate(Protocol):
    """Something that changes weights after each update, such as `sparsity.lasso.GroupLasso`; resumes with the run."""

    def __call__(self, optimizer: Any, fraction: float) -> dict[str, float]:
        """Act; `fraction` of all steps were done before this update. Returns numbers for the log."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state."""
        ...


@dataclass
class Run:
    """One `fit` under way: the prepared objects and the settings every step reads."""

    accelerator: Accelerator
    module: nn.Module  # prepared: call it, never its forward
    optimizer: Any  # prepared
    batches: StepBatches
    loader: DataLoader
    progress: Progress
    rate: Callable[[int], float]
    out: Path
    seed: int
    sync_routing: bool
    clip_norm: float | None
    max_skipped: int | None
    keep: int
    stop: Stop
    after_update: AfterUpdate | None = None
    mix: Mix | None = None
    stopping: bool = False  # as the processes agreed in the last step
    unreadable: dict[str, str] = field(default_factory=dict)  # path: cause
    plain: nn.Module | None = None  # the copy of a sharded task, see `sharded`

    def unwrapped(self) -> nn.Module:
        """The module that is trained, in shards where it is."""
        return cast(nn.Module, self.accelerator.unwrap_model(self.module))

    def task(self) -> nn.Module:
        """The task as it is now, without wrappers and shards; call it in every process."""
        task = self.unwrapped()
        if self.plain is None:
            return task
        load_whole_weights(self.plain, task)
        return self.plain

    def load(self, training: dict[str, Any]) -> None:
        """Take over the optimizer and scaler states of a checkpoint."""
        state = training["optimizer"]
        self.optimizer.load_state_dict(state if self.plain is None else cut_state(state, self.optimizer))
        if self.accelerator.scaler and training["scaler"]:
            self.accelerator.scaler.load_state_dict(training["scaler"])
        if self.after_update is not None:
            self.after_update.load_state_dict(training["after_update"])

    def save(self) -> None:
        """Write `last/` from the main process; the others wait."""
        scaler = self.accelerator.scaler
        state = self.optimizer.state_dict()
        task, last = self.task(), self.out / "last"
        if self.plain is not None:
            state = whole_state(state, self.optimizer, self.unwrapped())
        training = {"optimizer": state, "scaler": scaler.state_dict() if scaler else None}
        if self.after_update is not None:
            training["after_update"] = self.after_update.state_dict()
        on_main(self.accelerator, lambda: save_checkpoint(last, task, training, self.progress, self.keep))


def backward(run: Run, stream: Iterator[Any], epoch: int) -> tuple[dict[str, float], list[int]]:
    """Gradients of one optimizer step; returns {"loss", terms} (global means) and the indices of skipped clips."""
    accelerator, step, micro_steps = run.accelerator, run.progress.step, run.batches.accumulation
    rank = accelerator.process_index
    run.optimizer.zero_grad()
    sums: dict[str, torch.Tensor] = {}
    missing: list[tuple[int, str]] = []
    batches = [next(stream) for _ in range(micro_steps)]
    for micro, (batch, share) in enumerate(zip(batches, _shares(run, batches), strict=True)):
        if "valid" in batch:
            causes = batch.pop("cause", [""] * len(batch["valid"]))
            items = zip(batch["index"].tolist(), batch["valid"].tolist(), causes, strict=True)
            missing += [(index, cause) for index, valid, cause in items if not valid]
        batch = send_to_device(batch, accelerator.device, non_blocking=True)
        seed_dropout(run.seed, step, micro, rank)
        routing = routing_generator(run.seed, step, 0 if run.sync_routing else rank)
        if run.mix is not None:
            batch = run.mix(batch, mixing_generator(run.seed, step, micro, rank))
        with accelerator.no_sync(run.module) if micro + 1 < micro_steps else nullcontext():
            loss, terms = run.module(batch, routing)
            accelerator.backward(loss * share)
        for name, value in {"loss": loss, **terms}.items():
            sums[name] = sums.get(name, 0.0) + value.detach().float() * share / micro_steps
    # One small reduction for all numbers of the step; what is wrong with clips travels only when there are any.
    device = accelerator.device
    flags = torch.tensor([len(missing), run.stop.asked], dtype=torch.float32, device=device)
    *values, count, stop = mean_over_processes(accelerator, torch.stack([*sums.values(), *flags]))
    run.stopping = stop > 0
    skipped = []
    if count:
        everywhere = gather_object(missing) if accelerator.num_processes > 1 else missing
        skipped = sorted(index for index, _ in everywhere)
        _note_skipped(run, sorted(everywhere), epoch)
    return dict(zip(sums, values, strict=True)), skipped


def _shares(run: Run, batches: Sequence[Any]) -> torch.Tensor:
    """Weight of the loss of each micro batch (A,): its valid clips over the mean number of them in a micro batch."""
    device = run.accelerator.device
    valid = [batch["valid"].sum() if "valid" in batch else torch.tensor(run.batches.micro) for batch in batches]
    counts = torch.stack(valid).to(device, torch.float32)
    if len(batches) * run.accelerator.num_processes == 1:
        return torch.ones_like(counts)  # the mean is over all clips already
    mean: Any = run.accelerator.reduce(counts.mean(), reduction="mean")
    return counts / mean.clamp(min=torch.finfo(torch.float32).tiny)


def read_unreadable(path: Path) -> dict[str, str]:
    """{path: cause} of a list of undecodable videos; none where there is no list."""
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if path.exists() else []
    return dict(line.rsplit("\t", 1) for line in lines)


def _note_skipped(run: Run, skipped: list[tuple[int, str]], epoch: int) -> None:
    """List the files and add to the epoch's count.

    Raises TooManySkippedError past the limit, or when no file of a step is there: the disk with them is gone, and an
    update from nothing would move the weights by momentum and decay alone. (One clip a step says nothing of a disk.)
    """
    run.progress.skipped += len(skipped)
    path = run.out / UNREADABLE
    new = dict(cause.rsplit("\t", 1) for _, cause in skipped if "\t" in cause)
    if not new.keys() <= run.unreadable.keys():
        run.unreadable |= new
        lines = "".join(f"{name}\t{cause}\n" for name, cause in run.unreadable.items())
        on_main(run.accelerator, lambda: write_atomic(path, lines))
    if run.max_skipped is not None and run.progress.skipped > run.max_skipped:
        raise TooManySkippedError(
            f"epoch {epoch}: {run.progress.skipped} undecodable clips, more than the {run.max_skipped} allowed by "
            "data.max_bad_fraction",
            skipped,
        )
    if 1 < run.batches.batch_size == len(skipped) and all(is_missing(cause) for _, cause in skipped):
        raise TooManySkippedError(f"step {run.progress.step + 1}: none of its {len(skipped)} files is there", skipped)


def is_missing(cause: str) -> bool:
    """Whether the cause of an undecodable clip, `path<TAB>why`, is that its file does not exist."""
    return cause.endswith("\tthere is no such file")


def update(run: Run, means: dict[str, float], epoch: int) -> float | None:
    """Check, clip and apply the gradients; returns their norm before clipping, None where fp16 skipped the update."""
    accelerator = run.accelerator
    parameters = [p for p in run.module.parameters() if p.requires_grad]
    limit = math.inf if run.clip_norm is None else run.clip_norm
    total: Any = accelerator.clip_grad_norm_(parameters, limit)
    norm = (total.full_tensor() if isinstance(total, DTensor) else total).item()
    # Under fp16 an overflowing gradient is normal: the scaler skips the update and halves its scale, down to a point.
    overflow = accelerator.scaler is not None and accelerator.scaler.get_scale() > 1
    if not all(map(math.isfinite, means.values())) or not (math.isfinite(norm) or overflow):
        terms = ", ".join(f"{name} {value:g}" for name, value in means.items())
        raise NonFiniteError(
            f"step {run.progress.step + 1} (epoch {epoch}) is not finite: {terms}, gradient norm {norm:g}; no update "
            "was made and the last checkpoint is intact; lower the learning rate, set clip_norm or use fp32"
        )
    run.optimizer.step()
    return norm if math.isfinite(norm) else None

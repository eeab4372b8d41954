"""Which samples each process sees at each micro step of each optimizer step.

One optimizer step takes the next `batch_size` samples of the epoch's order; micro step m of process r takes the
contiguous part number m * N + r of it (N processes). So the samples of step s are the same set for any number of
processes and any accumulation, and a resumed epoch starts at step s by dropping indices, before anything is decoded.
"""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from accelerate import Accelerator
from torch.utils.data import DataLoader


@runtime_checkable
class EpochOrder(Protocol):
    """A sampler whose order depends on the epoch only."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        ...

    def __iter__(self) -> Iterator[object]: ...

    def __len__(self) -> int: ...


def micro_batch_size(batch_size: int, processes: int, accumulation: int) -> int:
    """Samples of one process in one micro step: batch_size / (processes * accumulation).

    Raises:
        ValueError: when the batch of one optimizer step cannot be cut into equal parts.
    """
    parts = processes * accumulation
    if parts < 1 or batch_size < 1 or batch_size % parts:
        raise ValueError(
            f"batch size {batch_size} (optim.batch_size, of one step over all processes) must be a multiple of "
            f"{processes} processes x {accumulation} accumulation steps = {parts}"
        )
    return batch_size // parts


class StepBatches:
    """Batch sampler of one process: lists of `micro_batch_size` indices, `accumulation` of them per optimizer step.

    Set `epoch` and `first_step` before iterating. An incomplete last step is dropped.
    """

    def __init__(self, order: EpochOrder, *, batch_size: int, accumulation: int, processes: int, rank: int):
        self.micro = micro_batch_size(batch_size, processes, accumulation)
        self.order, self.batch_size, self.accumulation = order, batch_size, accumulation
        self.processes, self.rank = processes, rank
        self.epoch, self.first_step = 0, 0

    @property
    def steps(self) -> int:
        """Optimizer steps of a whole epoch."""
        return len(self.order) // self.batch_size

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.accumulation

    def __iter__(self) -> Iterator[list[object]]:
        self.order.set_epoch(self.epoch)
        samples = list(self.order)
        for step in range(self.first_step, self.steps):
            for micro in range(self.accumulation):
                start = step * self.batch_size + (micro * self.processes + self.rank) * self.micro
                yield samples[start : start + self.micro]


def with_batches(loader: DataLoader, batches: StepBatches) -> DataLoader:
    """The same dataset, collation and workers as `loader`, in the batches of `batches`."""
    return DataLoader(
        loader.dataset,
        batch_sampler=batches,  # type: ignore[arg-type]  # an iterable of index lists is all that DataLoader needs
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def step_batches(loader: DataLoader, accelerator: Accelerator, accumulation: int) -> StepBatches:
    """The batches of this process, in the order of `loader`'s sampler; its batch size is that of an optimizer step.

    Raises:
        ValueError: a loader without batch size or `set_epoch`, a batch that cannot be cut, or too few samples for one.
    """
    order = loader.sampler
    if not isinstance(loader.batch_size, int) or not isinstance(order, EpochOrder):
        raise ValueError("the training loader needs a batch_size (of one optimizer step) and a sampler with set_epoch")
    batches = StepBatches(
        order,
        batch_size=loader.batch_size,
        accumulation=accumulation,
        processes=accelerator.num_processes,
        rank=accelerator.process_index,
    )
    if not batches.steps:
        raise ValueError(
            f"{len(order)} training clips do not fill one batch of {loader.batch_size}; lower optim.batch_size"
        )
    return batches

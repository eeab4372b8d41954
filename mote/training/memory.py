"""How small the micro batches of an optimizer step must be to fit into memory."""

from collections.abc import Callable

from accelerate.utils import find_executable_batch_size


def fitting_micro_batch(run: Callable[[int], object], samples: int) -> int:
    """The largest divisor of `samples` that `run` takes without running out of memory.

    Args:
        run: does one forward and backward pass of that many clips; what it raises for other causes passes through.
        samples: clips of one optimizer step of this process.

    Raises:
        MemoryError: not even one clip fits.
    """
    smaller = iter([size for size in range(samples - 1, 0, -1) if samples % size == 0])

    def reduce() -> int:
        try:
            return next(smaller)
        except StopIteration:
            raise MemoryError("not even one clip fits into memory; turn on model.gradient_checkpointing") from None

    def attempt(size: int) -> int:
        run(size)
        return size

    return find_executable_batch_size(attempt, starting_batch_size=samples, reduce_batch_size_fn=reduce)()

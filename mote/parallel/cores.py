"""All cores at work, and results that do not depend on how many there are.

Inside an operation, threads share out sums, and a sum in another order differs in its last bits. So work is cut into
pieces that are the same however a program is started, each piece is computed by one thread from start to end, and the
cores are shared out among the pieces. An accelerator does a piece at a time.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar, runtime_checkable

import torch

S = TypeVar("S")
T = TypeVar("T")


@runtime_checkable
class OrderedMap(Protocol):
    """`map`, or what behaves like it: results in the order of the items."""

    def __call__(self, function: Callable[[S], T], items: Iterable[S], /) -> Iterator[T]:
        """function(item) of each item."""
        ...


@contextmanager
def all_cores(device: torch.device) -> Iterator[OrderedMap]:
    """A `map` whose calls run side by side, each on one thread, as many as torch had threads when this was entered.

    `items` is taken from in the caller's thread, a few items ahead of the results. For another device than the CPU,
    and for one thread, it is `map` itself.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield map
        return
    torch.set_num_threads(1)  # here too: idle threads of an operation would spin on the cores that the pool needs
    pool = ThreadPoolExecutor(threads, "mote", initializer=torch.set_num_threads, initargs=(1,))

    def ordered(function: Callable[[S], T], items: Iterable[S], /) -> Iterator[T]:
        pending: deque[Future[T]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    try:
        yield ordered
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)

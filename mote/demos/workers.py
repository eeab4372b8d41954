"""Several small trainings at once: one process on one thread each, because a model this small runs best on one."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

import torch
from tqdm import tqdm

Result = TypeVar("Result")


def in_processes(function: Callable[..., Result], calls: Mapping[str, tuple], unit: str) -> dict[str, Result]:
    """Results of `function(*arguments)` for the named arguments, in the order of their names.

    They are started in that order, as many at a time as there are cores; a progress bar counts them in `unit`.
    """
    with _quiet_workers() as pool:
        jobs = {pool.submit(function, *arguments): name for name, arguments in calls.items()}
        bar = tqdm(as_completed(jobs), total=len(jobs), unit=unit, disable=None)
        found = {jobs[job]: job.result() for job in bar}
    return {name: found[name] for name in calls}


@contextmanager
def _quiet_workers() -> Iterator[ProcessPoolExecutor]:
    """Spawned processes on one thread each, without progress bars of their own."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"  # read when the worker imports tqdm
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(
            os.cpu_count(), mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            yield pool
    finally:
        os.environ.pop("TQDM_DISABLE") if before is None else os.environ.update(TQDM_DISABLE=before)

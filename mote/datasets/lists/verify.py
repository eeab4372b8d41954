"""Which videos of a list cannot be decoded: first, middle and last frame of every file, in parallel processes.

A damaged file can do worse than raise: a decoder may crash or never return. So each worker process holds one file at a
time, and the parent kills a worker that is silent for `timeout` seconds, reports its file, and starts another worker.
"""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from mote.datasets.decoding.decode import read_frames
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.lists.manifest import Record


class Unreadable(NamedTuple):
    """A file that cannot be decoded, and why (one line)."""

    path: Path
    cause: str


class Report(NamedTuple):
    """Result of `verify`: number of files looked at, and the unreadable ones in the order of the list."""

    num_files: int
    unreadable: list[Unreadable]


def read_ends(path: Path) -> None:
    """Decode the first, the middle and the last frame of a video; DecodeError if that fails."""
    read_frames(path, lambda length: [0, length // 2, length - 1])


def verify(
    records: Sequence[Record],
    workers: int,
    progress: bool = True,
    *,
    timeout: float = 60.0,
    check: Callable[[Path], None] = read_ends,
) -> Report:
    """Apply `check` to every file of `records`, each file once, in `workers` processes.

    A file is unreadable when `check` raises, takes longer than `timeout` seconds, or brings its process down. `check`
    must be a module's function (the processes are spawned). `progress`: a bar, where there is a terminal to show it.
    """
    if workers < 1 or timeout <= 0:
        raise ValueError(f"expected workers >= 1 and timeout > 0, got workers={workers}, timeout={timeout}")
    paths = list(dict.fromkeys(record.path for record in records))
    causes: dict[Path, str] = {}
    with tqdm(total=len(paths), desc="verify", unit="file", disable=None if progress else True) as bar:
        for path, cause in _results(paths, workers, timeout, check):
            if cause is not None:
                causes[path] = cause
                bar.set_postfix(unreadable=len(causes))
            bar.update()
    return Report(len(paths), [Unreadable(path, causes[path]) for path in paths if path in causes])


def write_unreadable(path: Path | str, report: Report) -> None:
    """One line `file<TAB>cause` per unreadable file, none if all can be read; written aside, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        lines = (f"{file}\t{cause}\n" for file, cause in report.unreadable)
        part.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class _Worker:
    """A process and the file it has in hand; `deadline` is on the monotonic clock."""

    def __init__(self, context: SpawnContext, check: Callable[[Path], None]):
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, check), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe ends when the process does
        self.path: Path | None = None
        self.deadline = float("inf")

    def give(self, path: Path, timeout: float) -> None:
        """Start on `path`."""
        self.path, self.deadline = path, time.monotonic() + timeout
        self.pipe.send(path)

    def crash(self) -> str:
        """The exit code of a process that closed its pipe; RuntimeError if it had not been given a file yet."""
        self.process.join(5)
        if self.path is None:
            advice = "if this is a script, start it below `if __name__ == '__main__':`"
            raise RuntimeError(f"a worker process ended at once with code {self.process.exitcode}; {advice}")
        return f"the decoder crashed (exit code {self.process.exitcode})"

    def end(self) -> None:
        """Kill the process, whatever it is doing."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _work(pipe: Connection, check: Callable[[Path], None]) -> None:
    """The worker's life: say that all is imported, then path in, cause (None: fine) out, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    pipe.send(None)
    while True:
        try:
            path = pipe.recv()
        except EOFError:
            return
        try:
            check(path)
            cause = None
        except DecodeError as error:
            cause = error.cause
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
        pipe.send(cause if cause is None else " ".join(cause.split()))


def _results(
    paths: Sequence[Path], workers: int, timeout: float, check: Callable[[Path], None]
) -> Iterator[tuple[Path, str | None]]:
    """(path, cause or None) as the workers finish; every path exactly once."""
    context = multiprocessing.get_context("spawn")
    waiting = deque(paths)
    crew = [_Worker(context, check) for _ in range(min(workers, len(paths)))]
    try:
        while crew:
            heard = _wait(crew)
            for worker in [worker for worker in crew if worker.pipe in heard or worker.deadline <= time.monotonic()]:
                path, alive = worker.path, worker.pipe in heard
                cause = f"not decoded within {timeout:g} s"
                if alive:
                    try:
                        cause = worker.pipe.recv()
                    except (EOFError, OSError):
                        cause, alive = worker.crash(), False
                if path is not None:  # else the worker has only said that it is ready
                    yield path, cause
                if alive and waiting:
                    worker.give(waiting.popleft(), timeout)
                    continue
                worker.end()
                crew.remove(worker)
                if waiting:
                    crew.append(_Worker(context, check))
    finally:
        for worker in crew:
            worker.end()


def _wait(crew: Sequence[_Worker]) -> set[object]:
    """Pipes with a message or an end, as soon as there is one or a deadline passes."""
    deadline = min(worker.deadline for worker in crew)
    pause = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
    return set(wait([worker.pipe for worker in crew], pause))

"""Which videos of a list cannot be decoded: first, middle and last frame of every file, in parallel processes.

A damaged file can do worse than raise: a decoder may crash or never return. So files are read in processes of their
own, see `Bounded`, one for each thread of a pool.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from tqdm import tqdm

from mote.datasets.decoding.bounded import Bounded, CallAbandoned, KilledError
from mote.datasets.decoding.decode import read_frames
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.lists.manifest import Record
from mote.files.writing import write_atomic

AT_ONCE = 1024  # files handed to the threads together; each takes about 2 kB while it waits


class Unreadable(NamedTuple):
    """A file that cannot be decoded, and why (one line)."""

    path: Path
    cause: str


class Report(NamedTuple):
    """Result of `verify`: number of files looked at, and the unreadable ones in the order of the list."""

    num_files: int
    unreadable: list[Unreadable]


def read_ends(path: Path) -> None:
    """Decode the first, the middle and the last frame of a video; raises DecodeError where that fails."""
    read_frames(path, lambda length: [0, length // 2, length - 1], each=lambda frame: frame[0, 0])


def verify(
    records: Sequence[Record],
    workers: int,
    progress: bool = True,
    *,
    timeout: float = 60.0,
    check: Callable[[Path], None] = read_ends,
) -> Report:
    """The files of `records` that are unreadable: `check` raises, takes too long, or brings its process down.

    Args:
        records: files, of which each is looked at once.
        workers: number of processes.
        progress: show a bar, where there is a terminal for it.
        timeout: seconds for one file; without effect where processes are not forked (all but Linux).
        check: raises for a file that cannot be read.

    Raises:
        ValueError: no workers, or no time.
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
    """One line `file<TAB>cause` per unreadable file, none if all can be read."""
    write_atomic(path, "".join(f"{file}\t{cause}\n" for file, cause in report.unreadable))


def _results(
    paths: Sequence[Path], workers: int, timeout: float, check: Callable[[Path], None]
) -> Iterator[tuple[Path, str | None]]:
    """(path, cause or None) in order."""
    crew = [Bounded(partial(_cause, check), timeout) for _ in range(min(workers, len(paths)))]
    idle: SimpleQueue[Bounded[str | None]] = SimpleQueue()
    for bounded in crew:
        idle.put(bounded)

    def looked_at(path: Path) -> str | None:
        bounded = idle.get()
        try:
            return bounded(path)
        except CallAbandoned as error:
            return str(error)
        except KilledError:
            return f"the decoder crashed (exit code {-signal.SIGKILL})"
        finally:
            idle.put(bounded)

    with ThreadPoolExecutor(max(1, len(crew))) as pool:
        try:
            for first in range(0, len(paths), AT_ONCE):
                batch = paths[first : first + AT_ONCE]
                yield from zip(batch, pool.map(looked_at, batch), strict=True)
        except BaseException:  # such as Ctrl-C, for which nobody wants to wait until a file has hung long enough
            pool.shutdown(wait=False, cancel_futures=True)
            for bounded in crew:
                bounded.kill()
            raise
    for bounded in crew:
        bounded.close()


def _cause(check: Callable[[Path], None], path: Path) -> str | None:
    """What `check` says against a file, in one line; None: nothing."""
    try:
        check(path)
    except DecodeError as error:
        return " ".join(error.cause.split())
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None

"""What the processes of a training tell one another beside their collectives: who has to stop, failed, or is dead.

A collective with a process that has ended fails with the text of a socket, or waits for minutes. So every process knows
where the others run (host, process id), and all write words into one small store, which the first of them keeps.
"""

import os
import re
import socket
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Literal

import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

LEFT, FAILED = "left", "failed"  # words of a process that ends in order, or with an error which it says itself
CONNECTION = re.compile(r"gloo|nccl|connection (closed|reset|refused)|tcpstore", re.IGNORECASE)
PATIENCE = 10.0  # seconds that the first process waits for the others before it ends


class PeerDiedError(RuntimeError):
    """Another process of the training is gone. `is_told`: some other process tells the user."""

    def __init__(self, message: str, is_told: bool = False):
        super().__init__(message)
        self.is_told = is_told


class Peers:
    """The other processes.

    Args:
        store: connection to the words of all.
        rank: number of this process.
        places: (host, process id) of every process.
    """

    def __init__(self, store: dist.TCPStore, rank: int, places: list[tuple[str, int]]):  # type: ignore[attr-defined]
        self.store, self.rank, self.places = store, rank, places

    @classmethod
    def of(cls, accelerator: Accelerator) -> "Peers | None":
        """The processes of `accelerator`; None where there is one. Call it in every process."""
        if accelerator.num_processes == 1:
            return None
        host, wait = os.environ.get("MASTER_ADDR", "127.0.0.1"), timedelta(seconds=10)
        port: list[int] = [0]
        store = None
        if accelerator.is_main_process:
            store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=wait)  # type: ignore[attr-defined]
            port = [store.port]
        broadcast_object_list(port)
        if store is None:
            store = dist.TCPStore(host, port[0], is_master=False, wait_for_workers=False, timeout=wait)  # type: ignore[attr-defined]
        return cls(store, accelerator.process_index, gather_object([(socket.gethostname(), os.getpid())]))

    def announce(self, word: str) -> None:
        """Say a word to all; once is enough for all of them."""
        with suppress(RuntimeError):  # the first process, which keeps the words, is gone
            self.store.set(word, "yes")

    def heard(self, word: str) -> bool:
        """Whether somebody said the word."""
        try:
            return self.store.check([word])
        except RuntimeError:
            return False

    def leave(self, word: str = LEFT) -> None:
        """Say that this process ends; the first one waits some seconds for the others, who may still ask it."""
        self.announce(f"{word} {self.rank}")
        until = time.monotonic() + PATIENCE
        while self.rank == 0 and time.monotonic() < until and self._unfinished():
            time.sleep(0.05)

    def reason(self, error: BaseException, asked: float = 0.0) -> PeerDiedError | Literal["left"] | None:
        """What became of another process, where `error` comes of it.

        Args:
            error: a failed collective, or a request to stop, which a launcher sends where a process has died.
            asked: seconds since this process was asked to stop.

        Returns:
            Who died; "left" where the others ended in order; None where the error has nothing to do with them.
        """
        failed = isinstance(error, Exception)
        if failed and not _of_connection(error):
            return None
        until = time.monotonic() + (2 if failed else 0)
        while True:
            reachable = self._reachable()
            ended = self._ended() if reachable or asked < PATIENCE - 2 else []
            dead = [i for i in ended if not self.heard(f"{LEFT} {i}") and not self.heard(f"{FAILED} {i}")]
            said = any(self.heard(f"{FAILED} {i}") for i in range(len(self.places)))
            left = any(self.heard(f"{LEFT} {i}") for i in range(len(self.places)))
            if dead or said or left or time.monotonic() > until:
                break
            time.sleep(0.05)
        if dead:
            alive = [i for i in range(len(self.places)) if i not in dead]
            return PeerDiedError(
                f"process {', '.join(map(str, dead))} (from 0) of {len(self.places)} died: killed from outside, as a "
                "rule for want of memory",
                is_told=self.rank != min(alive),
            )
        if said:
            return PeerDiedError("another process ended with an error, which it says itself", is_told=True)
        if left or not failed or asked:
            return "left" if failed else None
        return PeerDiedError(f"the connection to another of {len(self.places)} processes is lost: it died")

    def _reachable(self) -> bool:
        try:
            self.store.check([LEFT])
        except RuntimeError:
            return False
        return True

    def _ended(self) -> list[int]:
        """Numbers of processes of this machine that are no more."""
        here = socket.gethostname()
        return [i for i, (host, pid) in enumerate(self.places) if host == here and _is_over(pid)]

    def _unfinished(self) -> list[int]:
        """Numbers of other processes that may still be asking."""
        over = set(self._ended()) | {self.rank}
        words = (LEFT, FAILED)
        return [i for i in range(len(self.places)) if i not in over and not any(self.heard(f"{w} {i}") for w in words)]


def _of_connection(error: BaseException) -> bool:
    """Whether an error is that of a collective or of the store, which fail where a process is gone."""
    if not isinstance(error, RuntimeError):
        return False
    return isinstance(error, dist.DistError) or CONNECTION.search(str(error)) is not None


def _is_over(pid: int) -> bool:
    """Whether a process has ended, also where nobody has asked for its exit code yet."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return True
    except (OSError, IndexError):  # no /proc here, or another user's
        return False
    return state in "ZX"

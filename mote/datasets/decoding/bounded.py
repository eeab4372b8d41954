"""Calls that can neither hang nor crash the caller: made in a process of their own, which is killed when it is silent.

A decoder in a native library cannot be interrupted, and a damaged file can make it loop or crash; only its process can
be ended. That process is forked at the first call and serves all further ones; arrays come back through shared memory,
since a pipe would hand them over in small pieces and wake both sides for each. Where processes are not forked (all but
Linux) the function is called here, without a bound.
"""

import mmap
import multiprocessing
import os
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Generic, TypeVar, cast

import numpy as np

from mote.datasets.decoding.memory import keep_freed_memory

ROOM = 2**28  # bytes of address space for an array; memory is taken as it is used


FORKING = threading.Lock()  # a process forked while another is would hold its pipe open after it has ended
Result = TypeVar("Result")


class CallAbandoned(Exception):
    """The call timed out or crashed; the text is the cause in a few words."""


class KilledError(RuntimeError):
    """A process that loads data was killed by the system, which is no fault of the file it had in hand."""

    def __str__(self) -> str:
        return super().__str__().strip().rsplit("\n", 1)[-1].removeprefix(f"{__name__}.KilledError: ")


class Bounded(Generic[Result]):
    """`function` (of picklable arguments, with a picklable result) with at most `timeout` seconds a call.

    Calls raise what `function` raises, CallAbandoned when it took too long or brought its process down, and KilledError
    when something else killed that process. One thread at a time may call it.
    """

    def __init__(self, function: Callable[..., Result], timeout: float):
        if not timeout > 0:
            raise ValueError(f"the timeout must be a number of seconds above 0, got {timeout}")
        self.function, self.timeout = function, timeout
        self._owner: int | None = None  # a process forked from the one that started the server starts its own

    def __getstate__(self) -> dict[str, object]:
        return {"function": self.function, "timeout": self.timeout, "_owner": None}

    def __call__(self, *arguments: object) -> Result:
        """`function(*arguments)`."""
        if sys.platform != "linux":
            return self.function(*arguments)
        if self._owner != os.getpid():
            with FORKING:
                self._start()
        try:
            self._pipe.send(arguments)
            if not self._pipe.poll(self.timeout):
                self._end()
                raise CallAbandoned(f"not decoded within {self.timeout:g} s")
            result, array, error = self._pipe.recv()
        except (EOFError, ConnectionError):
            code = os.waitstatus_to_exitcode(self._end())
            if code == -signal.SIGKILL:
                message = "a process that decodes videos was killed by the system, as a rule for want of memory"
                raise KilledError(f"{message}; lower data.workers or data.frames") from None
            raise CallAbandoned(f"the decoder crashed (exit code {code})") from None
        if error is not None:
            raise error
        return result if array is None else cast("Result", np.ndarray(*array, buffer=self._room).copy())

    def kill(self) -> None:
        """Kill the process, from another thread than that of a call, which then raises KilledError."""
        if self._owner == os.getpid():
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process; a later call starts another one."""
        if self._owner == os.getpid():
            self._end()

    def _start(self) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._room = mmap.mmap(-1, ROOM)  # anonymous, and shared with the process forked here
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on forks of processes with threads
            self._pid = os.fork()
        if self._pid == 0:
            try:
                self._pipe.close()
                _serve(theirs, self._room, self.function)
            finally:
                os._exit(0)
        theirs.close()
        self._owner = os.getpid()
        self._stop = weakref.finalize(self, _stop, self._pid, self._pipe, self._owner)

    def _end(self) -> int:
        self._owner = None
        return self._stop() or 0


def _stop(pid: int, pipe: Connection, owner: int) -> int:
    """Kill the server and return its wait status; in another process than the owner only the pipe is closed."""
    pipe.close()
    if os.getpid() != owner:
        return 0
    done, status = os.waitpid(pid, os.WNOHANG)
    if done == 0:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    return status


def _serve(pipe: Connection, room: mmap.mmap, function: Callable[..., object]) -> None:
    """The server's life: arguments in, (result, shape and type of an array in `room`, error) out, until the end."""
    for number in (signal.SIGINT, signal.SIGTERM):  # those are for the caller
        signal.signal(number, signal.SIG_IGN)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)  # the threads of the forked process are not here
    keep_freed_memory()
    while True:
        try:
            arguments = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            result, array = function(*arguments), None
            if isinstance(result, np.ndarray) and 0 < result.nbytes <= ROOM:
                array = result.shape, result.dtype
                np.ndarray(*array, buffer=room)[...] = result
                result = None
            answer = result, array, None
        except Exception as error:
            answer = None, None, error
        pipe.send(answer)

"""Stopping when asked to: SIGTERM (a preempted machine) and SIGINT (Ctrl-C) end a run so that it can go on.

While steps are made the first signal is only noted; the processes tell each other in the reduction that every step
makes anyway, so all of them stop after the same step. While nothing can be lost (start-up, evaluation) a signal stops
at once, and where there are several processes a watching thread tells the others (`parallel.peers`). A second signal
acts as if nothing here existed, unless it comes so soon that it is the same one, sent to a group and to its parts.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports torch, and signals are noted before that
    from mote.parallel.peers import Peers

SIGNALS = (signal.SIGTERM, signal.SIGINT)
TOLD = getattr(signal, "SIGUSR1", None)  # by the watching thread: another process was asked to stop
STOP = "stop"  # what processes tell one another
SAME = 3.0  # seconds within which a second signal is the first one again
PATIENCE = 10.0  # seconds for a process that was told to stop at once, before it is ended in the middle of a call


class Stopped(KeyboardInterrupt):
    """A run was asked to stop and can be resumed; the message says after which step and why."""


class Stop:
    """Whether this process was asked to stop.

    While `at_once` (all is saved and nothing is computed that cannot be repeated) a signal raises Stopped itself.

    Args:
        at_once: what holds until `immediately` or `noting` says something else.

    Attributes:
        last_words: called before a process that hangs in a call is ended; it tells the user.
    """

    def __init__(self, at_once: bool = False) -> None:
        self.signal: signal.Signals | None = None
        self.at_once = at_once
        self.step: int | None = None  # updates made
        self.since = 0.0  # when it was asked
        self.last_words: Callable[[Stopped], None] = lambda error: None
        self._before: dict[signal.Signals, object] = {}
        self._again: threading.Timer | None = None  # raises what Python could not hand on, see `_unraisable`

    @property
    def asked(self) -> bool:
        """A signal has come."""
        return self.signal is not None

    @property
    def waited(self) -> float:
        """Seconds since a signal came; 0 where none has."""
        return time.monotonic() - self.since if self.asked else 0.0

    def error(self, step: int | None) -> Stopped:
        """What to raise after `step` steps; None: in the start-up."""
        by = (
            f"by {self.signal.name}"
            if self.signal is not None and self.signal in SIGNALS
            else "with another process that was asked to"
        )
        return Stopped(f"stopped {by} {'at the start' if step is None else f'after step {step}'}")

    def check(self) -> None:
        """Raise Stopped where a signal has come."""
        if self.asked:
            raise self.error(self.step)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note signals here; in a thread that is not the main one, which gets none, or inside another, do nothing."""
        if threading.current_thread() is not threading.main_thread() or self._before:
            yield
            return
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        hook = sys.unraisablehook
        sys.unraisablehook = partial(self._unraisable, hook)
        try:
            yield
        finally:
            if self._again is not None:
                self._again.cancel()
            sys.unraisablehook = hook
            self._restore()
            self._before = {}

    @contextmanager
    def immediately(self, step: int | None) -> Iterator[None]:
        """Stop at once inside; raises Stopped at its start where a signal has come before."""
        before, self.step = self.at_once, step
        self.check()
        self.at_once = True
        try:
            yield
        finally:
            self.at_once = before

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Only note signals inside."""
        before, self.at_once = self.at_once, False
        try:
            yield
        finally:
            self.at_once = before

    @contextmanager
    def together(self, peers: "Peers | None") -> Iterator[None]:
        """Tell the other processes of a signal that comes here, and hear of those that come there."""
        if peers is None or TOLD is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        over = threading.Event()
        read, write = os.pipe()
        os.set_blocking(write, False)
        told, waking = signal.signal(TOLD, self._note), signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        watch = threading.Thread(target=self._watch, args=(peers, read, over), daemon=True)
        watch.start()
        try:
            if self.asked:
                peers.announce(STOP)
            yield
        finally:
            over.set()
            watch.join()
            signal.set_wakeup_fd(waking)
            signal.signal(TOLD, told)
            os.close(read)
            os.close(write)

    def _watch(self, peers: "Peers", read: int, over: threading.Event) -> None:
        """The watching thread; it also wakes where the main thread waits in a call, for another process, say."""
        since: float | None = None  # when this process was first known to have to stop
        while not over.is_set():
            ready, _, _ = select.select([read], [], [], 0.2)
            came = os.read(read, 64) if ready else b""
            if any(number in came for number in SIGNALS):
                peers.announce(STOP)
            if since is None and (any(number in came for number in SIGNALS) or peers.heard(STOP)):
                since = time.monotonic()
                if not self.asked and TOLD is not None:
                    os.kill(os.getpid(), TOLD)
            if since is not None and self.at_once and time.monotonic() - since > PATIENCE:
                self.last_words(self.error(self.step))
                os._exit(0)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if not self.asked:
            self.signal, self.since = signal.Signals(number), time.monotonic()
            if self.at_once:
                raise self.error(self.step)
        elif self._again is not None and self.at_once:
            self._again = None
            raise self.error(self.step)
        elif number in SIGNALS and self.waited > SAME:
            self._restore()
            os.kill(os.getpid(), number)

    def _unraisable(self, hook: Callable[["sys.UnraisableHookArgs"], object], lost: "sys.UnraisableHookArgs") -> None:
        """Raise Stopped a moment later where a signal came while an object was destroyed, which ends nothing."""
        if not isinstance(lost.exc_value, Stopped) or self.signal is None:
            hook(lost)
            return
        self._again = threading.Timer(0.05, os.kill, (os.getpid(), self.signal))
        self._again.daemon = True
        self._again.start()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

"""Stopping when asked to: SIGTERM (a preempted machine) and SIGINT (Ctrl-C) end a run at the next step boundary.

The first signal is only noted; the processes tell each other in the reduction that every step makes anyway, so all of
them stop after the same step. A second signal acts as if nothing here existed.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(KeyboardInterrupt):
    """A run was asked to stop and can be resumed; the message says after which step and why."""


class Stop:
    """Whether this process was asked to stop.

    While `at_once` (all is saved and nothing is computed that cannot be repeated) a signal raises Stopped itself.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.at_once = False
        self._before: dict[signal.Signals, object] = {}

    @property
    def asked(self) -> bool:
        """A signal has come."""
        return self.signal is not None

    def error(self, step: int) -> Stopped:
        """What to raise after `step` steps."""
        name = f"by {self.signal.name}" if self.signal else "with another process that was asked to"
        return Stopped(f"stopped {name} after step {step}")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note signals here; in a thread that is not the main one, which gets no signals, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            self._restore()

    @contextmanager
    def immediately(self, step: int) -> Iterator[None]:
        """Stop at once inside; raises Stopped at its start where a signal has come before."""
        if self.asked:
            raise self.error(step)
        self.at_once, self._step = True, step
        try:
            yield
        finally:
            self.at_once = False

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore()
        if self.at_once:
            raise self.error(self._step)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

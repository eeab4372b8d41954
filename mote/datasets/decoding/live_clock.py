"""Times of the frames of a live stream, which always grow: its own while they make sense, else the clock's."""

import math
import time

JUMP = 10.0  # seconds by which a stream's own times may run ahead of the clock
STEP = 0.04  # seconds between frames where neither stream nor clock tells


class StreamClock:
    """Seconds since the first frame, always growing, from the times of a stream and the clock."""

    def __init__(self, trusting: bool):
        self.trusting = trusting  # of a pipe, which may be read faster or slower than it was filmed
        self.last: float | None = None
        self._start, self._offset = 0.0, 0.0
        self._rebase = True

    def interrupted(self) -> None:
        """The next frame's own time has nothing to do with those before."""
        self._rebase = True

    def time(self, own: float | None, rate: float) -> float:
        """The time of the next frame, whose own is `own`; rate: frames a second, 0 if unknown."""
        now, step = time.monotonic(), 1 / rate if rate > 0 else STEP
        if self.last is None:
            self._start, self.last = now, 0.0
            self._rebase = own is None or math.isnan(own)
            self._offset = 0.0 if own is None or self._rebase else -own
            return 0.0
        elapsed = self.last + step if self.trusting else max(now - self._start, self.last + 1e-3)
        if own is None or math.isnan(own):
            self.last = elapsed
            return elapsed
        seconds = own + self._offset
        if self._rebase or seconds <= self.last or (not self.trusting and seconds > elapsed + JUMP):
            self._offset, seconds, self._rebase = elapsed - own, elapsed, False
        self.last = seconds
        return seconds

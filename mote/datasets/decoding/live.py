"""Live streams as frames with their times: cameras of a network or of this machine, broadcasts, pipes.

Times are seconds since the first frame: those of the stream while it lasts, and of the clock where it was interrupted
or its own make no sense. Frames wait in a short queue; where the reader of a camera is slower than it, the oldest are
left out and counted, so the delay stays bounded. A pipe waits for its reader instead, and loses nothing.
"""

import os
import signal
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

import av
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.video.reformatter import VideoReformatter

from mote.datasets.decoding.addresses import LIVE
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.decoding.live_clock import StreamClock
from mote.datasets.decoding.reading import Frame
from mote.datasets.decoding.streams import UPRIGHT, display_matrix, upright, video_stream
from mote.files.addresses import scheme, without_secrets

NETWORK = "http,https,httpproxy,tcp,tls,udp,rtp,srtp,rtsp,rtmp,rtmps,rtmpt,srt,crypto"  # a playlist opens no file
CAMERAS = {"linux": "video4linux2,v4l2", "darwin": "avfoundation", "win32": "dshow"}  # by platform
HELD = 2**28  # bytes of frames between decoder and reader, but two frames at least
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between two attempts to connect; it doubles
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def is_live(place: Path | str) -> bool:
    """Whether a place is a live stream by its look: `-`, a pipe, a camera device, rtsp:// and its like.

    Of http:// nothing is known before it is read: it may be a file or live.
    """
    kind = scheme(place)
    if kind is not None:
        return kind in LIVE
    return str(place) == "-" or _is_pipe(place) or _is_camera(place)


def live_frames(
    address: Path | str, *, retry_seconds: float = 60.0, silence_seconds: float = 10.0, camera: str | None = None
) -> Iterator[tuple[float, Frame]]:
    """(seconds, frame) of a live stream as they come, uint8 RGB (H, W, 3), upright; times always grow.

    It ends with a pipe, and with SIGINT or SIGTERM where this is the main thread: the frames stop, so that what was
    made of them can be written; a second signal acts as ever. A camera or a stream that drops is connected to again,
    with growing pauses, which stderr tells. Frames left out are told at the end.

    Args:
        address: `rtsp://`, `rtmp://`, `http://` and others, a camera (`/dev/video0`), a named pipe, or `-` for the
            standard input (MPEG-TS, Matroska, or whatever else can be read from front to back).
        retry_seconds: how long a stream that dropped is waited for; 0 = it then ends.
        silence_seconds: after which a stream that sends nothing counts as dropped.
        camera: FFmpeg's name for devices of this kind; None = that of this system.

    Raises:
        DecodeError: it cannot be opened at the start, or stays away for longer than `retry_seconds`.
        ValueError: times that are none.
    """
    if not (retry_seconds >= 0 and silence_seconds > 0):
        raise ValueError(f"expected retry_seconds >= 0 and silence_seconds > 0, got {retry_seconds}, {silence_seconds}")
    reader = _Reader(str(address), retry_seconds, silence_seconds, camera)
    with _signals(reader):
        reader.thread.start()
        try:
            yield from reader.frames()
        finally:
            reader.stop()


class _Reader:
    """The thread that decodes, and the queue between it and the reader of the frames."""

    def __init__(self, address: str, retry: float, silence: float, camera: str | None):
        self.address, self.shown, self.retry, self.silence = address, without_secrets(address), retry, silence
        self.camera = camera or CAMERAS.get(sys.platform, "")
        self.is_pipe = address == "-" or _is_pipe(address)
        self.queue: deque[tuple[float, Frame]] = deque()
        self.changed = threading.Condition()
        self.over = False  # no frame will be added, or none is wanted any more
        self.asked = ""  # the signal by which it was asked to end
        self.error: Exception | None = None
        self.dropped = 0
        self.thread = threading.Thread(target=self._run, name="live frames", daemon=True)
        self._clock = StreamClock(self.is_pipe)

    def frames(self) -> Iterator[tuple[float, Frame]]:
        """What comes out of the queue, until it is over; raises what the thread met."""
        while True:
            with self.changed:
                while not self.queue and not self.over:
                    self.changed.wait(0.2)  # so that signals are heard
                if self.asked or not self.queue:
                    break
                item = self.queue.popleft()
                self.changed.notify_all()
            yield item
        if self.asked:
            self._say(f"ended by {self.asked}")
        elif self.error is not None:
            raise self.error

    def stop(self) -> None:
        """Let the thread end; it does when the stream sends something, or has been silent for long enough."""
        with self.changed:
            self.over = True
            self.queue.clear()
            self.changed.notify_all()
        self.thread.join(1.0)
        if self.dropped:
            self._say(f"{self.dropped} frames were left out, as they came faster than they were looked at")
            self.dropped = 0

    def interrupt(self, name: str) -> None:
        """Hand out no more frames; called by a signal, in the midst of anything, so no lock is taken."""
        self.asked, self.over = name, True

    def _say(self, text: str) -> None:
        print(f"mote: {self.shown}: {text}", file=sys.stderr, flush=True)

    def _run(self) -> None:
        try:
            self._connections()
        except Exception as error:
            self.error = error if isinstance(error, DecodeError) else self._failed(error)
        with self.changed:
            self.over = True
            self.changed.notify_all()

    def _connections(self) -> None:
        """One connection after the other, until the stream is over or away for too long."""
        pause, since, before = FIRST_PAUSE, None, False
        while not self.over:
            cause, came = "the stream ended", False
            try:
                for item in self._connection():
                    if not came and since is not None:
                        self._say(f"it is back after {time.monotonic() - since:.1f} s")
                    pause, since, came, before = FIRST_PAUSE, None, True, True
                    self._add(item)
            except (FFmpegError, OSError, ValueError) as error:
                if self.is_pipe or not before:
                    raise
                cause = _cause(error)
            if self.is_pipe or self.over:
                return
            if not before:
                raise ValueError("it sends no frame")
            since = time.monotonic() if since is None else since
            if time.monotonic() - since + pause > self.retry:
                if self.retry == 0:
                    return
                raise ValueError(f"{cause}; it did not come back within {self.retry:g} s")
            self._say(f"{cause}; trying again in {pause:g} s")
            self._clock.interrupted()
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _sleep(self, seconds: float) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.over, seconds)

    def _connection(self) -> Iterator[tuple[float, Frame]]:
        with self._opened() as container:
            stream = video_stream(container) if not self._is_playlist(container) else container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1
            rate, reformatter = float(stream.average_rate or 0.0), VideoReformatter()
            for frame in self._decoded(container, stream):
                if self.over:
                    return
                if not frame.is_corrupt:
                    yield self._clock.time(frame.time, rate), _pixels(frame, reformatter)

    def _decoded(self, container: InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        """Frames up to the last one that came, also where the stream breaks off."""
        try:
            for packet in container.demux(stream):
                with suppress(InvalidDataError):  # a piece that was lost; the decoder goes on behind it
                    yield from packet.decode()
        except (FFmpegError, OSError):
            with suppress(FFmpegError):
                yield from stream.codec_context.decode(None)
            raise

    @contextmanager
    def _opened(self) -> Iterator[InputContainer]:
        # TCP loses nothing; a camera that offers UDP only is still read.
        options = {"protocol_whitelist": NETWORK, "rtsp_flags": "prefer_tcp"}
        with ExitStack() as stack:
            if self.is_pipe:
                pipe = _Pipe(self.address, stack)
                yield stack.enter_context(av.open(pipe, options={"protocol_whitelist": "none"}))  # pyright: ignore
            elif scheme(self.address) is not None:
                yield stack.enter_context(av.open(self.address, options=options, timeout=self.silence))
            else:
                address = os.path.abspath(self.address) if os.path.exists(self.address) else self.address
                yield stack.enter_context(av.open(address, format=self.camera, timeout=self.silence))

    def _is_playlist(self, container: InputContainer) -> bool:
        """Whether it is a live playlist of a server, which may be followed on the network."""
        return scheme(self.address) in ("http", "https") and container.format.name in ("hls", "dash")

    def _add(self, item: tuple[float, Frame]) -> None:
        most = max(2, HELD // item[1].nbytes)
        with self.changed:
            if self.is_pipe:
                self.changed.wait_for(lambda: len(self.queue) < most or self.over)
            if self.over:
                return
            if len(self.queue) >= most:
                self.queue.popleft()
                self.dropped += 1
            self.queue.append(item)
            self.changed.notify_all()

    def _failed(self, error: Exception) -> DecodeError:
        cause = _cause(error)
        if not scheme(self.address) and not os.path.exists(self.address) and self.address != "-":
            cause = "there is no such pipe or camera"
        advice = "" if "; " in cause else "; check the address and whether it is switched on"
        return DecodeError(self.address, "pyav", f"{cause}{advice}")


class _Pipe:
    """The standard input or a named pipe, for FFmpeg to read from front to back."""

    def __init__(self, address: str, stack: ExitStack):
        self.name = "pipe"
        self._file: IO[bytes] = sys.stdin.buffer
        if address != "-":
            self._file = stack.enter_context(Path(address).open("rb", 0))  # noqa: SIM115

    def read(self, count: int) -> bytes:
        """What there is, up to `count` bytes; nothing at the end only."""
        return os.read(self._file.fileno(), count)


def _pixels(frame: av.VideoFrame, reformatter: VideoReformatter) -> Frame:
    rgb = reformatter.reformat(frame, format="rgb24", threads=1)
    return upright(rgb.to_ndarray(), display_matrix(frame) if frame.rotation else UPRIGHT)


def _cause(error: Exception) -> str:
    """What an error says, without the address that FFmpeg adds to it."""
    if isinstance(error, ValueError) and not isinstance(error, FFmpegError):
        return str(error)
    text = getattr(error, "strerror", None) or type(error).__name__
    plain = {"Immediate exit requested": "it is silent", "Connection timed out": "it does not answer"}
    return {**plain, "Input/output error": "the connection was lost", "End of file": "it sent nothing"}.get(text, text)


def _is_pipe(place: Path | str) -> bool:
    with suppress(OSError, ValueError):
        return stat.S_ISFIFO(os.stat(place).st_mode)
    return False


def _is_camera(place: Path | str) -> bool:
    with suppress(OSError, ValueError):
        return stat.S_ISCHR(os.stat(place).st_mode)
    return str(place).startswith("/dev/video")


@contextmanager
def _signals(reader: _Reader) -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM ends the frames, the second acts as before; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, _frame: FrameType | None) -> None:
        restore()
        reader.interrupt(signal.Signals(number).name)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield
    finally:
        if any(signal.getsignal(number) is note for number in SIGNALS):
            restore()

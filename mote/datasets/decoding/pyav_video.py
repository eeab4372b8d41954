"""A video file that FFmpeg opens, through PyAV: how frames get their numbers, and how they are found, see `decode`."""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Float64, Int64

from mote.datasets.decoding.errors import FrameOrderError, reported
from mote.datasets.decoding.reading import Frame, OpenVideo
from mote.datasets.decoding.remote import RemoteFile, frame_data
from mote.datasets.decoding.streams import OPTIONS, REMOTE_OPTIONS, UPRIGHT, display_matrix, upright, video_stream
from mote.datasets.decoding.tar_shards import part_of

TIMED_FORMATS = {"mov", "matroska", "flv"}  # containers that store presentation times and seek exactly
UNPARSED = {"h264", "hevc", "av1", "vp9", "mpeg4", "mjpeg"}  # codecs whose frames an MP4 lists one by one
REORDERED = 16  # places that a packet is at most stored away from where its frame is shown: what H.264 and HEVC allow
HELD = 2**26  # bytes of packets kept from counting a file to decoding it, so that it need not be opened and read again


class PyAVVideo(OpenVideo):
    """A video file that FFmpeg opens; `remote`: what it is read from where `path` is an address, and closed with it."""

    decoder = "pyav"

    def __init__(self, path: Path | str, remote: RemoteFile | None = None):
        super().__init__(path)
        self._remote = remote
        self._unread = False  # frames were numbered without their bytes, so not every key frame may be known
        self._reformatter = VideoReformatter()  # shared: building one costs more than converting a small frame
        self._reordered = False  # packets are stored in another order than that in which their frames are shown
        self._shown: list[int] = []  # sorted times of all frames, whether these are counted or not; [] = not known
        self._last = 0  # how long the last of them is shown; 0 = not known
        self._held: list[av.Packet] = []  # all packets of a file whose frames are counted, until they are decoded
        with self._steady(), reported(self._path, self.decoder):
            self._open()
            self.fps = float(self._stream.average_rate or 0.0)
            self.num_frames, self._times, self._keys = self._scan_unread() or self._scan()
            if self.num_frames == 0:
                self._count()

    def __exit__(self, *_: object) -> None:
        self._container.close()
        if self._remote is not None:
            self._remote.close()

    @property
    def keyframes(self) -> list[int]:
        """Frames that can be decoded without any other, ascending; none known where frames are counted."""
        if self._unread and self._times:
            with self._steady(), reported(self._path, self.decoder):
                self._container.close()
                self._open()
                self.num_frames, self._times, self._keys = self._scan()
                self._unread = False
        return self._keys if self._times else []

    def _changed(self) -> bool:
        return super()._changed() if self._remote is None else self._remote.changed()

    @property
    def times(self) -> Float64[np.ndarray, "N"]:
        """See `OpenVideo.times`: the times of the packets, where they are those of the frames."""
        if len(self._shown) != self.num_frames:
            return super().times
        return (np.array(self._shown, dtype=np.int64) - self._shown[0]) * self._tick

    @property
    def end(self) -> float:
        """See `OpenVideo.end`; the last frame takes as long as its packet says, where it does."""
        known = self._last > 0 and len(self._shown) == self.num_frames
        return float(self.times[-1] + self._last * self._tick) if known else super().end

    def frames(self, wanted: Int64[np.ndarray, "N"]) -> Iterator[Frame]:
        """See `OpenVideo.frames`; the first frame sets the size."""
        size, mark, matrix = None, None, UPRIGHT
        with reported(self._path, self.decoder):
            for frame in self._timed(wanted) if self._times else self._counted(wanted):
                if frame.rotation != mark:  # read when it changes: PyAV's view of a frame's side data keeps the frame
                    mark, matrix = frame.rotation, display_matrix(frame)
                swapped = matrix[0] == 0
                if size is None:
                    size = (frame.height, frame.width)[:: -1 if swapped else 1]
                height, width = size[:: -1 if swapped else 1]
                rgb = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
                plane = rgb.planes[0]  # its lines may be padded; a view of it, where `to_ndarray` would make a copy
                lines = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)  # pyright: ignore
                yield upright(lines[:, : 3 * width].reshape(height, width, 3), matrix)

    def _open(self) -> None:
        if self._remote is None:
            self._container = av.open(_address(self._path), options=OPTIONS)
        else:
            self._remote.seek(0)
            self._container = av.open(self._remote, "r", options=REMOTE_OPTIONS)
            self._remote.check()
        stream = video_stream(self._container)
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        self._stream, self._tick = stream, float(stream.time_base or 0)

    def _scan_unread(self) -> tuple[int, list[int], list[int]] | None:
        """What `_scan` finds in an MP4 at an address, without fetching its frames; None: they must be read.

        FFmpeg is shown zeros in their place and told not to look at them. What is then seen as a key frame is what the
        file lists as one, which may be less than what its frames say.
        """
        if self._remote is None or "mov" not in self._container.format.name or self._stream.name not in UNPARSED:
            return None
        seen, stream, position = self._container, self._stream, self._remote.tell()
        self._remote.hollow = frame_data(self._remote)
        if not self._remote.hollow:
            self._remote.seek(position)
            return None
        self._remote.seek(0)
        with av.open(self._remote, "r", options={**REMOTE_OPTIONS, "fflags": "noparse+nofillin"}) as unread:
            self._container, self._stream = unread, unread.streams[stream.index]
            found = self._scan() if len(unread.streams) == len(seen.streams) else (0, [], [])
        self._remote.hollow, self._unread = [], bool(found[1])
        self._remote.seek(position)  # where the other container left it, which reads on from there
        self._container, self._stream = seen, stream
        return found if found[1] else None

    def _scan(self) -> tuple[int, list[int], list[int]]:
        """Packets that hold a frame; their sorted times and the indices of the key frames, if the times are a guide."""
        timed = not TIMED_FORMATS.isdisjoint(self._container.format.name.split(","))
        times, durations, keys, held, size = [], [], [], [], 0
        for packet in self._packets():
            size += packet.size
            if not timed and size <= HELD:
                held.append(packet)
            if packet.is_corrupt and timed:
                raise ValueError("the file is cut off or damaged")
            if packet.is_discard or packet.size <= 1:  # outside the edit list; DivX's filler, or the end of the file
                continue
            times.append(packet.pts)
            durations.append(packet.duration or 0)
            if packet.is_keyframe:
                keys.append(packet.pts)
        self._held = held if size <= HELD else []
        if None in times or len(set(times)) < len(times) or keys[:1] != [min(times, default=None)]:
            return len(times), [], []
        ordered = sorted(times)
        if timed or all(abs(bisect_left(ordered, time) - place) <= REORDERED for place, time in enumerate(times)):
            self._shown, self._last = ordered, durations[times.index(ordered[-1])]
        if not timed:
            return len(times), [], []
        self._reordered = times != ordered
        return len(times), ordered, sorted(bisect_left(ordered, key) for key in keys)

    def _timed(self, wanted: Int64[np.ndarray, "N"]) -> Iterator[av.VideoFrame]:
        """The frames at ascending `wanted`, seeking only when that skips a key frame."""
        needed = {self._times[index] for index in wanted}
        position, frames = -1, None
        for index in wanted:
            key = self._keys[bisect_right(self._keys, index) - 1]
            if frames is None or key > position + 1:
                frames, position = self._seek(key, needed), -1
            while position < index:
                position, frame, damaged = next(frames, (-1, None, False))
                if frame is None or position > index:
                    self._count()
                    raise FrameOrderError(self._path, self.decoder, "its frames contradict its list of times")
            if damaged:
                raise ValueError(f"frame {index} is damaged")
            yield frame

    def _seek(self, key: int, needed: set[int]) -> Iterator[tuple[int, av.VideoFrame, bool]]:
        """(index, frame, damaged) from key frame `key` on; ends where the frames leave the list of times."""
        self._container.seek(self._times[key], stream=self._stream)
        previous = None
        for frame, damaged in _with_damage(self._decode(needed)):
            index = bisect_left(self._times, frame.pts) if frame.pts is not None else len(self._times)
            known = index < len(self._times) and self._times[index] == frame.pts
            step = 1 if previous is None else index - previous
            if not known or step < 1 or (step > 1 and not self._reordered) or (previous is None and index > key):
                return
            yield index, frame, damaged
            previous = index

    def _decode(self, needed: set[int]) -> Iterator[av.VideoFrame]:
        """Frames from here on; those that no other frame builds on only if their time is in `needed`.

        That saves up to a third of the time on H.264 with B-frames. Only where the container stores times out of order,
        hence real ones: frames left out would hide a list of times that is none.
        """
        for packet in self._packets():
            if self._reordered:
                unneeded = packet.size > 0 and packet.pts not in needed
                self._stream.codec_context.skip_frame = "NONREF" if unneeded else "DEFAULT"
            yield from packet.decode()

    def _counted(self, wanted: Int64[np.ndarray, "N"]) -> Iterator[av.VideoFrame]:
        """The frames at ascending `wanted`, decoding from the start to the last of them."""
        left = wanted.tolist()[::-1]
        for index, (frame, damaged) in enumerate(self._from_start()):
            if index == left[-1]:
                if damaged:
                    raise ValueError(f"frame {index} is damaged")
                yield frame
                left.pop()
            if not left:
                return
        self._count()
        raise FrameOrderError(self._path, self.decoder, f"it ends at frame {self.num_frames - 1}")

    def _count(self) -> None:
        """Decode everything once, for a `num_frames` that needs no trust in the container."""
        self._times, self._shown, self.num_frames = [], [], sum(1 for _ in self._from_start())
        if self.num_frames == 0:
            raise ValueError("it holds no frame")

    def _from_start(self) -> Iterator[tuple[av.VideoFrame, bool]]:
        packets, self._held = self._held, []
        if not packets:
            self._container.close()
            self._open()  # opened afresh: these containers do not seek reliably, not even to their start
        return _with_damage(frame for packet in packets or self._packets() for frame in packet.decode())

    def _packets(self) -> Iterator[av.Packet]:
        """Packets from here on. A `demux` of PyAV that is left before its end keeps 144 bytes, unless it is closed:
        `yield from` does that, `for` and PyAV's own `decode` do not."""
        yield from self._container.demux(self._stream)
        if self._remote is not None:
            self._remote.check()


def _address(path: str) -> str:
    """What FFmpeg opens: an absolute path (a colon in the name is then not read as a protocol), or a part of a file."""
    part = part_of(path)
    if part is None:
        return os.path.abspath(path)
    end = part.offset + part.size
    return f"subfile,,start,{part.offset},end,{end},,:{os.path.abspath(part.archive)}"


def _with_damage(frames: Iterable[av.VideoFrame]) -> Iterator[tuple[av.VideoFrame, bool]]:
    """Mark a frame that the decoder flags, and those that build on it: all up to the next key frame."""
    damaged = False
    for frame in frames:
        damaged = frame.is_corrupt or (damaged and not frame.key_frame)
        yield frame, damaged

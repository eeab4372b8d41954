"""From a video file to the frames asked for: `read_frames(path, indices)` -> uint8 (T, H, W, 3), RGB, upright.

Frame `i` is the i-th frame shown when the file is played from its start. Only two ways of finding it are exact:

- the packets' presentation times, sorted, number the frames: seek to the key frame before, decode, and check every
  frame's time against the list (MP4, MOV, Matroska, WebM, FLV, which store these times);
- decode from the start and count (AVI, MPEG-TS, MPEG-PS, and whatever contradicts its own list). The length is then the
  number of packets, until reading past the last frame shows that it was too large.

PyAV is the default because it reports the time of each frame it hands out. The other decoder is decord, see
`decord_video`: it returns other frames than those asked for on several formats, and it is not faster. Where PyAV fails,
decord is not tried: it opens no file that PyAV cannot, and conceals damage that PyAV reports.

Colours: YUV becomes RGB by the ITU-R BT.601 matrix whatever the file declares, as in decord and OpenCV, hence as in the
frames that published models were trained on.
"""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Float64, Int64

from mote.datasets.decoding.decord_video import DecordVideo
from mote.datasets.decoding.errors import DecodeError, FrameOrderError, reported
from mote.datasets.decoding.frame_folder import FrameFolder
from mote.datasets.decoding.reading import Frame, OpenVideo
from mote.datasets.decoding.streams import OPTIONS, UPRIGHT, display_matrix, is_video, upright, video_stream
from mote.datasets.decoding.tar_shards import part_of
from mote.datasets.lists.folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from mote.datasets.sampling import to_keyframes

TIMED_FORMATS = {"mov", "matroska", "flv"}  # containers that store presentation times and seek exactly
REORDERED = 16  # places that a packet is at most stored away from where its frame is shown: what H.264 and HEVC allow
HELD = 2**26  # bytes of packets kept from counting a file to decoding it, so that it need not be opened and read again


class PyAVVideo(OpenVideo):
    """A video file that FFmpeg opens."""

    decoder = "pyav"

    def __init__(self, path: Path | str):
        super().__init__(path)
        self._reformatter = VideoReformatter()  # shared: building one costs more than converting a small frame
        self._reordered = False  # packets are stored in another order than that in which their frames are shown
        self._shown: list[
            int
        ] = []  # sorted times of the frames, also of files whose frames are counted; [] = not known
        self._last = 0  # how long the last of them is shown; 0 = not known
        self._held: list[av.Packet] = []  # all packets of a file whose frames are counted, until they are decoded
        with reported(self._path, self.decoder):
            self._open()
            self.fps = float(self._stream.average_rate or 0.0)
            self.num_frames, self._times, self._keys = self._scan()
            if self.num_frames == 0:
                self._count()

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @property
    def keyframes(self) -> list[int]:
        """Frames that can be decoded without any other, ascending; none known where frames are counted."""
        return self._keys if self._times else []

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
        self._container = av.open(_address(self._path), options=OPTIONS)
        stream = video_stream(self._container)
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        self._stream, self._tick = stream, float(stream.time_base or 0)

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


DECODERS = {"pyav": PyAVVideo, "decord": DecordVideo}


def open_video(path: Path | str, decoder: str = "pyav") -> OpenVideo:
    """An open video, still image, or folder of frames; `path` may also name a video in an archive, see `tar_shards`.

    Raises:
        DecodeError: it is missing, is no video, or lies in an archive, which decord cannot read.
        ValueError: an unknown decoder, or one that is not installed.
    """
    if decoder not in DECODERS:
        raise ValueError(f"unknown decoder {decoder!r}: choose from {', '.join(DECODERS)}")
    if os.path.isdir(path):
        return FrameFolder(path)
    part = part_of(path)
    file, size = (path, 1) if part is None else (part.archive, part.offset + part.size)
    if not os.path.isfile(file):
        odd = "it is not a file" if os.path.exists(file) else "there is no such file"  # such as a named pipe
        raise DecodeError(path, decoder, odd)
    if part is not None and (decoder != "pyav" or os.path.getsize(file) < size):
        raise DecodeError(path, decoder, "its archive is cut off" if decoder == "pyav" else "it reads no archives")
    if os.path.getsize(file) == 0 or (part is not None and part.size == 0):
        raise DecodeError(path, decoder, "the file is empty")
    if part is None and Path(path).suffix.lower() in IMAGE_SUFFIXES - VIDEO_SUFFIXES and not is_video(path):
        return FrameFolder(path)
    return DECODERS[decoder](path)


def read_frames(
    path: Path | str,
    indices: Sequence[int] | np.ndarray | Callable[[int], Sequence[int] | np.ndarray],
    decoder: str = "pyav",
    near_keyframes: bool = False,
    each: Callable[[Frame], np.ndarray] | None = None,
) -> np.ndarray:
    """Frames of a video file, uint8 RGB (T, H, W, 3), upright.

    Args:
        path: see `open_video`.
        indices: T frame numbers, or a function from the number of frames of the opened file to them.
        decoder: "pyav" or "decord", which may return other frames, see `decord_video`.
        near_keyframes: take other frames that are cheaper to decode, see `to_keyframes`, at most half a segment of
            num_frames / T away; no effect with decord.
        each: what is kept of a frame, in its place, see `OpenVideo.read`. Large videos then take no more memory than
            small ones.

    Raises:
        DecodeError: the file cannot be decoded.
        IndexError: it has no such frame.
    """
    with open_video(path, decoder) as video:
        while True:
            wanted = np.asarray(indices(video.num_frames) if callable(indices) else indices)
            if near_keyframes:
                wanted = to_keyframes(wanted, video.keyframes, video.num_frames // (2 * len(wanted)))
            try:
                return video.read(wanted, each)
            except FrameOrderError:  # at most once: from here on the frames are counted
                continue


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

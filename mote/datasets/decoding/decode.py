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
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mote.datasets.decoding.decord_video import DecordSingleVideo, DecordVideo
from mote.datasets.decoding.errors import DecodeError, FrameOrderError, reported
from mote.datasets.decoding.frame_folder import FrameFolder
from mote.datasets.decoding.pyav_video import PyAVVideo
from mote.datasets.decoding.reading import Frame, OpenVideo
from mote.datasets.decoding.remote import RemoteFile
from mote.datasets.decoding.streams import is_video
from mote.datasets.decoding.tar_shards import part_of
from mote.datasets.lists.folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from mote.datasets.sampling import to_keyframes
from mote.files.addresses import scheme

DECODERS = {"pyav": PyAVVideo, "decord": DecordVideo, "decord_single": DecordSingleVideo}


def open_video(path: Path | str, decoder: str = "pyav") -> OpenVideo:
    """An open video, still image, or folder of frames; `path` may also name a video in an archive, see `tar_shards`,
    and one at an address (`https://...`, text and no Path), see `remote`.

    Raises:
        DecodeError: it is missing, is no video, or lies in an archive or at an address, which decord cannot read.
        ValueError: an unknown decoder, or one that is not installed.
    """
    if decoder not in DECODERS:
        raise ValueError(f"unknown decoder {decoder!r}: choose from {', '.join(DECODERS)}")
    with reported(os.fspath(path), decoder):
        if scheme(path) is not None:
            return _open_remote(os.fspath(path), decoder)
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
        decoder: "pyav", or "decord" or "decord_single", which may return other frames, see `decord_video`.
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


def _open_remote(path: str, decoder: str) -> OpenVideo:
    if decoder != "pyav":
        raise ValueError("it reads no addresses; take data.decoder=pyav, or copy the file here")
    file = RemoteFile(path)
    try:
        if Path(file.name).suffix.lower() in IMAGE_SUFFIXES - VIDEO_SUFFIXES and not is_video(file):
            with file:
                file.seek(0)
                return FrameFolder(path, file.readall())
        return PyAVVideo(path, file)
    except BaseException:
        file.close()
        raise

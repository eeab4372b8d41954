"""A clip published as a folder of its frames (DFEW: `00001/1.jpg`, ...), with the interface of `decode.PyAVVideo`.

Frames are in the order of their names, where numbers count by their value: 2.jpg comes before 10.jpg. Only the frames
that are asked for are opened.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from mote.datasets.decoding.errors import DecodeError, checked_indices, reported
from mote.datasets.lists.manifest import IMAGE_SUFFIXES, video_files

BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what Pillow raises for a damaged file


class FrameFolder:
    """An open folder: `num_frames`, `fps` (0.0: unknown), `decoder`, `read(indices)`; DecodeError where it is empty."""

    decoder = "pillow"
    keyframes = ()
    fps = 0.0

    def __init__(self, path: Path | str):
        self._path, self._files = str(path), frame_files(Path(path))
        self.num_frames = len(self._files)
        if not self._files:
            raise DecodeError(path, self.decoder, "the folder holds no image")

    def __enter__(self) -> "FrameFolder":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, indices: Sequence[int] | np.ndarray) -> UInt8[np.ndarray, "T H W 3"]:
        """As `PyAVVideo.read`; all of them must be of one size."""
        wanted, place = np.unique(checked_indices(self._path, indices, self.num_frames), return_inverse=True)
        with reported(self._path, self.decoder):
            frames = [_pixels(self._files[index]) for index in wanted]
            for index, frame in zip(wanted, frames, strict=True):
                if frame.shape != frames[0].shape:
                    sizes = [f"{file.shape[1]} x {file.shape[0]}" for file in (frame, frames[0])]
                    names = [self._files[one].name for one in (index, wanted[0])]
                    raise ValueError(f"{names[0]} has {sizes[0]} pixels, {names[1]} {sizes[1]}")
        return np.stack(frames)[place]


def frame_files(folder: Path) -> list[Path]:
    """The images that lie in `folder` itself, in the order of their names; hidden ones left out."""
    images = (file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    return sorted((file for file in images if not file.name.startswith(".")), key=_order)


def find_clips(folder: Path) -> list[Path]:
    """Video files below `folder`, sorted; where there is none, the folders (or itself) that hold images."""
    return video_files(folder) or sorted({image.parent for image in video_files(folder, IMAGE_SUFFIXES)})


def _order(file: Path) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", file.name)]


def _pixels(file: Path) -> UInt8[np.ndarray, "H W 3"]:
    try:
        with Image.open(file) as image:
            return np.array(image.convert("RGB"))
    except BROKEN as error:
        cause = "it is no image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(f"{file.name}: {cause}") from error

"""A clip published as a folder of its frames (DFEW: `00001/1.jpg`, ...), with the interface of `decode.PyAVVideo`.

Frames are in the order of their names, where numbers count by their value: 2.jpg comes before 10.jpg. Only the frames
that are asked for are opened.
"""

import os
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from mote.datasets.decoding.errors import DecodeError, reported
from mote.datasets.decoding.reading import CHANGED, Frame, OpenVideo, file_state
from mote.datasets.decoding.stills import read_still
from mote.datasets.lists.folders import IMAGE_SUFFIXES
from mote.files.addresses import without_secrets


class FrameFolder(OpenVideo):
    """An open folder, or a single image as a clip of one frame; DecodeError where the folder is empty.

    content: of the image, where `path` is an address.
    """

    decoder = "pillow"

    def __init__(self, path: Path | str, content: bytes | None = None):
        super().__init__(path)
        self._content = content
        self._files = frame_files(Path(path)) if os.path.isdir(path) else [Path(without_secrets(path))]
        self.num_frames = len(self._files)
        if not self._files:
            raise DecodeError(path, self.decoder, "the folder holds no image")

    def frames(self, wanted: Int64[np.ndarray, "N"]) -> Iterator[Frame]:
        """See `OpenVideo.frames`; frames of two sizes are an error."""
        first = None
        with reported(self._path, self.decoder):
            for file in [self._files[index] for index in wanted]:
                before = file_state(file)
                try:
                    frame = read_still(file if self._content is None else BytesIO(self._content))
                except ValueError as error:
                    raise ValueError(f"{file.name}: {error}") from error
                finally:
                    if file_state(file) != before:
                        raise ValueError(f"{file.name}: {CHANGED}")
                first = first or (file.name, frame.shape)
                if frame.shape != first[1]:
                    sizes = [f"{width} x {height}" for height, width, _ in (frame.shape, first[1])]
                    raise ValueError(f"{file.name} has {sizes[0]} pixels, {first[0]} {sizes[1]}")
                yield frame


def frame_files(folder: Path) -> list[Path]:
    """The images that lie in `folder` itself, in the order of their names; hidden ones left out."""
    images = (file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    return sorted((file for file in images if not file.name.startswith(".")), key=_order)


def _order(file: Path) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", file.name)]

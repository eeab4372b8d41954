"""Labelled videos as a map-style dataset: file -> frames -> uint8 clips. What an item holds depends only on its key.

Training: one clip, sampled and augmented by `default_rng((seed, epoch, index))`, so the item at (epoch, index) is the
same on any number of processes and workers. Testing: `num_clips` x `num_crops` views, deterministic, clip-major.
Files are opened where the item is asked for, hence inside the worker.
"""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Literal, TypedDict

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from mote.datasets.decoding.bounded import Bounded, CallAbandoned
from mote.datasets.decoding.decode import read_frames
from mote.datasets.decoding.decord_video import import_decord
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.decoding.reading import Frame
from mote.datasets.face_crop import NO_FACE, NoFaceError, Square, cut, face_of_frame, median_face
from mote.datasets.lists.manifest import Record
from mote.datasets.sampling import clip_indices, dense_indices, segment_indices
from mote.datasets.transforms import eval_transform, subtract_frames, train_transform
from mote.files.preprocessing import AS_CLIP, Preprocessing


class VideoItem(TypedDict):
    """One clip (T, 3, S, S) or its views (V, T, 3, S, S); `cause`: why a file cannot be decoded, else ""."""

    frames: Tensor
    label: Tensor
    index: Tensor
    valid: Tensor
    cause: str


class VideoDataset(Dataset):
    """Items `{"frames": uint8, "label": int64, "index": int64, "valid": bool, "cause": str}` of `records`.

    Indexed by (epoch, index), or by index alone (epoch 0). `frames` is (T, 3, size, size) in training and
    (V, T, 3, size, size) in testing, V = num_clips * num_crops.

    Args:
        records: files and labels.
        num_frames: T of a clip.
        size: pixels of a side, after cropping.
        preprocessing: filter and resizing of the network that sees the clips.
        train: one random clip; else all views.
        seed: of the random clips.
        num_clips, num_crops: of the views in testing; crops 1 or 3.
        places: where several of them lie: "even", or "released" as the authors' code rounds them (see `wrap` of
            `clip_indices`, `quarters` of `eval_transform`).
        sampling: "segment" or "dense", see `sampling`.
        stride: frames between samples of dense sampling.
        difference: > 0: each frame comes as its difference to the frame so many later, see `subtract_frames`; the last
            frames of the video, which have no later one, as that of the last pair.
        near_keyframes: see `read_frames`; needs "segment" and no `difference`.
        flip, grayscale, scale: see `train_transform`.
        on_error: a file that cannot be decoded raises DecodeError ("raise"), or gives frames of zeros with valid=False
            and `cause` "path<TAB>cause" ("mark").
        faces: cut the largest face out of the frames before anything else, see `face_crop`; a clip without one is
            treated like one that cannot be decoded, the error is NoFaceError.
        decoder: see `read_frames`.
        timeout: seconds after which a file counts as undecodable, see `Bounded`; None waits for ever, and lets a crash
            of the decoder through.

    Raises:
        ValueError: arguments that do not fit together, or a decoder that is not installed.
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        num_frames: int,
        size: int,
        train: bool,
        seed: int = 0,
        num_clips: int = 1,
        num_crops: int = 1,
        places: Literal["even", "released"] = "even",
        sampling: Literal["segment", "dense"] = "segment",
        stride: int = 4,
        difference: int = 0,
        near_keyframes: bool = False,
        flip: float = 0.5,
        grayscale: float = 0.2,
        scale: tuple[float, float] = (0.08, 1.0),
        on_error: Literal["raise", "mark"] = "raise",
        faces: bool = False,
        decoder: str = "pyav",
        preprocessing: Preprocessing = AS_CLIP,
        timeout: float | None = None,
    ):
        if sampling not in ("segment", "dense"):
            raise ValueError(f"sampling must be 'segment' or 'dense', got {sampling!r}")
        if on_error not in ("raise", "mark"):
            raise ValueError(f"on_error must be 'raise' or 'mark', got {on_error!r}")
        if train and (num_clips, num_crops) != (1, 1):
            raise ValueError(f"training uses one view, got num_clips={num_clips}, num_crops={num_crops}")
        if num_crops not in (1, 3):
            raise ValueError(f"num_crops must be 1 or 3, got {num_crops}")
        if difference < 0:
            raise ValueError(f"difference must be a number of frames, 0 for none, got {difference}")
        if near_keyframes and (difference or sampling == "dense"):
            raise ValueError("near_keyframes moves frames, so it needs sampling='segment' and difference=0")
        if decoder.startswith("decord"):
            import_decord(decoder)  # a missing package is said here, not for every file
        self.records = list(records)
        self.num_frames, self.size, self.train, self.seed = num_frames, size, train, seed
        self.num_clips, self.num_crops, self.sampling, self.stride = num_clips, num_crops, sampling, stride
        self.places, self.difference, self.faces, self.preprocessing = places, difference, faces, preprocessing
        self.augmentation = {"flip": flip, "grayscale": grayscale, "scale": scale}
        self.on_error, self.decoder, self.near_keyframes = on_error, decoder, near_keyframes
        self._bounded = None if timeout is None else Bounded(self._read, timeout)
        self._given_up: dict[int, str] = {}  # index: cause, of files that are not worth another `timeout`

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | tuple[int, int]) -> VideoItem:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        try:
            frames, cause = self.frames(epoch, index), ""
        except DecodeError as error:
            if self.on_error == "raise":
                raise
            frames, cause = torch.zeros(self._shape(), dtype=torch.uint8), f"{error.path}\t{error.cause}"
        except NoFaceError:
            if self.on_error == "raise":
                raise
            frames, cause = torch.zeros(self._shape(), dtype=torch.uint8), f"{self.records[index].path}\t{NO_FACE}"
        return {
            "frames": frames,
            "label": torch.tensor(self.records[index].label),
            "index": torch.tensor(index),
            "valid": torch.tensor(not cause),
            "cause": cause,
        }

    def of(self, records: Sequence[Record]) -> "VideoDataset":
        """The same clips or views of other videos."""
        other = copy.copy(self)
        other.records, other._given_up = list(records), {}
        other._bounded = None if self._bounded is None else Bounded(other._read, self._bounded.timeout)
        return other

    def close(self) -> None:
        """End the process that decodes within a time limit; another one is started when it is needed."""
        if self._bounded is not None:
            self._bounded.close()

    def frames(self, epoch: int, index: int) -> UInt8[Tensor, "*V T 3 S S"]:
        """The clip or views of one item; raises DecodeError whatever `on_error` says."""
        if self._bounded is None:
            return torch.from_numpy(self._read(epoch, index)).movedim(-1, -3)
        try:
            if index not in self._given_up:
                return torch.from_numpy(self._bounded(epoch, index)).movedim(-1, -3)
        except CallAbandoned as error:
            self._given_up[index] = str(error)
        raise DecodeError(self.records[index].path, self.decoder, self._given_up[index])

    def _read(self, epoch: int, index: int) -> UInt8[np.ndarray, "*V T S S 3"]:
        """The clip or views in one piece, pixels interleaved, which `Bounded` and stacking only have to copy.

        Frames are cut and resized as they come, so that one of them at a time is held in full size.
        """
        path, rng = self.records[index].path, np.random.default_rng((self.seed, epoch, index))
        draw = rng if self.train else None
        chosen = np.empty(0, np.int64)

        def indices(length: int) -> np.ndarray:
            nonlocal chosen
            chosen = self._indices(length, draw).ravel()
            return chosen

        read = partial(read_frames, path, decoder=self.decoder, near_keyframes=self.near_keyframes)
        square = median_face(read(indices, each=face_of_frame), path) if self.faces else None
        kept = read(indices if square is None else chosen, each=partial(self._cut, rng, square))
        if self.train:
            clip = torch.from_numpy(kept).movedim(-1, -3)  # (P, 3, S, S), P frames read
            return _interleaved(subtract_frames(clip) if self.difference else clip)
        views = torch.from_numpy(kept).movedim(-1, -3).transpose(0, 1)  # (crops, P, 3, S, S)
        views = subtract_frames(views) if self.difference else views
        views = views.unflatten(1, (self.num_clips, self.num_frames)).transpose(0, 1)  # clip-major
        return _interleaved(views.flatten(0, 1))

    def _cut(self, rng: np.random.Generator, square: Square | None, frame: Frame) -> UInt8[np.ndarray, "*V S S 3"]:
        """One frame of a clip, or its crops; every call draws the same from `rng`, which stays as it is."""
        frame = frame if square is None else cut(frame, square)
        if self.train:
            drawn = {**self.augmentation, "preprocessing": self.preprocessing}
            return _interleaved(train_transform(frame[None], self.size, copy.deepcopy(rng), **drawn)[0])
        released = self.places == "released"
        views = eval_transform(frame[None], self.size, self.num_crops, self.preprocessing, quarters=released)
        return _interleaved(views[:, 0])

    def _indices(self, length: int, rng: np.random.Generator | None) -> np.ndarray:
        """The frames to read: those sampled, and where differences are wanted the later ones after them."""
        sampled = self.sampled(length, rng)
        if not self.difference:
            return sampled
        earlier = np.minimum(sampled, max(length - 1 - self.difference, 0))
        return np.stack([earlier, np.minimum(earlier + self.difference, length - 1)])

    def sampled(self, length: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """The frames of the views of a video with `length` frames, (clips, T), or of a random clip with `rng`."""
        if self.sampling == "dense":
            return dense_indices(length, self.num_frames, self.stride, self.num_clips, rng)
        if rng is not None:
            return segment_indices(length, self.num_frames, rng)
        return clip_indices(length, self.num_frames, self.num_clips, wrap=self.places == "released")

    def _shape(self) -> tuple[int, ...]:
        views = () if self.train else (self.num_clips * self.num_crops,)
        return (*views, self.num_frames, 3, self.size, self.size)


def _interleaved(frames: UInt8[Tensor, "*V 3 S S"]) -> UInt8[np.ndarray, "*V S S 3"]:
    return frames.movedim(-3, -1).contiguous().numpy()

"""Labelled still images as a map-style dataset: item -> uint8 image. Lists of them: see `lists.images`.

Training items are drawn by `default_rng((seed, epoch, index))`:
the same on any number of processes and workers, as for videos.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mote.datasets.decoding.stills import read_still
from mote.datasets.image_variation import UNCHANGED, Variation
from mote.datasets.lists.images import ImageList
from mote.datasets.transforms import eval_transform, train_transform
from mote.files.preprocessing import CUT_FIRST, Preprocessing


class BadImageError(ValueError):
    """A file that is missing or no image."""


class ImageDataset(Dataset):
    """Items `{"images": uint8 (C, S, S), "label", "index", "valid": true}`, indexed by (epoch, index) or by index.

    Args:
        data: what `read_images` gives.
        size: S, pixels.
        channels: 1 (luma) or 3.
        train: augment; else the central square.
        seed: of the augmentation.
        pad: > 0: zero padding on every side, then a random crop of `size` (He et al. 2016), in place of `scale`.
        scale, flip, grayscale: see `transforms.train_transform`.
        preprocessing: filter and resizing of the network that sees the images.
        variation: RandAugment and random erasing, last of all.

    Raises:
        ValueError: `channels` is neither 1 nor 3.
    """

    def __init__(
        self,
        data: ImageList,
        *,
        size: int,
        channels: int,
        train: bool,
        seed: int = 0,
        pad: int = 0,
        scale: tuple[float, float] = (0.08, 1.0),
        flip: float = 0.5,
        grayscale: float = 0.2,
        preprocessing: Preprocessing = CUT_FIRST,
        variation: Variation = UNCHANGED,
    ):
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {channels}")
        self.data, self.size, self.channels, self.train, self.seed, self.pad = data, size, channels, train, seed, pad
        self.flip, self.grayscale, self.scale = flip, grayscale if channels == 3 else 0.0, scale
        self.preprocessing, self.variation = preprocessing, variation
        self.plain = variation.is_nothing and not (pad or flip or grayscale or tuple(scale) != (1.0, 1.0))

    def __len__(self) -> int:
        return len(self.data.records)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        return {
            "images": self.image(epoch, index),
            "label": torch.tensor(self.data.records[index].label),
            "index": torch.tensor(index),
            "valid": torch.tensor(True),
        }

    def image(self, epoch: int, index: int) -> UInt8[Tensor, "C S S"]:
        """One image; raises ValueError, naming the file, where it cannot be read."""
        pixels = self._pixels(index)  # (H, W, 3)
        if not self.train or self.plain:
            clip = eval_transform(pixels[None], self.size, preprocessing=self.preprocessing)[0]
        else:
            rng = np.random.default_rng((self.seed, epoch, index))
            image = self._cropped(pixels, rng)
            return (image if self.variation.is_nothing else self.variation(image, rng))[: self.channels].contiguous()
        return clip[0, : self.channels].contiguous()

    def _cropped(self, pixels: UInt8[np.ndarray, "H W 3"], rng: np.random.Generator) -> UInt8[Tensor, "3 S S"]:
        """A random crop, flipped and grey as the draws say."""
        pixels, scale = (self._shifted(pixels, rng), (1.0, 1.0)) if self.pad else (pixels, self.scale)
        if self.pad and not (self.flip or self.grayscale):  # that was all: nothing to scale, flip or grey
            return torch.from_numpy(pixels).permute(2, 0, 1)
        drawn = {"scale": scale, "flip": self.flip, "grayscale": self.grayscale}
        return train_transform(pixels[None], self.size, rng, **drawn, preprocessing=self.preprocessing)[0]

    def _pixels(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Colour, or luma in all three channels."""
        if self.data.pixels is None:
            pixels = read_image(self.data.records[index].path, self.channels)
        else:
            pixels = self.data.pixels[index]
            if pixels.shape[-1] > self.channels:
                pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy()

    def _shifted(self, pixels: UInt8[np.ndarray, "H W 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "S S 3"]:
        """Scaled to `size` where it has another one, padded with black, cut at a random place."""
        if pixels.shape[:2] != (self.size, self.size):
            square = eval_transform(pixels[None], self.size, preprocessing=self.preprocessing)[0, 0]
            pixels = square.permute(1, 2, 0).numpy()
        padded = np.zeros((self.size + 2 * self.pad, self.size + 2 * self.pad, 3), np.uint8)
        padded[self.pad : -self.pad, self.pad : -self.pad] = pixels
        top, left = rng.integers(0, 2 * self.pad + 1, 2)
        return np.ascontiguousarray(padded[top : top + self.size, left : left + self.size])


def read_image(path: Path, channels: int = 3) -> UInt8[np.ndarray, "H W C"]:
    """Pixels of an image file as it is shown, in RGB or, with one channel, in grey, see `stills`.

    Raises:
        BadImageError: naming the file, where it is missing, is no still image, or has values of unknown range.
    """
    try:
        return read_still(path, channels)
    except ValueError as error:
        raise BadImageError(f"{path}: cannot be read as an image: {error}; repair it or take it off the list") from None

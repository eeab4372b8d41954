"""Labelled still images: lists of files, MNIST as one .npz, CIFAR-10 as its python batches. Item -> uint8 image.

A source is told apart by what the path is:

- `*.npz` with arrays `train_images`, `train_labels`, `test_images`, `test_labels` (N, H, W[, 3]) uint8;
- a folder with `data_batch_1` to `data_batch_5` and `test_batch` (CIFAR-10, Krizhevsky 2009, python version);
- else a list of image files as in `manifest`: a folder per class, a .csv, or `path label` lines.

The first two have the splits "train" and "test". Training items are drawn by `default_rng((seed, epoch, index))`:
the same on any number of processes and workers, as for videos.
"""

import codecs
import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mote.datasets.decoding.stills import read_still
from mote.datasets.lists.agreement import check_folders
from mote.datasets.lists.folders import IMAGE_SUFFIXES
from mote.datasets.lists.manifest import ManifestError, Record, manifest_classes, read_manifest
from mote.datasets.transforms import eval_transform, train_transform
from mote.files.preprocessing import CUT_FIRST, Preprocessing

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SPLITS = ("train", "test")


class BadImageError(ValueError):
    """A file that is missing or no image."""


class ImageList(NamedTuple):
    """Images of one split: a record each, their class names, and their pixels where they come in one file.

    Records of images without a file of their own are named `SOURCE/SPLIT/NUMBER`.
    """

    records: list[Record]
    classes: list[str]
    pixels: UInt8[np.ndarray, "N H W C"] | None = None


def read_images(
    source: Path | str,
    root: Path | str | None = None,
    classes: Sequence[str] | None = None,
    split: str | None = None,
    ids: Sequence[str] | None = None,
) -> ImageList:
    """The images of `source` (see the top of this file); arguments as in `manifest.read_manifest`.

    Without `classes` the names come from the source: CIFAR's own, the digits of an .npz, folders, or names in a .csv;
    numbers in a .csv or text list name themselves.

    Raises:
        ManifestError: a source that cannot be used as it stands, or labels that the folders of the images contradict.
    """
    source = Path(source)
    if source.suffix.lower() == ".npz" and source.is_file():
        return _packed(source, *_read_npz(source, _split(source, split)), split, classes)
    if (source / "data_batch_1").is_file():
        return _packed(source, *_read_cifar(source, _split(source, split)), split, classes or CIFAR10)
    classes = classes or _own_names(source)
    records = read_manifest(source, root, classes, split, ids, suffixes=IMAGE_SUFFIXES)
    if classes is not None:
        check_folders(source, records, classes, ids)
    return ImageList(records, list(classes or map(str, range(max(record.label for record in records) + 1))))


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
    ):
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {channels}")
        self.data, self.size, self.channels, self.train, self.seed, self.pad = data, size, channels, train, seed, pad
        self.flip, self.grayscale, self.scale = flip, grayscale if channels == 3 else 0.0, scale
        self.preprocessing = preprocessing
        self.plain = not (pad or flip or grayscale or tuple(scale) != (1.0, 1.0))

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
            pixels, scale = (self._shifted(pixels, rng), (1.0, 1.0)) if self.pad else (pixels, self.scale)
            if self.pad and not (self.flip or self.grayscale):  # that was all: nothing to scale, flip or grey
                return torch.from_numpy(pixels[..., : self.channels]).permute(2, 0, 1).contiguous()
            drawn = {"scale": scale, "flip": self.flip, "grayscale": self.grayscale}
            clip = train_transform(pixels[None], self.size, rng, **drawn, preprocessing=self.preprocessing)
        return clip[0, : self.channels].contiguous()

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


def _split(source: Path, split: str | None) -> str:
    if split not in SPLITS:
        raise ManifestError(f"{source}: has the splits train and test; choose one (data.split=train), got {split!r}")
    return split


def _own_names(source: Path) -> list[str] | None:
    """Class names that the list itself spells out; None where its labels are numbers."""
    try:
        return manifest_classes(source)
    except ManifestError:
        return None


def _packed(
    source: Path, pixels: np.ndarray, labels: np.ndarray, split: str | None, classes: Sequence[str] | None
) -> ImageList:
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or len(pixels) != len(labels):
        raise ManifestError(
            f"{source}: expected uint8 images (N, H, W[, 3]) with N labels, got {pixels.dtype} {pixels.shape} and "
            f"{len(labels)} labels"
        )
    if not len(labels):
        raise ManifestError(f"{source}: its split {split!r} is empty")
    names = list(classes or map(str, range(int(labels.max()) + 1)))
    if labels.min() < 0 or labels.max() >= len(names):
        raise ManifestError(f"{source}: labels {labels.min()}..{labels.max()} for {len(names)} classes")
    records = [Record(source / f"{split}/{i}", int(label)) for i, label in enumerate(labels)]
    return ImageList(records, names, pixels)


def _read_npz(source: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(source, allow_pickle=False) as file:
            return file[f"{split}_images"], file[f"{split}_labels"].astype(np.int64)
    except (OSError, KeyError, ValueError) as error:
        raise ManifestError(f"{source}: expected arrays {split}_images and {split}_labels: {error}") from None


class _Arrays(pickle.Unpickler):
    """Unpickles plain values and NumPy arrays and nothing else: an archive from elsewhere cannot run code."""

    def find_class(self, module: str, name: str) -> object:
        """The class or function of that name, if it belongs to an array."""
        array = {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": np.empty(0).__reduce__()[0]}
        known = array if module.split(".")[0] == "numpy" else {"encode": codecs.encode} if module == "_codecs" else {}
        if name not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR batch needs")
        return known[name]


def _read_cifar(source: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    names = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
    pixels, labels = [], []
    for name in names:
        try:
            batch = _Arrays(io.BytesIO((source / name).read_bytes()), encoding="bytes").load()
            pixels.append(np.asarray(batch[b"data"]).reshape(-1, 3, 32, 32))
            if pixels[-1].dtype != np.uint8:
                raise ValueError(f"its pixels are {pixels[-1].dtype}, not uint8")
            labels += list(batch[b"labels"])
        except (OSError, KeyError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise ManifestError(f"{source / name}: not a batch of CIFAR-10's python version: {error}") from None
    return np.concatenate(pixels).transpose(0, 2, 3, 1), np.array(labels, dtype=np.int64)

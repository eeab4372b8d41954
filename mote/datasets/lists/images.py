"""Lists of labelled still images: files, MNIST as one .npz, CIFAR-10 as its python batches.

A source is told apart by what the path is:

- `*.npz` with arrays `train_images`, `train_labels`, `test_images`, `test_labels` (N, H, W[, 3]) uint8;
- a folder with `data_batch_1` to `data_batch_5` and `test_batch` (CIFAR-10, Krizhevsky 2009, python version);
- else a list of image files as in `manifest`: a folder per class, a .csv, or `path label` lines.

The first two have the splits "train" and "test".
"""

import codecs
import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from mote.datasets.lists.agreement import check_folders
from mote.datasets.lists.folders import IMAGE_SUFFIXES
from mote.datasets.lists.manifest import ManifestError, Record, manifest_classes, read_manifest

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SPLITS = ("train", "test")


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

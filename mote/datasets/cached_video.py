"""Cached frame features in the place of videos: which records must be encoded, encoding them, and the dataset."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mote.datasets.feature_cache import FeatureCache, entry_key
from mote.datasets.manifest import Record
from mote.datasets.video import VideoDataset


class CachedVideoDataset(Dataset):
    """The items of an evaluation `VideoDataset` with cached `features` (V, T, D) in the place of `frames`.

    `keys`: by record, the key of its entry or None, see `record_keys`. A record without an entry must be undecodable:
    it is tried again and comes as zeros of `shape` with valid=False. Raises RuntimeError where it can be decoded.
    """

    def __init__(
        self, videos: VideoDataset, cache: FeatureCache, keys: Sequence[str | None], shape: tuple[int, int, int]
    ):
        if len(keys) != len(videos):
            raise ValueError(f"expected a key for each of {len(videos)} videos, got {len(keys)}")
        self.videos, self.cache, self.keys, self.shape = videos, cache, list(keys), shape

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Tensor]:
        index = item[1] if isinstance(item, tuple) else item
        key, record = self.keys[index], self.videos.records[index]
        row = None if key is None else self.cache.read(key)
        if row is None and self.videos[index]["valid"]:
            raise RuntimeError(f"{record.path}: its features are not in {self.cache.folder}; run again to encode them")
        return {
            "features": torch.zeros(self.shape) if row is None else torch.from_numpy(row),
            "label": torch.tensor(record.label),
            "index": torch.tensor(index),
            "valid": torch.tensor(row is not None),
        }


def record_keys(cache: FeatureCache, records: Sequence[Record], indices: str) -> list[str | None]:
    """The key of each record's entry, None where the file cannot be read; `indices`: as for `entry_key`."""
    keys: list[str | None] = []
    for record in records:
        try:
            keys.append(entry_key(cache.file_key(record.path), indices))
        except OSError:
            keys.append(None)
    return keys


def to_encode(cache: FeatureCache, keys: Sequence[str | None]) -> list[int]:
    """Indices of the records whose entries are missing or damaged, the first of those that share one."""
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        if key is not None:
            first.setdefault(key, index)
    return [first[key] for key in cache.missing(first)]


def fill(
    cache: FeatureCache,
    keys: Sequence[str],
    loader: Iterable[Mapping[str, Tensor]],
    encode: Callable[[Mapping[str, Tensor]], Tensor],
) -> None:
    """Encode the batches of `loader` (B, V, T, D) and put what could be decoded; `keys`: by the batch's "index"."""
    for batch in loader:
        rows = encode(batch).detach().float().cpu().numpy()
        for index, valid, row in zip(batch["index"].tolist(), batch["valid"].tolist(), rows, strict=True):
            if valid:
                cache.put(keys[int(index)], row)

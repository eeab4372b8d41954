"""From items to batches: the (epoch, index) sampler, the loader, and cached features in the place of videos."""

import signal
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate


class EpochSampler(Sampler):
    """Yields (epoch, index) for `num_items` items; shuffled by `default_rng((seed, epoch))`, or in order.

    The order depends on nothing else, so every process draws the same one. Call `set_epoch` before each epoch.
    """

    def __init__(self, num_items: int, seed: int = 0, shuffle: bool = True):
        self.num_items, self.seed, self.shuffle, self.epoch = num_items, seed, shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        """Number the epoch that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_items

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.num_items)
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(self.num_items)
        return ((self.epoch, int(index)) for index in order)


class FeatureDataset(Dataset):
    """Cached frame features (N, T, D) and labels (N,) as items `{"features", "label", "index", "valid"}`.

    Indexed like `VideoDataset`; the epoch has no effect, and `valid` is always true.
    """

    def __init__(self, features: Float[Tensor, "N T D"], labels: Int64[Tensor, "N"]):
        self.features, self.labels = features, labels

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        index = key[1] if isinstance(key, tuple) else key
        return {
            "features": self.features[index],
            "label": self.labels[index],
            "index": torch.tensor(index),
            "valid": torch.tensor(True),
        }


def make_loader(
    dataset: Dataset, batch_size: int, *, sampler: Sampler | Sequence[int], workers: int, drop_last: bool
) -> DataLoader:
    """Batches of `dataset` in the order of `sampler` (or of a list of indices), by `workers` processes (0: this one).

    Workers live on between epochs and keep nothing of one. They leave SIGINT and SIGTERM, which a terminal or a batch
    system sends to all processes, to this one. Memory is pinned where there is a CUDA device.
    """
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        collate_fn=_collate,
        num_workers=workers,
        drop_last=drop_last,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_ignore_signals,
    )


def _ignore_signals(_worker: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Stacked items, laid out alike whether stacked here or by a worker; the layout decides a result's last bits."""
    batch = default_collate(items)
    return {key: value.contiguous() if isinstance(value, Tensor) else value for key, value in batch.items()}

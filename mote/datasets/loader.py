"""From items to batches: the (epoch, index) samplers, the loader, and cached features in the place of videos."""

import atexit
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from mote.datasets.decoding.memory import keep_freed_memory


class EpochSampler(Sampler):
    """Yields (epoch, index) for `num_items` items; shuffled by `default_rng((seed, epoch))`, or in order.

    The order depends on nothing else, so every process draws the same one. Call `set_epoch` before each epoch. With
    `groups`, the number of the archive of each item, `window` archives at a time are shuffled together, in an order of
    archives that is drawn too: reads then stay within few files.
    """

    def __init__(
        self,
        num_items: int,
        seed: int = 0,
        shuffle: bool = True,
        groups: Int64[np.ndarray, "N"] | None = None,
        window: int = 1,
    ):
        self.num_items, self.seed, self.shuffle, self.epoch = num_items, seed, shuffle, 0
        self.groups, self.window = groups, window

    def set_epoch(self, epoch: int) -> None:
        """Number the epoch that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_items

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.num_items)
        if self.shuffle:
            rng = np.random.default_rng((self.seed, self.epoch))
            order = rng.permutation(self.num_items)
            if self.groups is not None:
                turn = rng.permutation(self.groups.max() + 1) // self.window  # of each archive
                order = order[np.argsort(turn[self.groups[order]], kind="stable")]
        return ((self.epoch, int(index)) for index in order)


class ClassBalancedSampler(Sampler):
    """As many draws as there are items, every class equally often: classes differ by one draw at most, items of a class
    by one too.

    Yields (view, index). An item drawn r times in an epoch has r different views, which no other epoch has: the number
    that makes its augmentation, as the epoch does for `EpochSampler`. The order depends on labels, seed and epoch only,
    so every process draws the same one. It corrects the prior: leave losses and weights that do so aside.
    """

    def __init__(self, labels: Sequence[int] | Int64[np.ndarray, "N"], seed: int = 0):
        """Raises ValueError for no labels."""
        self.labels, self.seed, self.epoch = np.asarray(labels, dtype=np.int64), seed, 0
        if not self.labels.size:
            raise ValueError("no labels to balance; check that the training list is not empty")
        self._members = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]
        most = -(-len(self.labels) // len(self._members))  # draws of a class, rounded up
        self._views = -(-most // min(map(len, self._members)))  # of an item in an epoch

    def set_epoch(self, epoch: int) -> None:
        """Number the epoch that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        each, more = divmod(len(self.labels), len(self._members))
        favoured = set(rng.permutation(len(self._members))[:more].tolist())
        draws: list[tuple[int, int]] = []
        for number, members in enumerate(self._members):
            for draw in range(0, each + (number in favoured), len(members)):
                view = self.epoch * self._views + draw // len(members)
                wanted = each + (number in favoured) - draw
                draws += [(view, int(index)) for index in rng.permutation(members)[:wanted]]
        return (draws[i] for i in rng.permutation(len(draws)))


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
    if workers:  # at exit, multiprocessing sends SIGTERM to its children and waits; these would leave it alone
        atexit.unregister(_end_workers)
        atexit.register(_end_workers)
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        collate_fn=_collate,
        num_workers=workers,
        drop_last=drop_last,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_start_worker,
    )


def _end_workers() -> None:
    if hasattr(signal, "SIGCHLD"):  # torch's handler would raise of the workers that are ended here
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def _start_worker(_worker: int) -> None:
    keep_freed_memory()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Stacked items, laid out alike whether stacked here or by a worker; the layout decides a result's last bits.

    Frames (..., 3, S, S) keep the interleaved pixels that they were resized with: stacking is then copying, and laying
    them out in planes, which costs half as much as resizing, is left to the device.
    """
    pixels = [item.pop("frames").movedim(-3, -1) for item in items if "frames" in item]
    batch = default_collate(items)
    batch = {key: value.contiguous() if isinstance(value, Tensor) else value for key, value in batch.items()}
    return {"frames": default_collate(pixels).contiguous().movedim(-1, -3), **batch} if pixels else batch

import ctypes
import resource
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler

from mote.datasets.loader import ClassBalancedSampler, EpochSampler, FeatureDataset, make_loader


def test_sampler_yields_each_item_once_with_its_epoch():
    sampler = EpochSampler(50, seed=3, shuffle=True)
    orders = []
    for epoch in (0, 1, 7):
        sampler.set_epoch(epoch)
        pairs = list(sampler)
        assert len(sampler) == len(pairs) == 50
        assert {pair[0] for pair in pairs} == {epoch}
        assert sorted(pair[1] for pair in pairs) == list(range(50))
        orders.append([pair[1] for pair in pairs])
    assert orders[0] != orders[1] != orders[2]
    sampler.set_epoch(1)
    assert [index for _, index in sampler] == orders[1] == np.random.default_rng((3, 1)).permutation(50).tolist()


def test_sampler_depends_on_the_seed_and_can_keep_the_order():
    assert list(EpochSampler(50, seed=1)) != list(EpochSampler(50, seed=2))
    assert list(EpochSampler(4, seed=1, shuffle=False)) == [(0, 0), (0, 1), (0, 2), (0, 3)]


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_follows_the_sampler_over_epochs(workers):
    features = torch.randn(11, 4, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(11) % 3
    sampler = EpochSampler(11, seed=5)
    loader = make_loader(FeatureDataset(features, labels), 4, sampler=sampler, workers=workers, drop_last=False)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = [index for _, index in sampler]
        batches = list(loader)
        assert [len(batch["index"]) for batch in batches] == [4, 4, 3]
        index = torch.cat([batch["index"] for batch in batches])
        assert index.tolist() == order
        assert torch.equal(torch.cat([batch["features"] for batch in batches]), features[index])
        assert torch.equal(torch.cat([batch["label"] for batch in batches]), labels[index])
        assert torch.cat([batch["valid"] for batch in batches]).all()


def test_drop_last():
    data = FeatureDataset(torch.zeros(11, 1, 2), torch.zeros(11, dtype=torch.int64))
    loader = make_loader(data, 4, sampler=EpochSampler(11), workers=0, drop_last=True)
    assert [len(batch["label"]) for batch in loader] == [4, 4]
    assert len(data) == 11
    assert data[2]["index"].item() == data[(9, 2)]["index"].item() == 2


LONG_TAIL = np.repeat([0, 1, 2, 4], [60, 25, 9, 3])  # 97 items; no class 3


@pytest.mark.parametrize("epoch", [0, 1, 6])
def test_balanced_sampler_draws_classes_and_items_equally_often(epoch):
    sampler = ClassBalancedSampler(LONG_TAIL, seed=3)
    sampler.set_epoch(epoch)
    draws = list(sampler)
    assert len(draws) == len(sampler) == 97
    of_class = Counter(int(LONG_TAIL[index]) for _, index in draws)
    assert sorted(of_class.values()) == [24, 24, 24, 25] and set(of_class) == {0, 1, 2, 4}
    of_item = Counter(index for _, index in draws)
    for label in of_class:
        times = [of_item[index] for index in np.flatnonzero(label == LONG_TAIL)]
        assert max(times) - min(times) <= 1


def test_balanced_sampler_gives_every_draw_of_an_item_another_view():
    sampler, seen = ClassBalancedSampler(LONG_TAIL, seed=3), []
    for epoch in range(5):
        sampler.set_epoch(epoch)
        seen += list(sampler)
    assert len(set(seen)) == len(seen) == 5 * 97
    assert min(view for view, _ in seen) == 0


def test_balanced_sampler_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = ClassBalancedSampler(LONG_TAIL.tolist(), seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 4) == order(1, 4)
    assert order(1, 4) != order(2, 4) and order(1, 4) != order(1, 5)
    assert [LONG_TAIL[index] for _, index in order(1, 4)] != sorted(LONG_TAIL)  # classes are mixed
    with pytest.raises(ValueError, match="no labels to balance"):
        ClassBalancedSampler([])


def test_balanced_sampler_favours_no_class_over_many_epochs():
    sampler, more = ClassBalancedSampler(LONG_TAIL, seed=0), Counter()
    for epoch in range(200):
        sampler.set_epoch(epoch)
        of_class = Counter(int(LONG_TAIL[index]) for _, index in sampler)
        more[max(of_class, key=lambda label: of_class[label])] += 1
    assert min(more.values()) > 25 and len(more) == 4  # 50 expected of each, standard deviation 6


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_the_balanced_order_exactly(processes):
    """What accelerate hands to the processes, put together round by round, is the order of one process."""
    whole = list(BatchSampler(ClassBalancedSampler(LONG_TAIL, seed=5), 4, drop_last=True))
    shares = [
        list(BatchSamplerShard(BatchSampler(ClassBalancedSampler(LONG_TAIL, seed=5), 4, True), processes, rank))
        for rank in range(processes)
    ]
    together = [batch for batches in zip(*shares, strict=True) for batch in batches]
    assert together == whole[: len(together)] and len(whole) - len(together) < processes


@pytest.mark.slow
def test_a_program_that_ends_while_its_loader_lives_does_not_wait_for_the_workers():
    """Workers leave SIGTERM alone, which is how multiprocessing would end them at exit."""
    program = """
import torch
from mote.datasets.loader import FeatureDataset, make_loader
items = FeatureDataset(torch.zeros(8, 2, 3), torch.zeros(8, dtype=torch.int64))
batches = iter(make_loader(items, 1, sampler=list(range(8)), workers=1, drop_last=False))
next(batches)
raise SystemExit(3)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 3


class Faults(torch.utils.data.Dataset):
    """Item i: how often the process that makes it asked the system for a page to hold 24 MB."""

    def __len__(self):
        return 15

    def __getitem__(self, index):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        [np.ones(3 * 2**20, dtype=np.uint8) for _ in range(8)]
        return {"faults": torch.tensor(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)}


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="asks glibc")
def test_workers_use_freed_memory_again():
    loader = make_loader(Faults(), 1, sampler=range(15), workers=1, drop_last=False)
    faults = [batch["faults"].item() for batch in loader]
    assert faults[0] > 4000  # of 6144 pages
    assert sum(count < 50 for count in faults) >= 10  # now and then something small settles in the gap

import numpy as np
import pytest
import torch

from mote.datasets.loader import EpochSampler, FeatureDataset, make_loader


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

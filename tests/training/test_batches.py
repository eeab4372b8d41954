import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from toy_run import Clips, Order

from mote.parallel.accelerator import make_accelerator
from mote.training.batches import StepBatches, micro_batch_size, step_batches, with_batches
from mote.training.seeds import mix_seed, mixing_generator, routing_generator, seed_dropout


def parts(num_items: int, batch_size: int, accumulation: int, processes: int, epoch: int = 0, first_step: int = 0):
    """{step: list over micro steps and processes of the indices they get}."""
    steps: dict[int, list] = {}
    for rank in range(processes):
        batches = StepBatches(
            Order(num_items), batch_size=batch_size, accumulation=accumulation, processes=processes, rank=rank
        )
        batches.epoch, batches.first_step = epoch, first_step
        listed = list(batches)
        assert len(listed) == len(batches)
        for number, indices in enumerate(listed):
            steps.setdefault(first_step + number // accumulation, []).append(indices)
    return steps


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 40), st.integers(0, 3))
def test_a_step_has_the_same_samples_for_any_split(accumulation, processes, micro, num_items, epoch):
    batch_size = accumulation * processes * micro
    split = parts(num_items, batch_size, accumulation, processes, epoch)
    whole = parts(num_items, batch_size, 1, 1, epoch)
    assert set(split) == set(whole) == set(range(num_items // batch_size))
    for step, pieces in split.items():
        assert len(pieces) == accumulation * processes and {len(piece) for piece in pieces} == {micro}
        assert sorted(index for piece in pieces for index in piece) == sorted(
            whole[step][0]
        )  # conserved: no sample lost or doubled


def test_first_step_drops_exactly_the_steps_before():
    whole, rest = parts(26, 4, 2, 2), parts(26, 4, 2, 2, first_step=4)
    assert rest == {step: pieces for step, pieces in whole.items() if step >= 4} and len(rest) == 2


def test_a_resumed_epoch_decodes_nothing_of_the_steps_before():
    clips = Clips(26)
    batches = StepBatches(Order(26), batch_size=4, accumulation=1, processes=1, rank=0)
    loader = with_batches(DataLoader(clips, 4, sampler=Order(26)), batches)
    list(loader)
    everything, clips.seen = clips.seen, []
    batches.first_step = 3
    list(loader)
    assert clips.seen == everything[12:]


@pytest.mark.parametrize(("batch_size", "processes", "accumulation"), [(10, 4, 1), (8, 2, 3), (0, 1, 1), (4, 1, 0)])
def test_a_batch_that_cannot_be_cut_is_refused(batch_size, processes, accumulation):
    with pytest.raises(ValueError, match=f"batch size {batch_size}"):
        micro_batch_size(batch_size, processes, accumulation)
    assert micro_batch_size(24, 3, 4) == 2


def test_seeds_of_different_places_differ():
    seeds = {mix_seed(seed, stream, step) for seed in range(5) for stream in range(2) for step in range(50)}
    assert len(seeds) == 500 and all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_cut_loader_keeps_all_that_the_loader_was_told(workers):
    """Of what a DataLoader is told, only how samples are batched is another."""
    several = {"prefetch_factor": 3, "persistent_workers": True, "timeout": 7, "multiprocessing_context": "spawn"}
    told = {"num_workers": workers, "collate_fn": list, "worker_init_fn": print, **(several if workers else {})}
    batches = StepBatches(Order(8), batch_size=4, accumulation=2, processes=1, rank=0)
    loader = DataLoader(list(range(8)), batch_size=4, **told)
    cut = with_batches(loader, batches)
    assert cut.batch_sampler is batches and cut.dataset is loader.dataset
    kept = {name: getattr(cut, name) for name in told if name != "multiprocessing_context"}
    assert kept == {name: told[name] for name in kept} and cut.pin_memory == loader.pin_memory
    assert cut.multiprocessing_context == loader.multiprocessing_context


@pytest.mark.parametrize("options", [{"batch_size": None, "sampler": Order(8)}, {"batch_size": 4}])
def test_a_loader_whose_order_does_not_depend_on_the_epoch_alone_is_refused(options):
    with pytest.raises(ValueError, match=r"needs a batch_size .* and a sampler with set_epoch"):
        step_batches(DataLoader(Clips(8), **options), make_accelerator(cpu=True), 1)


def test_streams_are_those_of_earlier_versions_so_that_their_runs_go_on():
    """Seed of the run, number of the stream, then the place; written out once more."""

    def seed_of(*parts):
        return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]) >> 1

    assert routing_generator(5, 6, 3).initial_seed() == seed_of(5, 0, 6, 3)
    assert mixing_generator(5, 6, 1, 3).random() == np.random.default_rng(seed_of(5, 2, 6, 1, 3)).random()
    before = torch.random.get_rng_state()
    seed_dropout(5, 6, 1, 3)
    assert torch.initial_seed() == seed_of(5, 1, 6, 1, 3)
    torch.random.set_rng_state(before)

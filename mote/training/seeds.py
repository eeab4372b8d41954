"""Random streams as pure functions of where the training stands, so that nothing random has to be saved.

A stream is named by integers (run seed, stream number, optimizer step, ...); NumPy's SeedSequence mixes them. Routing
draws share one stream over the micro steps of an optimizer step, so that accumulation equals the large batch; dropout
and mixing get a fresh stream for every micro step and process.
"""

import numpy as np
import torch

ROUTING, DROPOUT, MIXING = 0, 1, 2


def mix_seed(*parts: int) -> int:
    """Mix non-negative integers into one seed in 0..2^63-1; other parts give an unrelated seed."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def routing_generator(seed: int, step: int, rank: int) -> torch.Generator:
    """CPU generator of the routing draws of one optimizer step (pass rank 0 everywhere to synchronise processes)."""
    return torch.Generator().manual_seed(mix_seed(seed, ROUTING, step, rank))


def mixing_generator(seed: int, step: int, micro: int, rank: int) -> np.random.Generator:
    """Generator of the sample mixing of one micro step of one process."""
    return np.random.default_rng(mix_seed(seed, MIXING, step, micro, rank))


def seed_dropout(seed: int, step: int, micro: int, rank: int) -> None:
    """Seed torch's global generators (all devices) for one micro step of one process."""
    torch.manual_seed(mix_seed(seed, DROPOUT, step, micro, rank))

"""Temporal feature modulation against the loops of the oracle."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import mote_reference as oracle

from mote.config.sections import EvaluationConfig
from mote.models.modulation import GATE, Gate, modulation_gate


def draw(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 7), st.integers(0, 1000))
def test_gate_equals_the_loops_for_vocabularies_of_any_size(num_classes, num_tuned, k, seed):
    features, text, tuned = draw(seed, 3, 4, 6), draw(seed + 1, num_classes, 6), draw(seed + 2, num_tuned, 6)
    text, tuned = text + 2, tuned + 2  # alike enough that rho is not nearly 0
    ours = modulation_gate(features.mean(dim=1), text, tuned, Gate(k, 0.3))
    loops = [oracle.gate(f, text.double().numpy(), tuned.double().numpy(), k, 0.3) for f in features.double().numpy()]
    np.testing.assert_allclose(ours, loops, atol=2e-5)


@pytest.mark.parametrize("num_classes", [1, 2, 4, 11])
def test_gate_is_one_on_the_fine_tuning_vocabulary(num_classes):
    text = draw(0, num_classes, 8)
    torch.testing.assert_close(modulation_gate(draw(1, 5, 8), text, text), torch.ones(5), atol=2e-5, rtol=0)


def test_gate_ignores_the_length_of_features():
    video, text, tuned = draw(0, 4, 8), draw(1, 6, 8) + 1, draw(2, 7, 8) + 1
    torch.testing.assert_close(modulation_gate(7 * video, 3 * text, 0.1 * tuned), modulation_gate(video, text, tuned))


def test_gate_falls_as_the_vocabulary_moves_away():
    tuned = torch.eye(8)[:6]
    gates = [modulation_gate(tuned[:1], tuned + shift * torch.eye(8)[7], tuned).item() for shift in (0.0, 0.2, 0.5, 2)]
    assert gates[0] == pytest.approx(1, abs=1e-5)
    assert gates == sorted(gates, reverse=True) and gates[-1] < 1e-3


def test_known_values_of_the_paper():
    """One class each at cosine s: rho(0.9) = 0.135, rho(0.98) = 0.670 at gamma = 0.05."""
    for s, rho in ((0.9, 0.135), (0.98, 0.670)):
        text = torch.tensor([[s, (1 - s * s) ** 0.5]])
        assert modulation_gate(torch.ones(1, 2), text, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(
            rho, abs=1e-3
        )


def test_the_settings_have_the_same_defaults():
    assert Gate() == GATE.changed(EvaluationConfig().modulation_k, EvaluationConfig().modulation_gamma)


def test_bad_arguments_are_refused():
    video, text = torch.ones(1, 4), torch.ones(2, 4)
    with pytest.raises(ValueError, match="k >= 1 and gamma > 0"):
        Gate(k=0)
    with pytest.raises(ValueError, match="k >= 1 and gamma > 0"):
        Gate(gamma=0.0)
    with pytest.raises(ValueError, match="needs classes: got 0 to test and 2 of fine-tuning"):
        modulation_gate(video, torch.ones(0, 4), text)

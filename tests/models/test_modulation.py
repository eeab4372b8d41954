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


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 7), st.integers(0, 1000))
def test_gate_equals_the_loops_where_cosines_are_negative(num_classes, num_tuned, k, seed):
    """Vocabularies on opposite sides, smaller than k: rows that fill up are neither nearest nor at cosine 0."""
    features, text, tuned = draw(seed, 3, 4, 6), draw(seed + 1, num_classes, 6) + 1, draw(seed + 2, num_tuned, 6) - 1
    ours = modulation_gate(features.mean(dim=1), text, tuned, Gate(k, 2.0))
    loops = [oracle.gate(f, text.double().numpy(), tuned.double().numpy(), k, 2.0) for f in features.double().numpy()]
    np.testing.assert_allclose(ours, loops, atol=2e-5)


@pytest.mark.parametrize(("k", "num_classes", "num_tuned"), [(5, 1, 1), (5, 2, 1), (5, 1, 3), (2, 1, 1)])
def test_opposite_vocabularies_smaller_than_k(k, num_classes, num_tuned):
    """All cosines are -1, so s = -1 and rho = exp(-2 / gamma) by hand, however many rows fill up."""
    text = torch.tensor([[1.0, 0.0]]).repeat(num_classes, 1)
    tuned = torch.tensor([[-2.0, 0.0]]).repeat(num_tuned, 1)
    for video in (torch.tensor([[1.0, 0.1]]), torch.tensor([[-1.0, 0.1]])):
        rho = modulation_gate(video, text, tuned, Gate(k, 0.7)).item()
        assert rho == pytest.approx(np.exp(-2 / 0.7), rel=1e-5)


def test_the_nearest_of_each_vocabulary_are_those_of_the_clip():
    """k = 1: of the test classes only the clip's nearest counts, compared with the clip's nearest of fine-tuning."""
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    tuned = torch.tensor([[0.8, 0.6], [0.0, 1.0]])
    near_first, near_second = torch.tensor([[1.0, 0.2]]), torch.tensor([[0.1, 1.0]])
    assert modulation_gate(near_first, text, tuned, Gate(1, 1.0)).item() == pytest.approx(np.exp(0.8 - 1), rel=1e-5)
    assert modulation_gate(near_second, text, tuned, Gate(1, 1.0)).item() == pytest.approx(1.0, rel=1e-5)
    mean = (0.8 + 1.0) / 2  # with both, the best of fine-tuning for each test class
    assert modulation_gate(near_first, text, tuned, Gate(2, 1.0)).item() == pytest.approx(np.exp(mean - 1), rel=1e-5)


def test_rounding_never_opens_the_gate_further_than_one():
    """Cosines of equal vectors come out at 1 + 1e-7, which a small gamma would turn into rho far above 1."""
    text = draw(3, 400, 512)
    similarity = torch.nn.functional.normalize(text, dim=-1).square().sum(-1)
    assert similarity.max() > 1
    rho = modulation_gate(text, text, text, Gate(1, 1e-8))
    assert (rho <= 1).all() and (rho > 0).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_vocabularies_are_compared_in_float32_also_under_autocast(dtype):
    video, text, tuned = draw(0, 4, 8), draw(1, 6, 8) + 1, (draw(2, 7, 8) + 1).to(dtype)
    expected = modulation_gate(video.double(), text.double(), tuned.double(), Gate(3, 0.2))
    with torch.autocast("cpu", torch.bfloat16):
        found = modulation_gate(video, text, tuned, Gate(3, 0.2))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_empty_vocabularies_on_either_side_are_refused():
    video, text, none = torch.ones(1, 4), torch.ones(2, 4), torch.ones(0, 4)
    for classes, tuned, message in (
        (none, text, "got 0 to test and 2 of fine-tuning"),
        (text, none, "got 2 to test and 0 of fine-tuning"),
        (none, none, "got 0 to test and 0 of fine-tuning"),
    ):
        with pytest.raises(ValueError, match=message):
            modulation_gate(video, classes, tuned)
    assert modulation_gate(video, text, text, Gate(1, 1e-9)).item() <= 1  # the smallest gamma and k that are allowed


def test_the_settings_are_those_of_the_paper_unless_told_otherwise():
    assert Gate() == GATE == Gate(k=5, gamma=0.05)

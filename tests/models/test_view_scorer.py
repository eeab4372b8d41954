"""From views to logits, step by step: which gate, which precision, which offset."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mote.models.modulation import Gate, modulation_gate
from mote.models.temporal import TemporalHead
from mote.models.video_clip import VideoCLIP
from mote.models.view_scorer import autocast, encode_views, in_calls, view_scorer

B, V, T, D, K = 2, 3, 4, 8, 5


def make(layers=1, dtype=torch.float32) -> VideoCLIP:
    torch.manual_seed(0)
    visual = nn.Sequential(nn.Flatten(), nn.Linear(12, D)).to(dtype)
    head = TemporalHead(D, layers, num_heads=2, num_experts=2) if layers else None
    return VideoCLIP(visual, torch.tensor(1.5), head, embed_dim=D, mean=(0.4,) * 3, std=(0.3,) * 3).eval()


def vocabulary(seed: int, count: int) -> torch.Tensor:
    """Class features that lie close enough together for a gate between 0 and 1."""
    return F.normalize(1 + 0.4 * torch.randn(count, D, generator=torch.Generator().manual_seed(seed)), dim=-1)


def features() -> torch.Tensor:
    return 0.5 + torch.randn(B, V, T, D, generator=torch.Generator().manual_seed(1))


def by_loop(model, given, text, rho, offset=0.0):
    """View by view; `rho` of each."""
    rows = []
    for b in range(B):
        for v in range(V):
            e = given[b, v][None]
            rows.append(model.classify(e + rho[b * V + v] * model.temporal(e, model.routing(_uniform)), text) + offset)
    return torch.cat(rows).view(B, V, -1)


def _uniform(rows, experts):
    return torch.full((rows, experts), 1 / experts)


@torch.no_grad()
def test_every_view_has_the_gate_of_its_own_mean_feature():
    model, text, tuned, gate = make(), vocabulary(2, K), vocabulary(3, 7), Gate(k=2, gamma=0.4)
    given = features()
    rho = modulation_gate(given.flatten(0, 1).mean(1), text, tuned, gate)
    assert rho.unique().numel() > 1 and 0.05 < rho.min() < rho.max() < 0.99
    scores = view_scorer(model, text, tuned, gate=gate, factor=0.0)({"features": given})  # the factor has no say
    torch.testing.assert_close(scores, by_loop(model, given, text, rho), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_factor_and_the_offset_are_used_as_given():
    model, text, given, offset = make(), vocabulary(2, K), features(), torch.arange(K) / 7
    for factor in (1.0, 0.3, 0.0):
        scores = view_scorer(model, text, factor=factor, offset=offset)({"features": given})
        expected = by_loop(model, given, text, torch.full((B * V,), factor), offset)
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)
    assert not scores.requires_grad


def test_frames_are_encoded_view_by_view_in_float32():
    model = make(dtype=torch.bfloat16)
    frames = torch.randint(0, 256, (B, V, T, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    encoded = encode_views(model, frames)
    assert encoded.shape == (B, V, T, D) and encoded.dtype == torch.float32
    for b in range(B):
        for v in range(V):
            assert torch.equal(encoded[b, v], model.encode_frames(frames[b, v][None])[0].float())
    text = vocabulary(2, K)
    assert torch.equal(
        view_scorer(model, text)({"frames": frames}), view_scorer(model, text)({"features": encoded.detach()})
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_features_and_half_vocabularies_are_scored_in_float32(dtype):
    """Without a head nothing between the features and the cosines may round; nor may the gate."""
    model, text, tuned = make(layers=0), vocabulary(2, K), vocabulary(3, 7)
    given = features().to(dtype)
    pooled = F.normalize(given.double().mean(2), dim=-1)
    expected = model.logit_scale.double().exp() * pooled @ text.double().T
    scores = view_scorer(model, text)({"features": given})
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores.double(), expected, atol=1e-5, rtol=0)
    rho = modulation_gate(given.float().flatten(0, 1).mean(1), text, tuned.to(dtype))
    assert rho.dtype == torch.float32
    exact = modulation_gate(given.double().flatten(0, 1).mean(1), text.double(), tuned.to(dtype).double())
    torch.testing.assert_close(rho, exact, atol=1e-5, rtol=1e-5)


def test_bf16_is_autocast_and_fp32_is_nothing():
    linear, x = nn.Linear(4, 4), torch.randn(2, 4)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with autocast(precision, torch.device("cpu")):
            assert linear(x).dtype == dtype
    model, text, given = make(), vocabulary(2, K), features()
    plain, half = (view_scorer(model, text, precision=p)({"features": given}) for p in ("fp32", "bf16"))
    assert not torch.equal(plain, half)
    torch.testing.assert_close(plain, half, atol=0.1, rtol=0)


@pytest.mark.parametrize(("device", "calls"), [("cpu", [8, 8, 8]), ("meta", [19])])
def test_views_go_through_the_head_in_calls_of_one_size_on_a_cpu(device, calls):
    seen = []

    def function(views):
        seen.append(len(views))
        return views.sum((1, 2))

    views = torch.arange(19 * 6.0, device=device).view(19, 2, 3)
    found = in_calls(function, views)
    assert seen == calls and found.shape == (19,)
    if device == "cpu":
        assert torch.equal(found, views.sum((1, 2)))

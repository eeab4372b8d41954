"""The temporal head against PyTorch's transformer encoder, and its invariances."""

import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mote.models import temporal
from mote.models.experts import quick_gelu
from mote.models.routing import one_expert, random_merge, uniform_merge
from mote.models.temporal import TemporalHead


def make(**options):
    torch.manual_seed(0)
    sizes = {"width": 16, "num_layers": 2, "num_heads": 4, "num_experts": 3, "max_frames": 9, **options}
    return TemporalHead(**sizes)


def encoder_like(head, row):
    """torch.nn.TransformerEncoderLayer with the weights of one expert choice."""
    layers = []
    for block, weights in zip(head.layers(), row, strict=True):
        expert = int(weights.argmax())
        layer = nn.TransformerEncoderLayer(16, 4, 64, 0.0, quick_gelu, batch_first=True, norm_first=True)
        layer.self_attn.load_state_dict(block.attn.state_dict())
        layer.norm1.load_state_dict(block.ln_1.state_dict())
        layer.norm2.load_state_dict(block.ln_2.state_dict())
        layer.linear1.load_state_dict({"weight": block.mlp.up_weight[expert], "bias": block.mlp.up_bias[expert]})
        layer.linear2.load_state_dict({"weight": block.mlp.down_weight[expert], "bias": block.mlp.down_bias[expert]})
        layers.append(layer)
    return nn.Sequential(*layers)


def test_one_expert_per_layer_equals_the_encoder_of_pytorch():
    head, features = make(), torch.randn(3, 7, 16)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    row = one_expert(2, 3, torch.Generator().manual_seed(1))
    expected = encoder_like(head, row)(features + head.position[:7])
    torch.testing.assert_close(head(features, row), expected, atol=1e-5, rtol=1e-5)


def test_two_routings_at_once_equal_two_calls():
    head, features, generator = make(), torch.randn(3, 5, 16), torch.Generator().manual_seed(2)
    routings = torch.stack([one_expert(2, 3, generator), random_merge(2, 3, generator)])
    each = torch.stack([head(features, routing) for routing in routings])
    torch.testing.assert_close(head(features, routings), each, atol=1e-6, rtol=0)
    parameters = list(head.parameters())
    together = torch.autograd.grad(head(features, routings).square().sum(), parameters)
    for a, b in zip(together, torch.autograd.grad(each.square().sum(), parameters), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_parts_of_layers_are_scaled_or_left_out(checkpointing):
    """Attention and experts by hand; what is left out has gradients, which are zero."""
    head, features = make(), torch.randn(3, 5, 16)
    head.gradient_checkpointing = checkpointing
    routings = torch.stack([one_expert(2, 3, torch.Generator().manual_seed(seed)) for seed in (1, 2)])
    depth = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    first, second = head.layers()
    expected = []
    for routing in routings:
        x = features + head.position[:5]
        x = x + 2 * first.attn(first.ln_1(x))
        expected.append(x + 3 * second.mlp(second.ln_2(x), routing[1]))
    found = head(features, routings, depth)
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-6, rtol=1e-6)
    found.square().sum().backward()
    assert (first.mlp.up_weight.grad == 0).all() and (second.attn.in_proj_weight.grad == 0).all()
    assert first.attn.in_proj_weight.grad.abs().sum() > 0 and second.mlp.up_weight.grad.abs().sum() > 0
    assert torch.equal(head(features, routings, torch.ones(2, 2)), head(features, routings))


def test_frames_are_told_apart_by_the_position_embedding_only():
    head, features, order = make(), torch.randn(2, 5, 16), torch.tensor([4, 2, 0, 1, 3])
    routing = uniform_merge(2, 3)
    assert not torch.allclose(head(features[:, order], routing), head(features, routing)[:, order], atol=1e-4)
    nn.init.zeros_(head.position)
    torch.testing.assert_close(head(features[:, order], routing), head(features, routing)[:, order], atol=1e-5, rtol=0)


def test_clips_do_not_see_each_other():
    head, features, routing = make(), torch.randn(3, 5, 16), uniform_merge(2, 3)
    torch.testing.assert_close(head(features, routing)[1:2], head(features[1:2], routing), atol=1e-6, rtol=0)


def test_initialisation_follows_the_method():
    head = make(width=64, num_heads=8, max_frames=77)
    attention = head.layers()[0].attn
    bound = math.sqrt(6 / (64 + 3 * 64))  # xavier_uniform of a (3D, D) matrix
    assert 0.98 * bound < attention.in_proj_weight.abs().max() <= bound
    assert attention.in_proj_weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert attention.out_proj.weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert head.position.std().item() == pytest.approx(0.02, rel=0.03)
    assert (attention.in_proj_bias == 0).all() and (attention.out_proj.bias == 0).all()


def test_the_epsilon_of_the_norms_is_used():
    head = make(ln_eps=1e-2)
    assert [block.ln_1.eps for block in head.layers()] == [block.ln_2.eps for block in head.layers()] == [1e-2, 1e-2]


def test_gradient_checkpointing_changes_memory_not_numbers():
    head, features, routing = make(), torch.randn(2, 5, 16), uniform_merge(2, 3)

    def gradients():
        return torch.autograd.grad(head(features, routing).square().sum(), list(head.parameters()))

    expected = gradients()
    head.gradient_checkpointing = True
    for a, b in zip(gradients(), expected, strict=True):
        assert torch.equal(a, b)


def test_too_many_frames_are_refused():
    with pytest.raises(ValueError, match="a clip has 10 frames, the temporal head takes at most 9"):
        make()(torch.randn(1, 10, 16), uniform_merge(2, 3))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="routing has 3 layers, the temporal head has 2"):
        make()(torch.randn(1, 4, 16), uniform_merge(3, 3))
    with pytest.raises(ValueError, match="width 16 is not a multiple of num_heads 3"):
        make(num_heads=3)
    with pytest.raises(ValueError, match="at least 1"):
        make(num_layers=0)


def test_activations_are_recomputed_in_training_with_gradients_and_at_no_other_time(monkeypatch):
    """Once per layer where it is on; evaluation, and training without gradients, run as ever."""
    head, features, routing, calls = make(), torch.randn(2, 5, 16), uniform_merge(2, 3), []

    def counted(function, *arguments, **options):
        calls.append(options)
        return checkpoint(function, *arguments, **options)

    monkeypatch.setattr(temporal, "checkpoint", counted)
    expected = head(features, routing)
    assert not calls
    head.gradient_checkpointing = True
    assert torch.equal(head(features, routing), expected)
    assert calls == [{"use_reentrant": False, "preserve_rng_state": False}] * 2
    calls.clear()
    with torch.no_grad():
        assert torch.equal(head(features, routing), expected)
    assert torch.equal(head.eval()(features, routing), expected) and expected.requires_grad
    assert not calls
    head.train()(features, routing)
    assert len(calls) == 2


def test_the_sizes_rebuild_the_head():
    options = {"ln_eps": 1e-6, "ffn_ratio": 2.5, "expert_part": "separate", "num_layers": 3, "max_frames": 4}
    head = make(**options)
    sizes = head.sizes()
    assert sizes._asdict() == {**options, "num_experts": 3, "num_heads": 4}
    again = TemporalHead(16, **sizes._asdict())
    again.load_state_dict(head.state_dict())
    assert [tuple(p.shape) for p in again.parameters()] == [tuple(p.shape) for p in head.parameters()]
    assert head.layers()[0].mlp.up_weight.shape == (3, 40, 16)
    head.fold_(torch.full((3, 6), 1 / 3))
    assert head.sizes() == sizes._replace(num_experts=1, expert_part="ffn")


def test_a_clip_may_be_as_long_as_there_are_positions_and_sizes_may_be_one():
    assert make()(torch.randn(1, 9, 16), uniform_merge(2, 3)).shape == (1, 9, 16)
    least = TemporalHead(1, num_layers=1, num_heads=1, num_experts=1, max_frames=1)
    assert least(torch.randn(2, 1, 1), torch.ones(1, 1)).shape == (2, 1, 1)
    for name in ("num_layers", "num_heads", "max_frames"):
        with pytest.raises(ValueError, match="at least 1"):
            make(**{name: 0})
    with pytest.raises(ValueError):  # a layer more or fewer than there are rows
        make().fold_(torch.full((3, 3), 1 / 3))


def test_experts_begin_with_weights_of_their_own_unless_told_otherwise():
    alike = [
        all(torch.equal(weights[0], other) for weights in head.blocks[0].mlp.parameters() for other in weights[1:])
        for head in (TemporalHead(8, 1, 2, 3), TemporalHead(8, 1, 2, 3, same_init=True))
    ]
    assert alike == [False, True]

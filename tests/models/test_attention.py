"""Our attention against `nn.MultiheadAttention`: masks of both kinds, and what it refuses."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mote.models.attention import mix_tokens
from mote.models.open_clip_blocks import NarrowAttention

B, T, D, HEADS = 3, 5, 12, 3


def whole(**options) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(D, HEADS, batch_first=True, **options).double().eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.6)
    return layer


def tokens() -> torch.Tensor:
    return torch.randn(B, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def masks() -> dict[str, torch.Tensor | None]:
    later = torch.ones(T, T, dtype=torch.bool).triu(1)  # True: not looked at
    some = torch.rand(T, T, generator=torch.Generator().manual_seed(2)) > 0.6
    return {
        "none": None,
        "bool": later,
        "bool, uneven": some.fill_diagonal_(False),
        "float": torch.randn(T, T, dtype=torch.float64, generator=torch.Generator().manual_seed(3)),
        "float, causal": torch.zeros(T, T, dtype=torch.float64).masked_fill_(later, -torch.inf),
    }


@pytest.mark.parametrize("kind", list(masks()))
def test_outputs_and_gradients_under_masks_are_pytorchs(kind):
    layer, x, mask = whole(), tokens(), masks()[kind]
    given = None if mask is None else mask.clone()
    expected = layer(x, x, x, need_weights=False, attn_mask=mask)[0]
    narrow = NarrowAttention(layer)
    for found in (narrow(x, x, x, attn_mask=mask)[0], narrow(x, attn_mask=mask)[0]):
        torch.testing.assert_close(found, expected)
    assert mask is None or torch.equal(mask, given)  # not written into
    assert narrow(x)[1] is None
    parameters = list(layer.parameters())
    assert [id(p) for p in narrow.parameters()] == [id(p) for p in parameters]
    weight = torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).view_as(expected)
    wanted = torch.autograd.grad((expected * weight).sum(), parameters)
    ours = torch.autograd.grad((narrow(x, attn_mask=mask)[0] * weight).sum(), parameters)
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-7)


def test_a_boolean_mask_means_the_same_in_half_precision():
    layer, x, mask = whole(), tokens(), masks()["bool"]
    expected = layer(x, x, x, need_weights=False, attn_mask=mask)[0]
    half = NarrowAttention(layer.to(torch.bfloat16))(x.to(torch.bfloat16), attn_mask=mask)[0]
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), expected, atol=0.05 * expected.abs().max().item(), rtol=0)


def by_loop(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, heads: int) -> torch.Tensor:
    """Token by token, head by head; a head is as wide as the weights say, whatever the width of x."""
    q, k, v = F.linear(x, weight, bias).chunk(3, dim=-1)
    size, rows = q.shape[-1] // heads, []
    for t in range(x.shape[-2]):
        parts = []
        for h in range(heads):
            own = slice(h * size, (h + 1) * size)
            scores = (k[..., own] * q[..., t : t + 1, own]).sum(-1) / size**0.5
            parts.append((scores.softmax(-1)[..., None] * v[..., own]).sum(-2))
        rows.append(torch.cat(parts, -1))
    return torch.stack(rows, -2)


@pytest.mark.parametrize(("heads", "size"), [(1, 4), (2, 4), (3, 4), (5, 2)])
def test_heads_keep_their_scale_whatever_the_width_of_the_input(heads, size):
    g = torch.Generator().manual_seed(4)
    x, inner = torch.randn(2, B, T, D, dtype=torch.float64, generator=g), heads * size
    weight = torch.randn(3 * inner, D, dtype=torch.float64, generator=g)
    bias = torch.randn(3 * inner, dtype=torch.float64, generator=g)
    found = mix_tokens(x, weight, bias, heads)
    assert found.shape == (2, B, T, inner)
    torch.testing.assert_close(found, by_loop(x, weight, bias, heads))


def test_without_heads_nothing_is_left_but_the_bias():
    assert mix_tokens(tokens(), torch.zeros(0, D).double(), torch.zeros(0).double(), 0).shape == (B, T, 0)


def test_what_it_cannot_do_is_refused():
    narrow, x = NarrowAttention(whole()), tokens()
    other = x.clone()
    for arguments in ({"key": other}, {"value": other}, {"key": x, "value": other}, {"need_weights": True}):
        with pytest.raises(ValueError, match="does self-attention only and returns no weights"):
            narrow(x, **arguments)
    for more in ({"key_padding_mask": torch.zeros(B, T, dtype=torch.bool)}, {"is_causal": True}):  # not ignored
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            narrow(x, **more)
    for options in (
        {"bias": False},
        {"add_bias_kv": True},
        {"add_zero_attn": True},
        {"dropout": 0.1},
        {"kdim": 7, "vdim": 7},
    ):
        with pytest.raises(ValueError, match="only plain batch-first self-attention"):
            NarrowAttention(nn.MultiheadAttention(D, HEADS, **{"batch_first": True, **options}))
    with pytest.raises(ValueError, match="only plain batch-first self-attention"):
        NarrowAttention(nn.MultiheadAttention(D, HEADS))

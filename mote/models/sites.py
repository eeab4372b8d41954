"""Where a network can lose width: hidden units, attention heads, channels, as slices of named parameters.

A site is a row of N equal parts (the units of a hidden layer, the heads of an attention) of which each can go alone:

    incoming: weights that make the part        (paper: input connections; Wen et al., NIPS 2016, section 3)
    outgoing: weights that read it              (output connections)
    tied:     biases and the like, which go with it

A part whose outgoing weights are zero is not read by anyone. A part whose incoming weights are zero emits a constant
(g(b) for a unit of bias b; b_v for a head, as softmax rows sum to one), which the next layer sums into its bias: then
the part can go once W_out times that constant is in `fold`. Where the constant cannot move (zero-padded borders,
several experts merged before the activation) `fold` is None and the part can go only if the constant is 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from mote.models import open_clip_blocks
from mote.models.experts import ExpertFFN, quick_gelu
from mote.models.image_nets import MLP, LeNet, ResidualBlock
from mote.models.open_clip_blocks import NarrowAttention
from mote.models.temporal import Attention


@dataclass(frozen=True, eq=False)
class Slice:
    """Row n of `indices` (N, k) along `axis` of a parameter or buffer belongs to part n.

    `flat`: all axes from `axis` on are one, as in the weight matrix of a convolution, (filters, c * m * k).
    """

    name: str
    axis: int
    indices: Int64[Tensor, "N k"]
    flat: bool = False


@dataclass(frozen=True, eq=False)
class Site:
    """N parts that can be removed one by one, see the top of this file.

    Attributes:
        incoming: several act one after the other, so that any of them being zero leaves a constant.
        emitted: gives (N, k), what each part adds to each of its outgoing indices when its incoming weights are zero.
        fold: name of the vector of the next layer that takes W_out times that; None where the constant cannot move.
        closing: (weights, biases) of a residual branch, which go too when all parts go; None: one part must stay.
    """

    name: str
    kind: Literal["units", "heads"]
    incoming: tuple[Slice, ...]
    outgoing: tuple[Slice, ...]
    tied: tuple[Slice, ...]
    emitted: Callable[[], Float[Tensor, "N k"]]
    fold: str | None
    closing: tuple[tuple[Slice, ...], tuple[Slice, ...]] | None = None

    def __len__(self) -> int:
        return len(self.incoming[0].indices)

    def slices(self) -> tuple[Slice, ...]:
        """Incoming, outgoing and tied slices."""
        return (*self.incoming, *self.outgoing, *self.tied)


def rows(count: int, size: int = 1, start: int = 0) -> Int64[Tensor, "N k"]:
    """`size` consecutive indices for each of `count` parts, from `start` on."""
    return torch.arange(start, start + count * size).view(count, size)


def sites(model: nn.Module) -> list[Site]:
    """Sites of the layers of `model` that are known: temporal head, open_clip's ViT blocks, small image networks.

    Names are those of `model.named_parameters()`: a task around a model gives longer ones. Sites that have lost all
    their parts are not listed.
    """
    found: list[Site] = []
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, Attention):
            found.append(_heads(name, module))
        elif isinstance(module, ExpertFFN):
            found.append(_experts(name, module))
        elif block := open_clip_blocks.plain_block(module):
            found.append(_heads(prefix + open_clip_blocks.ATTENTION, block.attention))
            layers = (prefix + open_clip_blocks.FIRST, prefix + open_clip_blocks.SECOND)
            found.append(_pair(model, prefix + open_clip_blocks.FEED_FORWARD, *layers, block.activation, branch=True))
        elif isinstance(module, (LeNet, MLP)):
            found += _chain(model, prefix, module)
        elif isinstance(module, ResidualBlock) and module.conv1 is not None:
            found.append(_residual(name, module))
    return [site for site in found if len(site)]


def _heads(name: str, module: Attention | NarrowAttention | nn.MultiheadAttention) -> Site:
    """Heads: their value and output side. Queries and keys are tied: zero there alone is uniform attention."""
    count, inner = module.num_heads, module.out_proj.weight.shape[1]
    size = inner // count if count else 0
    q, k, v = (rows(count, size, part * inner) for part in range(3))
    weight, bias, out = f"{name}.in_proj_weight", f"{name}.in_proj_bias", f"{name}.out_proj"

    def emitted() -> Tensor:
        assert module.in_proj_bias is not None
        return module.in_proj_bias.detach()[v.to(module.in_proj_bias.device)]

    return Site(
        name,
        "heads",
        incoming=(Slice(weight, 0, v),),
        outgoing=(Slice(f"{out}.weight", 1, rows(count, size)),),
        tied=(Slice(weight, 0, torch.cat([q, k], 1)), Slice(bias, 0, torch.cat([q, k, v], 1))),
        emitted=emitted,
        fold=f"{out}.bias",
        closing=((), (_whole(f"{out}.bias", module.out_proj.bias),)),
    )


def _experts(name: str, module: ExpertFFN) -> Site:
    """Hidden unit j of all experts together: their weights are averaged, so their indices belong together.

    Where the first layer is not routed, what a unit emits does not depend on the routing and every expert's second
    layer can take it up.
    """
    routed = len(module.up_weight) > 1
    index = rows(module.up_weight.shape[1])

    def emitted() -> Tensor:
        # Experts are merged before the activation: of several only "all are zero" can be used, the largest tells.
        return quick_gelu(module.up_bias.detach().abs().amax(0) if routed else module.up_bias[0])

    return Site(
        name,
        "units",
        incoming=(Slice(f"{name}.up_weight", 1, index),),
        outgoing=(Slice(f"{name}.down_weight", 2, index),),
        tied=(Slice(f"{name}.up_bias", 1, index),),
        emitted=lambda: emitted().detach()[:, None],
        fold=None if routed else f"{name}.down_bias",
        closing=((), (Slice(f"{name}.down_bias", 1, rows(1, module.down_bias.shape[1])),)),
    )


def _pair(
    model: nn.Module, name: str, writer: str, reader: str, activation: Callable[[Tensor], Tensor], branch: bool = False
) -> Site:
    """Outputs of a linear layer or convolution that an activation and a second layer follow (maybe flattened)."""
    a, b = model.get_submodule(writer), model.get_submodule(reader)
    assert isinstance(a, (nn.Linear, nn.Conv2d)) and isinstance(b, (nn.Linear, nn.Conv2d))
    count = len(a.weight)
    spread = b.weight.shape[1] // max(1, count)  # inputs of the reader for each output: pixels, where it was flattened
    padded = isinstance(b, nn.Conv2d) and any(b.padding)

    def emitted() -> Tensor:
        assert a.bias is not None
        return activation(a.bias.detach())[:, None].expand(-1, spread)

    return Site(
        name,
        "units",
        incoming=(Slice(f"{writer}.weight", 0, rows(count)),),
        outgoing=(Slice(f"{reader}.weight", 1, rows(count, spread)),),
        tied=(Slice(f"{writer}.bias", 0, rows(count)),),
        emitted=emitted,
        fold=None if padded else f"{reader}.bias",
        closing=((), (_whole(f"{reader}.bias", b.bias),)) if branch else None,
    )


def _chain(model: nn.Module, prefix: str, net: LeNet | MLP) -> list[Site]:
    """Layer after layer; max pooling and dropout leave a constant as it is."""
    if isinstance(net, LeNet):
        names: list[str] = ["conv1", "conv2", "fc1", "fc2"]
        activations = [lambda x: x, lambda x: x, F.relu]
    else:
        names = [*(f"layers.{i}" for i in range(len(net.layers))), "out"]
        activations = [F.relu] * len(net.layers)
    return [
        _pair(model, prefix + a, prefix + a, prefix + b, activation)
        for a, b, activation in zip(names, names[1:], activations, strict=False)
    ]


def _residual(name: str, block: ResidualBlock) -> Site:
    """Channels between the two convolutions of a residual block; a constant stops at the zero-padded border."""
    assert block.conv1 is not None and block.bn1 is not None
    bn, index = block.bn1, rows(block.conv1.out_channels)

    def emitted() -> Tensor:
        assert bn.running_mean is not None and bn.running_var is not None
        return F.relu(bn.bias - bn.weight * bn.running_mean / (bn.running_var + bn.eps).sqrt()).detach()[:, None]

    tied = ("bn1.bias", "bn1.running_mean", "bn1.running_var")
    return Site(
        name,
        "units",
        incoming=(Slice(f"{name}.conv1.weight", 0, index), Slice(f"{name}.bn1.weight", 0, index)),
        outgoing=(Slice(f"{name}.conv2.weight", 1, index),),
        tied=tuple(Slice(f"{name}.{vector}", 0, index) for vector in tied),
        emitted=emitted,
        fold=None,
        # A convolution before a batch norm can shrink freely; the scale of the norm is what the loss holds on to.
        closing=(
            (_whole(f"{name}.bn2.weight", block.bn2.weight),),
            (_whole(f"{name}.bn2.bias", block.bn2.bias),),
        ),
    )


def _whole(name: str, vector: Tensor | None) -> Slice:
    """All of a vector as one part."""
    return Slice(name, 0, rows(1, 0 if vector is None else len(vector)))

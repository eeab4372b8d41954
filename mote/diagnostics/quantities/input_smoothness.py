"""Flat in the parameters, hence smooth in the input: the inequality behind it, in the form that is true.

Ma & Ying (NeurIPS 2021) compare the gradient of f in the input with that in the first layer's weights. For
z = W x + b with g = df/dz, grad_W f = g x^T, grad_b f = g and grad_x f = W^T g, hence for every sample

    linear        |grad_x f| <= |W|_2 |grad_b f|              and <= |W|_2 |grad_W f|_F / |x|        (the paper's)

A patch embedding or convolution shares W among patches: grad_W f = sum_p g_p x_p^T may cancel while grad_x f does not,
and the paper's form is false there. With A the whole layer as a linear map and G = df/dz of all positions,

    patches       |grad_x f| <= |W|_2 |G|                     patches that do not overlap: |A|_2 = |W|_2
    convolution   |grad_x f| <= |A|_2 |G|

G is the gradient in a bias of its own for every position, such as the positional embedding of a single image. The form
is not assumed but checked: where A^T G is not grad_x f (inputs also bypass the layer) there is no inequality. A
temporal head is of that kind: e goes into the branch h, through e + position, and also bypasses it, so

    residual      |grad_e f| <= |grad_position f| + |grad_past f|,    and |grad_position f| alone is not enough.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.func import functional_call, vmap

from mote.diagnostics.quantities.lanczos import top_eigenpair
from mote.diagnostics.quantities.network import exact_attention, vjp
from mote.diagnostics.quantities.sobolev import margin


@dataclass(frozen=True)
class Sides:
    """Both sides of the inequality for the margin of each sample (n,), and its form: linear, patches, ...

    naive: right side of the form that ignores shared weights and bypasses; that form holds for `linear` only.
    """

    form: str
    left: Float64[Tensor, "n"]
    right: Float64[Tensor, "n"]
    naive: Float64[Tensor, "n"]


class FirstLayer(NamedTuple):
    """A layer, its name in the network, and an input of it: one row, of the first sample."""

    name: str
    layer: nn.Module
    example: Float[Tensor, "1 *shape"]


def first_affine(module: nn.Module, inputs: Tensor) -> FirstLayer | None:
    """The first linear or convolutional layer that `inputs` meet; None where there is none."""
    found: list[FirstLayer] = []
    names = {part: name for name, part in module.named_modules()}

    def note(part: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append(FirstLayer(names[part], part, given[0][:1]))

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    hooks = [part.register_forward_pre_hook(note) for part in names if isinstance(part, kinds)]
    try:
        with torch.no_grad():
            module(inputs[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def first_layer_sides(
    module: nn.Module, layer: nn.Module, norm: float, inputs: Float[Tensor, "B *shape"], label: Int64[Tensor, "B"]
) -> Sides | None:
    """The inequality at the input of the first layer; None where the inputs also bypass that layer.

    Args:
        module: the network.
        layer: see `first_affine`; where it takes several rows of a sample (frames, say), they are taken together.
        norm: |A|_2, see `operator_norm`.
        inputs, label: the samples.
    """
    taken: list[tuple[Tensor, Tensor]] = []

    def note(_layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        taken.append((given[0], out))

    handle = layer.register_forward_hook(note)
    try:
        with exact_attention():
            q = margin(module(inputs.detach().requires_grad_()), label)
    finally:
        handle.remove()
    if len(taken) != 1 or not taken[0][0].requires_grad:
        return None
    x, z = taken[0]
    by_x, by_z = torch.autograd.grad(q.sum(), (x, z))
    rows = len(x) // len(label)  # of a sample
    x = x.detach()
    through = vjp(layer, x)[1](by_z)[0]
    if not torch.allclose(through, by_x, rtol=1e-3, atol=1e-4 * by_x.abs().max().item()):
        return None
    split = lambda t: t.detach().reshape(len(label), rows, *t.shape[1:])  # noqa: E731
    weight = layer.get_parameter("weight")

    def by_weight(x: Tensor, g: Tensor) -> Tensor:
        return vjp(lambda w: functional_call(layer, {"weight": w}, (x,)), weight.detach())[1](g)[0].norm()

    left, size = (split(t).flatten(1).double().norm(dim=1) for t in (by_x, x))
    shared = vmap(by_weight)(split(x), split(by_z)).double()
    plain = weight.detach().flatten(1).double()
    naive = torch.linalg.matrix_norm(plain, 2) * shared / size
    return Sides(_form(layer, x), left, norm * split(by_z).flatten(1).double().norm(dim=1), naive)


def _form(layer: nn.Module, x: Tensor) -> str:
    if isinstance(layer, nn.Linear):
        return "linear" if x.ndim == 2 else "patches"
    apart = getattr(layer, "stride", None) == getattr(layer, "kernel_size", None)
    padded = any(getattr(layer, "padding", (1,))) if not isinstance(layer.padding, str) else layer.padding != "valid"
    return "patches" if apart and not padded and layer.groups == 1 else "convolution"


def operator_norm(layer: nn.Module, example: Float[Tensor, "1 *shape"]) -> float:
    """|A|_2 of a linear or convolutional layer on inputs like `example`: of W where nothing overlaps, else by Lanczos.

    Raises ValueError where Lanczos does not converge to six digits of |A|^2.
    """
    weight = layer.get_parameter("weight").detach()
    if _form(layer, example) != "convolution":
        return float(torch.linalg.matrix_norm(weight.flatten(1).double(), 2))
    x = example.detach().double()
    named = {name: p.detach().double() for name, p in layer.named_parameters()}
    run = lambda t: functional_call(layer, named, (t.view_as(x),))  # noqa: E731
    offset = run(torch.zeros_like(x))
    _, pull = vjp(run, x.flatten())
    start = torch.randn(x.numel(), generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(x)
    found = top_eigenpair(lambda v: pull(run(v) - offset)[0].flatten(), start, tolerance=1e-6, max_products=2000)
    if not found.converged:
        raise ValueError("the norm of the first convolution did not converge; leave the inequality out")
    return found.value**0.5


def residual_sides(
    network: Callable[[Tensor, Tensor], Tensor], features: Float[Tensor, "B T D"], label: Int64[Tensor, "B"]
) -> Sides:
    """The inequality of a head with a bypass; `network`: (features of the branch, features of the bypass) -> logits.

    The gradient in the branch's features is that in its positional embedding, of which every frame has a row.
    """
    branch, past = (features.detach().clone().requires_grad_() for _ in range(2))
    with exact_attention():
        q = margin(network(branch, past), label)
    by_branch, by_past = torch.autograd.grad(q.sum(), (branch, past))
    norms = [t.flatten(1).double().norm(dim=1) for t in (by_branch + by_past, by_branch, by_past)]
    return Sides("residual", norms[0], norms[1] + norms[2], norms[1])

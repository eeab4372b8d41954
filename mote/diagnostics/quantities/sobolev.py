"""Smoothness of a network in its input: margins, their gradients, the radius, Sobolev seminorms.

    q(x) = z_y - max_{j != y} z_j                        margin of the logits z, > 0 where the label wins
    r(x) = q / |grad_x q|_2                              first-order distance to the decision boundary
    |f|_{1,2k} = ( 1/n sum_i sum_c |grad_x f_c(x_i)|_{2k}^{2k} )^{1/2k}

The seminorm is that of Ma & Ying (NeurIPS 2021, arXiv 2105.13462) on a sample; of a single output, such as q, the sum
over c has one term. Gradients grow with the temperature of the logits, the radius does not: it alone compares networks
of different scale. In eval mode samples do not see each other, so the gradient of a sum over a batch holds the gradient
of every sample, exactly.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor


def margin(logits: Float[Tensor, "B K"], label: Int64[Tensor, "B"]) -> Float[Tensor, "B"]:
    """z_y - max_{j != y} z_j; raises ValueError for fewer than two classes."""
    if logits.shape[1] < 2:
        raise ValueError("a margin needs at least two classes")
    own = label[:, None]
    others = logits.scatter(1, own, -torch.inf)
    return logits.gather(1, own)[:, 0] - others.max(1).values


def margin_gradient(
    network: Callable[[Tensor], Tensor], inputs: Float[Tensor, "B *shape"], label: Int64[Tensor, "B"]
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B"], Float[Tensor, "B *shape"]]:
    """(logits, margin q, grad_x q) of every sample; `network`: inputs -> logits, in eval mode."""
    x = inputs.detach().requires_grad_()
    logits = network(x)
    q = margin(logits, label)
    (gradient,) = torch.autograd.grad(q.sum(), x)
    return logits.detach(), q.detach(), gradient


def input_norms(gradient: Float[Tensor, "B *shape"]) -> Float64[Tensor, "B"]:
    """|gradient|_2 of every sample."""
    return gradient.flatten(1).double().norm(dim=1)


def frame_norms(gradient: Float[Tensor, "B T *shape"]) -> Float64[Tensor, "B T"]:
    """|gradient with respect to frame t|_2; their squares add up to that of the sample."""
    return gradient.flatten(2).double().norm(dim=2)


def radius(q: Float[Tensor, "*shape"], norm: Float[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """q / norm, negative where the label does not win; a gradient of zero puts the boundary infinitely far away."""
    q, norm = q.double(), norm.double()
    return torch.where(norm > 0, q / norm.clamp(min=torch.finfo(torch.float64).tiny), torch.sign(q) * torch.inf)


def power_sums(gradient: Float[Tensor, "B *shape"], orders: Sequence[int]) -> Float64[Tensor, "B orders"]:
    """|gradient|_{2k}^{2k} of every sample for each order k >= 1."""
    if min(orders) < 1:
        raise ValueError(f"orders must be at least 1, got {tuple(orders)}")
    flat = gradient.flatten(1).double()
    return torch.stack([flat.pow(2 * k).sum(1) for k in orders], dim=1)


def sobolev_seminorm(sums: Float64[Tensor, "n"], order: int) -> float:
    """|f|_{1,2k} from the `power_sums` of n samples of order k."""
    return float(sums.mean() ** (1 / (2 * order)))

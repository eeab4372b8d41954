"""Products of a vector with the curvature of the mean loss, without ever forming a matrix.

For the loss L(theta) = 1/n sum_i l(f(x_i, theta), y_i), J_i = df(x_i)/dtheta, S_i = d2 l / df2:

    Gauss-Newton   G = 1/n sum_i J_i^T S_i J_i           positive semi-definite; the Hessian where the fit is perfect
    Hessian        H = G + 1/n sum_i sum_c (dl/df_c) d2 f_c(x_i) / dtheta2

G v is a forward-mode product J v, times S, then a reverse-mode one (Schraudolph 2002); H v is the forward-mode
derivative of the gradient (Pearlmutter 1994). Top eigenvalue and trace follow by `lanczos`. Sharpness says little by
itself: a factor moved from one layer to the next changes it and not the function (Dinh et al. 2017), so it is read
beside the smoothness in the input.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad

from mote.diagnostics.quantities.network import Problem, jvp, vjp


def gradient(problem: Problem) -> Float[Tensor, "P"]:
    """Gradient of the mean loss, (P,)."""
    total = torch.zeros_like(problem.theta)
    for inputs, label, _ in problem.batches:
        total += grad(lambda t, x=inputs, y=label: problem.loss.value(problem.network(t, x), y).sum())(problem.theta)
    return problem.add_up(total) / problem.total


def gauss_newton_product(problem: Problem, v: Float[Tensor, "P"]) -> Float[Tensor, "P"]:
    """Gauss-Newton-vector product G v, (P,)."""
    total = torch.zeros_like(problem.theta)
    for inputs, _, _ in problem.batches:
        network = lambda t, x=inputs: problem.network(t, x)  # noqa: E731
        logits, change = jvp(network, problem.theta, v)
        _, pull = vjp(network, problem.theta)
        total += pull(problem.loss.curvature(logits, change))[0]
    return problem.add_up(total) / problem.total


def hessian_product(problem: Problem, v: Float[Tensor, "P"]) -> Float[Tensor, "P"]:
    """Hessian-vector product H v, (P,)."""
    total = torch.zeros_like(problem.theta)
    for inputs, label, _ in problem.batches:
        slope = grad(lambda t, x=inputs, y=label: problem.loss.value(problem.network(t, x), y).sum())
        total += jvp(slope, problem.theta, v)[1]
    return problem.add_up(total) / problem.total

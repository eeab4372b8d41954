"""Curvature the slow way, from the definitions: whole Jacobians and matrices, one sample after the other."""

import torch

from mote.diagnostics.quantities.network import Loss

SQUARED = Loss(  # 1/2 |z - onehot(y)|^2; torch's MSELoss is 2/K of it, so a rate of K/2 there is one of 1 here
    lambda z, y: 0.5 * (z - (y[:, None] == torch.arange(z.shape[-1], device=z.device)).to(z)).square().sum(-1),
    lambda z, u: u,
    lambda z: torch.eye(len(z), dtype=z.dtype, device=z.device),
)


def jacobian(network, theta, x):
    """(K, P) of one sample, a backward pass for each output."""
    leaf = theta.clone().requires_grad_()
    logits = network(leaf, x[None])[0]
    return torch.stack([torch.autograd.grad(z, leaf, retain_graph=True)[0] for z in logits]), logits.detach()


def output_hessian(loss, logits, label):
    """(K, K): second derivatives of the loss of one sample in its logits."""
    return torch.autograd.functional.hessian(lambda z: loss.value(z[None], label[None])[0], logits)


def sample_matrices(network, theta, inputs, labels, loss):
    """List of H_i = J_i^T S_i J_i."""
    found = []
    for x, y in zip(inputs, labels, strict=True):
        j, logits = jacobian(network, theta, x)
        found.append(j.T @ output_hessian(loss, logits, y) @ j)
    return found


def hessian(network, theta, inputs, labels, loss):
    """(P, P) of the mean loss."""
    return torch.autograd.functional.hessian(lambda t: loss.value(network(t, inputs), labels).mean(), theta)


def margin_of(logits, label):
    """z_y - max of the others, in a loop."""
    return logits[label] - max(z for j, z in enumerate(logits) if j != label)


def gradients_of(function, at, items):
    """Gradient of function(at, item) for every item, one after the other."""
    found = []
    for item in items:
        leaf = at(item).clone().requires_grad_()
        found.append(torch.autograd.grad(function(leaf, item), leaf)[0])
    return found


def second_moment_operator(matrices, rate, batch_size):
    """(d^2, d^2) Q with E[v v^T] -> Q vec E[v v^T], batches drawn without replacement: all of them, one by one."""
    from itertools import combinations

    d = len(matrices[0])
    total, count = torch.zeros(d * d, d * d, dtype=torch.float64), 0
    for chosen in combinations(range(len(matrices)), batch_size):
        step = torch.eye(d, dtype=torch.float64) - rate * sum(matrices[i] for i in chosen) / batch_size
        total += torch.kron(step, step)
        count += 1
    return total / count


def exact_trace(product, like):
    """tr A, by a product for every coordinate: for small P."""
    total = 0.0
    for i in range(len(like)):
        unit = torch.zeros_like(like)
        unit[i] = 1
        total += product(unit)[i].double().item()
    return total

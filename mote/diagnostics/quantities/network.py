"""A network as a function of one flat parameter vector, in the state in which curvature is defined.

    f(theta, x) -> logits,   theta (P,) all measured parameters behind each other, the others held fixed

Eval mode, so that samples do not see each other and nothing is drawn; attention in its MATH form, because the fused
kernels have no second derivative (PyTorch, as of 2.15) and no forward-mode one. In float32, or float64 for a module
that was made so; a caller keeps autocast off.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.func import jvp as torch_jvp
from torch.func import vjp as torch_vjp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

Batch = tuple[Tensor, Tensor, Tensor]  # inputs (B, ...) floats, label (B,) int64, index (B,) int64 of the sample


class FlatNetwork:
    """`module` (inputs (B, ...) -> logits (B, K)) as a function of `theta`; calling it changes nothing.

    Args:
        module: in eval mode; it is not copied.
        names: parameters to measure, in this order; None: all.

    Raises:
        ValueError: the module is in training mode, or has no parameter of such a name, or none to measure.
    """

    def __init__(self, module: nn.Module, names: Sequence[str] | None = None):
        parameters = dict(module.named_parameters())
        self.names = list(parameters) if names is None else list(names)
        if unknown := [name for name in self.names if name not in parameters]:
            raise ValueError(f"no parameter {unknown[0]!r}; there are {', '.join(parameters)}")
        if not self.names:
            raise ValueError("no parameters to measure; choose some")
        if any(part.training for part in module.modules()):
            raise ValueError("curvature of a network in training mode is not defined; call eval() first")
        _load_forward_mode()
        self.module = module
        self.shapes = [parameters[name].shape for name in self.names]
        self.fixed = {name: p.detach() for name, p in parameters.items() if name not in set(self.names)}
        self.theta: Float[Tensor, "P"] = torch.cat([parameters[name].detach().reshape(-1) for name in self.names])

    def __call__(self, theta: Float[Tensor, "P"], inputs: Tensor) -> Float[Tensor, "B K"]:
        """Logits."""
        parts = theta.split([shape.numel() for shape in self.shapes])
        named = {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}
        with exact_attention():
            return functional_call(self.module, {**self.fixed, **named}, (inputs,))


def _load_forward_mode() -> None:
    """First use of forward mode, at which PyTorch (as of 2.15) warns of its own `torch.jit.script`: silenced."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", FutureWarning)
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


@contextmanager
def exact_attention() -> Iterator[None]:
    """Attention in operations that can be differentiated twice, and in forward mode."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def jvp(function: Callable[[Tensor], Tensor], at: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """(function(at), its derivative along v)."""
    found = torch_jvp(function, (at,), (v,))
    return found[0], found[1]


def vjp(function: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor]]]:
    """(function(at), u -> (gradient of u . function,))."""
    found = torch_vjp(function, at)
    return found[0], found[1]


@dataclass(frozen=True)
class Loss:
    """A loss of the logits z of one sample, convex in z, with the derivatives that Gauss-Newton needs.

    value: (logits (B, K), label (B,)) -> (B,). curvature: (z (..., K), u (..., K)) -> S u with S = d2 loss / dz2.
    factor: z (K,) -> (K, K), rows r_c with sum_c r_c r_c^T = S.
    """

    value: Callable[[Tensor, Tensor], Tensor]
    curvature: Callable[[Tensor, Tensor], Tensor]
    factor: Callable[[Tensor], Tensor]


def _softmax_curvature(logits: Tensor, u: Tensor) -> Tensor:
    p = logits.softmax(-1)
    return p * (u - (p * u).sum(-1, keepdim=True))


def _softmax_factor(logits: Float[Tensor, "K"]) -> Float[Tensor, "K K"]:
    """S = diag(p) - p p^T = sum_c p_c (e_c - p)(e_c - p)^T."""
    p = logits.softmax(-1)
    return p.sqrt()[:, None] * (torch.eye(len(p), dtype=p.dtype, device=p.device) - p)


CROSS_ENTROPY = Loss(lambda z, y: cross_entropy(z, y, reduction="none"), _softmax_curvature, _softmax_factor)


@dataclass(frozen=True)
class Problem:
    """What is measured: the mean loss of a network over samples that several processes may share.

    Args:
        network: see `FlatNetwork`; measured at its own `theta`.
        batches: this process's samples, iterated over anew for every product, always in the same order.
        total: n, samples of all processes.
        loss: of a sample.
        add_up: tensor -> its sum over all processes, the same in each of them.
        gradients_at_once: numbers that the gradients of samples may take up at a time.
    """

    network: FlatNetwork
    batches: Iterable[Batch]
    total: int
    loss: Loss = CROSS_ENTROPY
    add_up: Callable[[Tensor], Tensor] = lambda tensor: tensor
    gradients_at_once: int = 2**22

    @property
    def theta(self) -> Float[Tensor, "P"]:
        """The parameters."""
        return self.network.theta

    def at_once(self, each: int) -> int:
        """Samples of which `each` parameter vectors fit, at least one."""
        return max(1, self.gradients_at_once // (each * len(self.theta)))

    def chunks(self, each: int = 1) -> Iterator[tuple[Tensor, Int64[Tensor, "b"], Int64[Tensor, "b"]]]:
        """The batches in pieces so small that `each` parameter vectors of every sample fit."""
        size = self.at_once(each)
        for inputs, label, index in self.batches:
            yield from zip(inputs.split(size), label.split(size), index.split(size), strict=True)

"""The quantities of `mote diagnose RUN`, each measured over the samples of all processes.

Everything is measured on the cross-entropy of the network as it is deployed, not on the objective it was trained with
(other terms, drawn routings, mixed samples).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from mote.diagnostics.quantities.gradient_noise import sample_curvature, sample_gradients
from mote.diagnostics.quantities.input_smoothness import (
    Sides,
    first_affine,
    first_layer_sides,
    operator_norm,
    residual_sides,
)
from mote.diagnostics.quantities.lanczos import TopEigenpair, hutchinson_trace, top_eigenpair
from mote.diagnostics.quantities.network import FlatNetwork, Problem
from mote.diagnostics.quantities.sharpness import gradient, hessian_product
from mote.diagnostics.quantities.sobolev import frame_norms, input_norms, margin_gradient, power_sums, radius
from mote.diagnostics.subject import Batches, Subject
from mote.parallel.accelerator import Accelerator, add_up

ORDERS = (1, 2, 3)  # k of the Sobolev seminorms and of the moments


class Measure:
    """One network and its samples under measurement; every method gives the same numbers in all processes.

    Args:
        of: the network and this process's samples.
        accelerator: the processes.
        batch_size: samples that go through the network at once.
        seed: of the start of Lanczos and of all random signs.
        probes: of traces; where there are at most as many classes, traces of Gauss-Newton are exact.
        lanczos: `tolerance`, `max_products` and `basis` of `top_eigenpair`.
    """

    def __init__(
        self,
        of: Subject,
        accelerator: Accelerator,
        *,
        batch_size: int,
        seed: int,
        probes: int,
        lanczos: dict[str, Any],
    ):
        self.of, self.accelerator, self.batch_size, self.seed = of, accelerator, batch_size, seed
        self.probes, self.lanczos = probes, lanczos
        network = FlatNetwork(of.module, of.names)
        self.problem = Problem(network, of.batches(batch_size), of.total, add_up=self._add_up)
        generator = torch.Generator().manual_seed(seed)
        self.start = torch.randn(len(network.theta), generator=generator).to(network.theta)

    def _add_up(self, tensor: Tensor) -> Tensor:
        return add_up(self.accelerator, {"sum": tensor})["sum"].to(tensor.device)

    def whole(self, values: Tensor, index: Tensor | None = None) -> Tensor:
        """Rows of this process's samples -> those of all samples in their order, on the CPU, in float64."""
        table = torch.zeros(self.of.total, *values.shape[1:], dtype=torch.float64)
        table[self.of.index if index is None else index] = values.detach().double().cpu()
        return self._add_up(table)

    @contextmanager
    def bar(self, name: str, total: int, unit: str) -> Iterator[tqdm]:
        """A progress bar of the main process."""
        quiet = None if self.accelerator.is_main_process else True
        with tqdm(total=total, desc=name, unit=unit, disable=quiet, leave=False) as bar:
            yield bar

    def margins(self) -> dict[str, Tensor]:
        """Of every sample: loss, logits' choice, margin, norms of its gradient (of frames, too), powers."""
        rows = []
        network = self.problem.network
        with self.bar("margins", len(self.of.label), "sample") as bar:
            for inputs, label, _ in Batches(self.of, self.batch_size, bar):
                logits, q, slope = margin_gradient(lambda x: network(network.theta, x), inputs, label)
                loss = self.problem.loss.value(logits, label)
                frames = frame_norms(slope) if self.of.frames else input_norms(slope)[:, None]
                right = logits.argmax(1) == label
                rows.append((loss, right, q, input_norms(slope), frames, power_sums(slope, ORDERS)))
        names = ("loss", "correct", "margin", "gradient", "frames", "powers")
        found = {name: self.whole(torch.cat(part)) for name, part in zip(names, zip(*rows, strict=True), strict=True)}
        return found | {"radius": radius(found["margin"], found["gradient"])}

    def sides(self) -> dict[str, Any]:
        """The input-smoothness inequality in its form for this network; `form` None where there is none."""
        of = self.of
        example = next(iter(of.batches(1)))[0]
        affine = None if of.two_paths is not None else first_affine(of.module, example)
        if of.two_paths is None and affine is None:
            return {"form": None, "why": "the network has no linear or convolutional layer"}
        norm = None if affine is None else operator_norm(affine[1], _layer_input(of.module, affine[1], example))
        found: list[Sides] = []
        with self.bar("smoothness", len(of.label), "sample") as bar:
            for inputs, label, _ in Batches(of, self.batch_size, bar):
                if of.two_paths is not None:
                    sides = residual_sides(of.two_paths, inputs, label)
                else:
                    assert affine is not None and norm is not None
                    sides = first_layer_sides(of.module, affine[1], norm, inputs, label)
                if sides is not None:
                    found.append(sides)
        if sum(len(sides.left) for sides in found) < len(of.label):
            return {"form": None, "why": "the first layer is not the only way in"}
        left, right, naive = (self.whole(torch.cat([getattr(s, n) for s in found])) for n in ("left", "right", "naive"))
        return {
            "form": found[0].form,
            "layer": None if affine is None else affine[0],
            "layer_norm": norm,
            "left": float(left.square().mean()),
            "right": float(right.square().mean()),
            "ratio": float(left.square().mean() / right.square().mean()),
            "worst_sample_ratio": float((left / right).max()),
            "naive_worst_sample_ratio": float((left / naive).max()),
            "naive_violated": float((left > naive * (1 + 1e-5)).double().mean()),
        }

    def top(self, name: str, product: Callable[[Problem, Tensor], Tensor]) -> TopEigenpair:
        """Largest eigenvalue of a product."""
        with self.bar(name, self.lanczos["max_products"], "product") as bar:
            return top_eigenpair(lambda v: _counted(product(self.problem, v), bar), self.start, **self.lanczos)

    def hessian_trace(self) -> tuple[float, float | None]:
        """Hutchinson's estimate and its standard error."""
        with self.bar("hessian trace", self.probes, "product") as bar:
            product = lambda v: _counted(hessian_product(self.problem, v), bar)  # noqa: E731
            return hutchinson_trace(product, self.problem.theta, probes=self.probes, seed=self.seed)

    def samples(self) -> dict[str, Tensor | None]:
        """Of every sample: what `sample_gradients` says."""
        classes = len(self.of.classes)
        with self.bar("sample gradients", len(self.of.label), "sample") as bar:
            problem = replace(self.problem, batches=Batches(self.of, self.batch_size, bar))
            probes = None if classes <= self.probes else self.probes
            found = sample_gradients(problem, classes, probes=probes, seed=self.seed, orders=ORDERS)
        names = ("loss", "margin", "margin_sums", "trace", "squares", "top")
        rows = {name: getattr(found, name) for name in names}
        return {name: None if part is None else self.whole(part, found.index) for name, part in rows.items()}

    def gradient_norm(self) -> float:
        """Of the mean loss in the parameters."""
        return gradient(self.problem).double().norm().item()

    def along(self, u: Float[Tensor, "P"]) -> Float[Tensor, "n"]:
        """u^T H_i u of every sample."""
        index, values = sample_curvature(self.problem, u)
        return self.whole(values, index)


def _counted(tensor: Tensor, bar: tqdm) -> Tensor:
    bar.update()
    return tensor


def _layer_input(module: nn.Module, layer: nn.Module, example: Tensor) -> Tensor:
    """What `layer` gets of one sample, one row of it."""
    taken: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
    try:
        with torch.no_grad():
            module(example)
    finally:
        handle.remove()
    return taken[0][:1]

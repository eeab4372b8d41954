"""The quantities of `mote diagnose RUN`, each measured over the samples of all processes.

Everything is measured on the cross-entropy of the network as it is deployed, not on the objective it was trained with
(other terms, drawn routings, mixed samples).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from mote.diagnostics.quantities.gradient_noise import SampleGradients, sample_curvature, sample_gradients
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
from mote.diagnostics.request import Request
from mote.diagnostics.subject import Batches, Subject
from mote.parallel.accelerator import Accelerator, add_up

ORDERS = (1, 2, 3)  # k of the Sobolev seminorms and of the moments
BASIS = 10  # vectors that Lanczos keeps


class Measure:
    """One network and its samples under measurement; every method gives the same numbers in all processes.

    Args:
        of: the network and this process's samples.
        accelerator: the processes.
        request: what is asked for.
        batch_size: samples that go through the network at once.
    """

    def __init__(self, of: Subject, accelerator: Accelerator, request: Request, batch_size: int):
        self.of, self.accelerator, self.request, self.batch_size = of, accelerator, request, batch_size
        network = FlatNetwork(of.module, of.names)
        self.problem = Problem(network, of.batches(batch_size), of.total, add_up=self._add_up)
        generator = torch.Generator().manual_seed(request.seed)
        self.start = torch.randn(len(network.theta), generator=generator).to(network.theta)

    def _add_up(self, tensor: Tensor) -> Tensor:
        return add_up(self.accelerator, {"sum": tensor})["sum"].to(tensor.device)

    def whole(self, values: Tensor, index: Tensor | None = None) -> Tensor:
        """Rows of this process's samples -> rows of all samples in their order, on the CPU, in float64."""
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
        """Properties of every sample, rows in the order of the samples.

        Returns:
            loss, correct (0 or 1), margin, gradient (norm of the margin's gradient in the input), frames (the same for
            each frame), powers (see `power_sums`), and radius (margin over gradient).
        """
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

    def sides(self) -> dict[str, object]:
        """The input-smoothness inequality in its form for this network; where it has none, `form` None and `why`."""
        of = self.of
        first, norm = None, None
        if of.two_paths is None:
            first = first_affine(of.module, next(iter(of.batches(1)))[0])
            if first is None:
                return {"form": None, "why": "the network has no linear or convolutional layer"}
            norm = operator_norm(first.layer, first.example)
        found: list[Sides] = []
        with self.bar("smoothness", len(of.label), "sample") as bar:
            for inputs, label, _ in Batches(of, self.batch_size, bar):
                if of.two_paths is not None:
                    sides = residual_sides(of.two_paths, inputs, label)
                else:
                    assert first is not None and norm is not None
                    sides = first_layer_sides(of.module, first.layer, norm, inputs, label)
                if sides is not None:
                    found.append(sides)
        if sum(len(sides.left) for sides in found) < len(of.label):
            return {"form": None, "why": "the first layer is not the only way in"}
        left, right, naive = (self.whole(torch.cat([getattr(s, n) for s in found])) for n in ("left", "right", "naive"))
        return {
            "form": found[0].form,
            "layer": None if first is None else first.name,
            "layer_norm": norm,
            "left": float(left.square().mean()),
            "right": float(right.square().mean()),
            "ratio": float(left.square().mean() / right.square().mean()),
            "worst_sample_ratio": float((left / right).max()),
            "naive_worst_sample_ratio": float((left / naive).max()),
            "naive_violated": float((left > naive * (1 + 1e-5)).double().mean()),
        }

    def top(self, name: str, product: Callable[[Problem, Tensor], Tensor]) -> TopEigenpair:
        """Largest eigenvalue of the operator behind `product`."""
        tolerance, limit = self.request.tolerance, self.request.max_products
        with self.bar(name, limit, "product") as bar:
            counted = lambda v: _counted(product(self.problem, v), bar)  # noqa: E731
            return top_eigenpair(counted, self.start, tolerance=tolerance, max_products=limit, basis=BASIS)

    def hessian_trace(self) -> tuple[float, float | None]:
        """Hutchinson's estimate and its standard error."""
        probes, seed = self.request.probes, self.request.seed
        with self.bar("hessian trace", probes, "product") as bar:
            product = lambda v: _counted(hessian_product(self.problem, v), bar)  # noqa: E731
            return hutchinson_trace(product, self.problem.theta, probes=probes, seed=seed)

    def samples(self) -> SampleGradients:
        """The gradients of all samples in their order."""
        classes, probes = len(self.of.classes), self.request.probes
        with self.bar("sample gradients", len(self.of.label), "sample") as bar:
            problem = replace(self.problem, batches=Batches(self.of, self.batch_size, bar))
            exact = None if classes <= probes else probes
            found = sample_gradients(problem, classes, probes=exact, seed=self.request.seed, orders=ORDERS)
        return SampleGradients(
            torch.arange(self.of.total),
            self.whole(found.loss, found.index),
            self.whole(found.margin, found.index),
            self.whole(found.margin_sums, found.index),
            self.whole(found.trace, found.index),
            self.whole(found.squares, found.index),
            None if found.top is None else self.whole(found.top, found.index),
        )

    def gradient_norm(self) -> float:
        """Norm of the gradient of the mean loss in the parameters."""
        return gradient(self.problem).double().norm().item()

    def along(self, u: Float[Tensor, "P"]) -> Float[Tensor, "n"]:
        """u^T H_i u of every sample."""
        index, values = sample_curvature(self.problem, u)
        return self.whole(values, index)


def _counted(tensor: Tensor, bar: tqdm) -> Tensor:
    bar.update()
    return tensor

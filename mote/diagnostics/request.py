"""What is asked of `mote diagnose RUN`: the samples, the quantities, and how exactly they are estimated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

PARTS = ("margin", "smoothness", "gradients", "gauss_newton", "hessian", "noise")
Inputs = Literal["features", "pixels"]


@dataclass(frozen=True)
class Request:
    """Options of `mote diagnose RUN`.

    Args:
        name: stem of the files.
        samples: number of samples, drawn from `data.train`, >= 2.
        seed: of the samples, of the start of Lanczos and of all random signs.
        inputs: "features" measures the temporal head alone, "pixels" the whole network; None: features where there is
            a temporal head, else pixels.
        parameters: pattern of the names of parameters to measure; None: all.
        parts: among `PARTS`; "noise" includes "gradients" and "gauss_newton".
        batch_size: samples that go through the network at once; None: 32 features, or `evaluation.batch_size` pixels.
        probes: random sign vectors for traces, >= 2; where there are at most as many classes, traces of Gauss-Newton
            are exact.
        tolerance: relative residual at which Lanczos stops, > 0.
        max_products: number of products at which it stops in any case, >= 1.
        named: `section.key` of the settings that the user gave, see `mote.inference.contract`.

    Raises:
        ValueError: an option out of range.
    """

    name: str = "diagnose"
    samples: int = 256
    seed: int = 0
    inputs: Inputs | None = None
    parameters: str | None = None
    parts: Sequence[str] = PARTS
    batch_size: int | None = None
    probes: int = 8
    tolerance: float = 1e-2
    max_products: int = 60
    named: frozenset[str] = frozenset()

    def __post_init__(self):
        if not self.parts or not set(self.parts) <= set(PARTS):
            raise ValueError(f"--quantities {','.join(self.parts)}: choose from {','.join(PARTS)}")
        size = 1 if self.batch_size is None else self.batch_size
        if self.probes < 2 or self.max_products < 1 or not self.tolerance > 0 or size < 1:
            raise ValueError("expected --probes >= 2, --max-products >= 1, --tolerance > 0 and --batch-size >= 1")
        if self.samples < 2:
            raise ValueError(f"--samples must be at least 2, got {self.samples}")

    @property
    def measured(self) -> set[str]:
        """The parts to measure: those asked for, and those that the noise is computed from."""
        return {*self.parts, *(("gradients", "gauss_newton") if "noise" in self.parts else ())}

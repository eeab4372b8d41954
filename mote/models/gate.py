"""Settings of temporal feature modulation, see `modulation`; protocols name them too, and read no tensor."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """Settings of the gate rho; the defaults are those of the paper.

    Args:
        k: neighbours in each vocabulary, at least 1.
        gamma: > 0; the smaller, the sooner the temporal branch is switched off.

    Raises:
        ValueError: k or gamma out of range.
    """

    k: int = 5
    gamma: float = 0.05

    def __post_init__(self):
        if self.k < 1 or not self.gamma > 0:
            raise ValueError(f"modulation needs k >= 1 and gamma > 0, got k={self.k} and gamma={self.gamma}")

    def changed(self, k: int | None, gamma: float | None) -> "Gate":
        """These settings with another k or gamma, where one is given."""
        return Gate(self.k if k is None else k, self.gamma if gamma is None else gamma)


GATE = Gate()

"""What a caller hands down to the loop: functions that it calls at fixed places."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

Evaluate = Callable[[nn.Module, int], dict[str, float]]  # task in evaluation mode, epochs completed -> metrics
SaveBest = Callable[[nn.Module, dict[str, float]], None]  # task, metrics
Mix = Callable[[Mapping[str, Tensor], np.random.Generator], dict[str, Tensor]]  # batch on the device -> batch


@runtime_checkable
class AfterUpdate(Protocol):
    """Something that changes weights after each update, such as `sparsity.lasso.GroupLasso`; resumes with the run."""

    def __call__(self, optimizer: Optimizer, fraction: float) -> dict[str, float]:
        """Act; `fraction` of all steps were done before this update. Numbers for the log."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state."""
        ...


@dataclass(frozen=True)
class Hooks:
    """Functions called by the loop; each of them may be left out."""

    evaluate: Evaluate | None = None  # called in every process; the metrics are logged
    save_best: SaveBest | None = None  # main process only: at each new best, or once at the end without `select`
    mix: Mix | None = None  # before the task sees a batch; see `datasets.mixing`
    after_update: AfterUpdate | None = None  # after every update, in all processes alike; its numbers are logged

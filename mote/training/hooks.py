"""What a caller hands down to the loop: functions that it calls at fixed places."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

Evaluate = Callable[[nn.Module, int], dict[str, float]]
SaveBest = Callable[[nn.Module, dict[str, float]], None]
Mix = Callable[[Mapping[str, Tensor], np.random.Generator], dict[str, Tensor]]


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
    """Functions called by the loop; each of them may be left out.

    evaluate: (task without wrappers, in evaluation mode; epochs completed) -> metrics; called in every process.
    save_best: (task, metrics), main process only: at each new best, or once at the end where none is selected.
    mix: (batch on the device, generator of the micro step) -> batch, before the task sees it; see `datasets.mixing`.
    after_update: changes weights after every update, in all processes alike; its numbers are logged.
    """

    evaluate: Evaluate | None = None
    save_best: SaveBest | None = None
    mix: Mix | None = None
    after_update: AfterUpdate | None = None

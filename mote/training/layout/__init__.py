"""How weights, gradients and optimizer state lie over the processes: whole in each of them, or in shards.

The backward pass and the update are accelerate's in every layout; what differs is how a task is prepared for it, and
how whole tensors are put together for evaluation and checkpoints.
"""

from typing import Protocol, runtime_checkable

from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from mote.training.checkpoint import OptimizerState
from mote.training.layout.plain import Plain
from mote.training.layout.sharded import Sharded


@runtime_checkable
class Layout(Protocol):
    """A task and its optimizer, prepared for training on these processes."""

    accelerator: Accelerator
    task: nn.Module  # as it was given, in shards where there are any
    module: nn.Module  # the task with accelerate's wrappers: call it, never its forward
    optimizer: Optimizer

    def gradient_norm(self, limit: float) -> float:
        """L2 norm of the whole gradient, the same in every process, before it is scaled down to at most `limit`."""
        ...

    def whole_task(self) -> nn.Module:
        """The task with its current weights, without wrappers and shards. Call it in every process."""
        ...

    def whole_state(self) -> OptimizerState:
        """The optimizer's state as it is without shards, for a checkpoint. Call it in every process."""
        ...

    def load_state(self, state: OptimizerState) -> None:
        """Take over what `whole_state` gave, in whichever layout."""
        ...


def layout_of(accelerator: Accelerator, task: nn.Module, optimizer: Optimizer, *, whole: bool) -> Layout:
    """`task` and its optimizer as the launcher wants them laid out.

    Args:
        accelerator: from `make_accelerator`.
        task: changed in place under FSDP2.
        optimizer: of the parameters of `task`.
        whole: whether something else than the optimizer changes weights, and needs them whole.

    Raises:
        ValueError: `whole`, but the launcher asks for shards.
    """
    if not accelerator.is_fsdp2:
        return Plain(accelerator, task, optimizer)
    if whole:
        raise ValueError("sparsity needs whole parameters, FSDP keeps shards of them; use plain data parallelism")
    return Sharded(accelerator, task, optimizer)

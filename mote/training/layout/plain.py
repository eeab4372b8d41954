"""One process, or DDP: every process holds all weights, gradients and moments."""

from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from mote.training.checkpoint import OptimizerState


class Plain:
    """A `Layout` of whole tensors."""

    def __init__(self, accelerator: Accelerator, task: nn.Module, optimizer: Optimizer):
        self.accelerator, self.task = accelerator, task
        self.module, self.optimizer = accelerator.prepare(task, optimizer)

    def gradient_norm(self, limit: float) -> float:
        """L2 norm of the gradient before it is scaled down to at most `limit`."""
        learning = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        norm = self.accelerator.clip_grad_norm_(learning, limit)
        assert norm is not None  # as it is with DeepSpeed
        return norm.item()

    def whole_task(self) -> nn.Module:
        """The task without wrappers."""
        return self.accelerator.unwrap_model(self.module)

    def whole_state(self) -> OptimizerState:
        """The optimizer's state dict."""
        return OptimizerState(**self.optimizer.state_dict())

    def load_state(self, state: OptimizerState) -> None:
        """Take over a state dict."""
        self.optimizer.load_state_dict({**state})

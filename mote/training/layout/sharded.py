"""FSDP2: weights, gradients and moments in shards over the processes.

Checkpoints hold whole tensors in the order of the unsharded optimizer, so a run goes on with or without shards, on any
number of processes. Every process keeps a plain copy of the task for evaluation and saving: the copy holds weights
only, where training holds gradients and two moments of each as well, in shards.
"""

import copy
from collections.abc import Callable

from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from mote.training.checkpoint import OptimizerState

_WRAPPED = (".parametrizations", ".original")


class Sharded:
    """A `Layout` of shards."""

    def __init__(self, accelerator: Accelerator, task: nn.Module, optimizer: Optimizer):
        self.accelerator, self.task = accelerator, task
        self.copy = copy.deepcopy(task).to(accelerator.device)
        store_scalars_as_vectors(task)
        self.module, self.optimizer = accelerator.prepare(task, optimizer)

    def gradient_norm(self, limit: float) -> float:
        """L2 norm of the whole gradient before it is scaled down to at most `limit`."""
        learning = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        norm = self.accelerator.clip_grad_norm_(learning, limit)
        assert norm is not None  # as it is with DeepSpeed
        return whole(norm).item()

    def whole_task(self) -> nn.Module:
        """The plain copy, with the current weights."""
        own, weights = self.copy.state_dict(), {}
        for name, value in self.accelerator.unwrap_model(self.module).state_dict().items():
            for part in _WRAPPED:
                name = name.replace(part, "")
            weights[name] = whole(value).reshape(own[name].shape)
        self.copy.load_state_dict(weights)
        return self.copy

    def whole_state(self) -> OptimizerState:
        """The optimizer's state dict with whole moments, those of scalars without axes."""
        modules = self.accelerator.unwrap_model(self.module).modules()
        lists = [module for module in modules if isinstance(module, parametrize.ParametrizationList)]
        scalars = {id(module.original) for module in lists if isinstance(module[0], _Scalar)}

        def joined(_key: str, value: Tensor, parameter: Tensor) -> Tensor:
            return whole(value).reshape(()) if id(parameter) in scalars else whole(value)

        return self._converted(OptimizerState(**self.optimizer.state_dict()), joined)

    def load_state(self, state: OptimizerState) -> None:
        """Take over whole moments: every process keeps its shards."""

        def cut(key: str, value: Tensor, parameter: Tensor) -> Tensor:
            if key == "step" or not isinstance(parameter, DTensor):
                return value
            value = value.reshape(parameter.shape).to(parameter.device)
            return distribute_tensor(value, parameter.device_mesh, parameter.placements)

        self.optimizer.load_state_dict({**self._converted(state, cut)})

    def _converted(self, state: OptimizerState, convert: Callable[[str, Tensor, Tensor], Tensor]) -> OptimizerState:
        """`state` with convert(key, value, parameter) for each tensor that belongs to a parameter."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        moments = {
            i: {key: convert(key, value, parameters[i]) for key, value in entry.items()}
            for i, entry in state["state"].items()
        }
        return {"state": moments, "param_groups": state["param_groups"]}


def store_scalars_as_vectors(task: nn.Module) -> None:
    """Make every parameter without axes one that FSDP2 accepts; its attribute still reads as a number."""
    for module in list(task.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.ndim == 0:
                parametrize.register_parametrization(module, name, _Scalar())


class _Scalar(nn.Module):
    """A number stored as a vector of one, since FSDP2 cannot cut a tensor without axes."""

    def forward(self, stored: Tensor) -> Tensor:
        return stored.reshape(())

    def right_inverse(self, number: Tensor) -> Tensor:
        return number.reshape(1)


def whole(value: Tensor) -> Tensor:
    """The whole tensor of which `value` may be a shard. Call it in every process."""
    return value.full_tensor() if isinstance(value, DTensor) else value

"""FSDP2: what a task needs before it is cut into shards, and how whole tensors are put together from them.

Checkpoints hold whole tensors in the order of the unsharded optimizer, so a run goes on with or without shards, on any
number of processes. Every process keeps a plain copy of the task for evaluation and saving: the copy holds weights
only, where training holds gradients and two moments of each as well, in shards.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import parametrize

_WRAPPED = (".parametrizations", ".original")


class _Scalar(nn.Module):
    """A number stored as a vector of one, since FSDP2 cannot cut a tensor without axes."""

    def forward(self, stored: Tensor) -> Tensor:
        return stored.reshape(())

    def right_inverse(self, number: Tensor) -> Tensor:
        return number.reshape(1)


def store_scalars_as_vectors(task: nn.Module) -> None:
    """Make every parameter without axes one that FSDP2 accepts; its attribute still reads as a number."""
    for module in list(task.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.ndim == 0:
                parametrize.register_parametrization(module, name, _Scalar())


def load_whole_weights(plain: nn.Module, task: nn.Module) -> None:
    """Copy the weights of the sharded `task` into its plain copy; call it in every process."""
    whole = {}
    for name, value in task.state_dict().items():
        for part in _WRAPPED:
            name = name.replace(part, "")
        whole[name] = _whole(value)
    own = plain.state_dict()
    plain.load_state_dict({name: value.reshape(own[name].shape) for name, value in whole.items()})


def whole_state(state: dict[str, Any], optimizer: torch.optim.Optimizer, task: nn.Module) -> dict[str, Any]:
    """An optimizer's state dict as it is without shards; call it in every process."""
    lists = [module for module in task.modules() if isinstance(module, parametrize.ParametrizationList)]
    scalars = {id(module.original) for module in lists if isinstance(module[0], _Scalar)}
    parameters = _parameters(optimizer)

    def whole(i: int, value: Any) -> Any:
        value = _whole(value)
        return value.reshape(()) if id(parameters[i]) in scalars else value

    moments = {i: {key: whole(i, value) for key, value in entry.items()} for i, entry in state["state"].items()}
    return {**state, "state": moments}


def cut_state(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The inverse of `whole_state` for the parameters of `optimizer`."""
    parameters = _parameters(optimizer)

    def cut(i: int, value: Tensor) -> Tensor:
        like = parameters[i]
        if not isinstance(like, DTensor):
            return value
        return distribute_tensor(value.reshape(like.shape).to(like.device), like.device_mesh, like.placements)

    moments = {
        i: {key: value if key == "step" else cut(i, value) for key, value in entry.items()}
        for i, entry in state["state"].items()
    }
    return {**state, "state": moments}


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """In the order that numbers them in a state dict."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _whole(value: Any) -> Any:
    return value.full_tensor() if isinstance(value, DTensor) else value

"""Weights saved before a module was renamed."""

from functools import partial

from torch import Tensor, nn


def reads_old_name(module: nn.Module, old: str, new: str) -> None:
    """Let `module` load a state dict in which its child `new` is still called `old`."""
    module.register_load_state_dict_pre_hook(partial(_rename, old, new))


def _rename(old: str, new: str, _module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    before = f"{prefix}{old}."
    for key in [key for key in state if key.startswith(before)]:
        state[f"{prefix}{new}.{key.removeprefix(before)}"] = state.pop(key)

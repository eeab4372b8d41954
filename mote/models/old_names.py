"""Weights saved before a module was renamed."""

from functools import partial

from torch import Tensor, nn


def reads_old_name(module: nn.Module, old: str, new: str) -> None:
    """Let `module` load a state dict in which its child `new` is still called `old`."""
    module.register_load_state_dict_pre_hook(partial(_rename, old, new))


def renamed(old: str, new: str, name: str, prefix: str = "") -> str:
    """The name of a tensor with the child `new` in place of `old`, below `prefix`; other names as they are."""
    before = f"{prefix}{old}."
    return f"{prefix}{new}.{name.removeprefix(before)}" if name.startswith(before) else name


def _rename(old: str, new: str, _module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    for key in list(state):
        state[renamed(old, new, key, prefix)] = state.pop(key)

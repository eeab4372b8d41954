"""Optimizers over parameter groups named by ordered patterns.

A rule is (pattern, settings): pattern as in a shell (`*`, `?`, `[...]`) against the full parameter name, settings
`lr_scale` (factor on the schedule's rate, default 1; 0 freezes) and `weight_decay` (default the caller's). The first
matching rule takes the parameter, as in big_vision: every parameter must be taken, every rule must take something.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

Rule = tuple[str, Mapping[str, int | float]]


def assign_rules(names: Sequence[str], patterns: Sequence[str]) -> dict[str, list[str]]:
    """Give every name to the first pattern that matches it: {pattern: names}.

    Raises:
        ValueError: listing names that no pattern matches, or patterns that get no name.
    """
    if len(set(patterns)) != len(patterns):
        raise ValueError(f"a parameter pattern stands twice in {list(patterns)}; keep one of them")
    taken: dict[str, list[str]] = {pattern: [] for pattern in patterns}
    orphans = []
    for name in names:
        pattern = next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)
        (orphans if pattern is None else taken[pattern]).append(name)
    if orphans:
        raise ValueError(f"no pattern of {list(patterns)} matches the parameters {orphans}; add a rule, such as '*'")
    idle = [pattern for pattern, members in taken.items() if not members]
    if idle:
        raise ValueError(
            f"the patterns {idle} take no parameter (none matches, or earlier rules take all); names are {list(names)}"
        )
    return taken


def parameter_groups(
    module: nn.Module, rules: Sequence[Rule], *, weight_decay: float = 0.2, no_decay_norm_bias: bool = False
) -> list[dict[str, Any]]:
    """Optimizer groups of `module` under `rules`; sets requires_grad of every parameter to (lr_scale > 0).

    Each group has `params`, `lr_scale`, `weight_decay` and `name` (its pattern). With `no_decay_norm_bias`, scalars,
    vectors and names that end in "bias" (the experts' stacked biases are matrices) form a group without decay.

    Raises:
        ValueError: a parameter without rule, an idle rule, an unknown setting, a negative value, or all frozen.
    """
    named = dict(module.named_parameters())
    taken = assign_rules(list(named), [pattern for pattern, _ in rules])
    groups = []
    for pattern, settings in rules:
        unknown = set(settings) - {"lr_scale", "weight_decay"}
        if unknown or min(settings.values(), default=0) < 0:
            raise ValueError(f"rule {pattern!r}: {dict(settings)}; expected lr_scale and weight_decay, none negative")
        lr_scale, decay = settings.get("lr_scale", 1.0), settings.get("weight_decay", weight_decay)
        split: dict[float, list[nn.Parameter]] = {}
        for name in taken[pattern]:
            named[name].requires_grad_(lr_scale > 0)
            plain = no_decay_norm_bias and (named[name].ndim <= 1 or name.endswith("bias"))
            split.setdefault(0.0 if plain else decay, []).append(named[name])
        if lr_scale > 0:
            common = {"lr_scale": lr_scale, "name": pattern}
            groups += [{"params": members, "weight_decay": value, **common} for value, members in split.items()]
    if not groups:
        raise ValueError("every rule has lr_scale 0: there is nothing to train")
    return groups


def make_optimizer(
    groups: list[dict[str, Any]],
    method: str = "adamw",
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    momentum: float = 0.9,
    fused: bool = False,
) -> torch.optim.Optimizer:
    """AdamW, Adam or SGD over the groups; the rate is written by `set_learning_rate` before every update.

    Args:
        groups: of `parameter_groups`.
        method: "adamw" takes the decay from the weights; "adam" and "sgd" add it, times the weights, to the gradient.
        betas: of adamw and adam.
        momentum: of sgd, b <- momentum b + gradient, w <- w - rate b, without dampening.
        fused: all tensors of an update in one kernel, which reads and writes the weights once; the same but for
            rounding.
    """
    if method == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=momentum, fused=fused or None)
    adam = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[method]
    return adam(groups, lr=0.0, betas=betas, fused=fused or None)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Write rate * lr_scale into every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]

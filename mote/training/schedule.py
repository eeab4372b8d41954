"""How weights are learned, and the learning rate as a pure function of the optimizer step.

The rate rises linearly, then follows a curve. With s = `step` (updates already made), W = `warmup_steps`,
S = `total_steps`, E = updates of an epoch:

    s <  W:        base * (s + 1) / W                                   (the first update has a rate above zero)
    s >= W:        base * share(s)
    cosine:        share = m + (1 - m) * (1 + cos(pi * (s - W) / (S - W))) / 2    with m = `min_lr_ratio`
    step:          share = d^(number of milestones e with s >= e * E)             with d = `lr_decay`
    exponential:   share = d^floor(s / E)
    constant:      share = 1

Epochs count from the start of the run, warm-up included. Nothing is stored, so a resumed run needs only the step, and
no number of processes changes the curve.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True)
class Schedule:
    """All that updates depend on beside the task, its samples and the rules of its parameter groups.

    The names are those of the settings in `optim`; `seed` is the run's.
    """

    lr: float  # highest rate
    epochs: int
    method: str = "adamw"  # or "adam", "sgd"; see `optim.make_optimizer`
    warmup_epochs: float = 0.0  # may be a fraction
    schedule: str = "cosine"  # or "step", "exponential", "constant"
    min_lr_ratio: float = 0.0  # of cosine: final rate divided by lr, in [0, 1]
    lr_decay: float = 0.1  # of step and exponential, in (0, 1]
    milestones: tuple[float, ...] = ()  # of step: epochs
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    weight_decay: float = 0.2
    no_decay_norm_bias: bool = False  # see `optim.parameter_groups`
    accumulation: int = 1  # micro steps of one optimizer step
    clip_norm: float | None = None  # greatest L2 norm of the gradient; None measures it only
    sync_routing: bool = False  # equal routing draws in all processes, else each draws its own
    seed: int = 0  # of routing draws, mixing and dropout; samples are the sampler's business

    def rate(self, steps_per_epoch: int) -> Callable[[int], float]:
        """Updates made so far -> learning rate of the next one.

        Raises:
            ValueError: the warm-up does not fit into the epochs.
        """
        total, warmup = self.epochs * steps_per_epoch, round(self.warmup_epochs * steps_per_epoch)
        if self.warmup_epochs < self.epochs:
            warmup = min(warmup, total - 1)  # rounding leaves a step
        falls = [epoch * steps_per_epoch for epoch in self.milestones]
        share = {
            "cosine": partial(half_cosine, start=warmup, stop=total, least=self.min_lr_ratio),
            "step": lambda step: self.lr_decay ** sum(step >= fall for fall in falls),
            "exponential": lambda step: self.lr_decay ** (step // steps_per_epoch),
            "constant": lambda step: 1.0,
        }[self.schedule]
        rate = partial(learning_rate, total_steps=total, warmup_steps=warmup, base=self.lr, share=share)
        rate(0)  # a schedule that does not fit fails here
        return rate


def half_cosine(step: int, *, start: int, stop: int, least: float = 0.0) -> float:
    """Share of the highest rate: 1 at `start`, `least` at `stop`."""
    return least + (1 - least) * (1 + math.cos(math.pi * (step - start) / (stop - start))) / 2


def learning_rate(
    step: int, *, total_steps: int, warmup_steps: int, base: float, share: Callable[[int], float]
) -> float:
    """Learning rate of the update that follows `step` updates.

    Args:
        step: updates made so far, 0 <= step <= total_steps.
        total_steps: updates of the whole run, > 0.
        warmup_steps: updates of the linear warm-up, 0 <= warmup_steps < total_steps.
        base: highest rate, reached at the end of the warm-up.
        share: step -> share of `base` after the warm-up, in [0, 1].

    Raises:
        ValueError: when an argument is out of its range.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warm-up of {warmup_steps} steps does not fit into {total_steps} steps; lower optim.warmup_epochs"
        )
    if not 0 <= step <= total_steps:
        raise ValueError(f"step {step} is outside 0..{total_steps}")
    return base * ((step + 1) / warmup_steps if step < warmup_steps else share(step))

"""Learning rate as a pure function of the optimizer step: linear warm-up, then half a cosine.

With s = `step` (updates already made), W = `warmup_steps`, S = `total_steps`:
    s <  W:  base * (s + 1) / W                                           (the first update has a rate above zero)
    s >= W:  base * (m + (1 - m) * (1 + cos(pi * (s - W) / (S - W))) / 2)    with m = `min_ratio`
Nothing is stored, so a resumed run needs only the step, and no number of processes changes the curve.
"""

import math


def learning_rate(step: int, *, total_steps: int, warmup_steps: int, base: float, min_ratio: float = 0.0) -> float:
    """Learning rate of the update that follows `step` updates.

    Args:
        step: updates made so far, 0 <= step <= total_steps; at total_steps the value is base * min_ratio.
        total_steps: updates of the whole run, > 0.
        warmup_steps: updates of the linear warm-up, 0 <= warmup_steps < total_steps.
        base: highest rate, reached at the end of the warm-up.
        min_ratio: final rate divided by base, in [0, 1].

    Raises:
        ValueError: when an argument is out of its range.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"warm-up of {warmup_steps} steps does not fit into {total_steps} steps; shorten the warm-up")
    if not 0 <= step <= total_steps:
        raise ValueError(f"step {step} is outside 0..{total_steps}")
    if step < warmup_steps:
        return base * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return base * (min_ratio + (1 - min_ratio) * (1 + math.cos(math.pi * progress)) / 2)

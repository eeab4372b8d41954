"""The trade-off between specialisation and generalisation, as one row per method.

A model is specialised if it is right on the classes it was tuned on (closed-set top-1) and general if it is right on
classes it has never seen (zero-shot: harmonic mean over data sets of top-1). Their harmonic mean is the trade-off of
Zhu et al. 2024 (MoTE, Table 4).
"""

from collections.abc import Mapping

from mote.metrics.accuracy import harmonic_interval, harmonic_mean


def trade_off(method: str, closed_set: Mapping, zero_shot: Mapping[str, Mapping]) -> dict:
    """Row of a table for `method`, from its closed-set summary and its zero-shot summaries by data set name.

    Summaries are those of `scores.summarize`. All values are fractions; intervals are 95 %, (low, high).
    Raises ValueError when no zero-shot set is given.
    """
    if not zero_shot:
        raise ValueError(f"{method}: no zero-shot result given; the trade-off needs at least one")
    sets = list(zero_shot.values())
    top1 = [part["top1"] for part in sets]
    general = harmonic_mean(top1)
    general_interval = harmonic_interval(top1, [part["top1_interval"] for part in sets])
    special, special_interval = closed_set["top1"], tuple(closed_set["top1_interval"])
    return {
        "method": method,
        "closed_set": special,
        "closed_set_interval": special_interval,
        "zero_shot": general,
        "zero_shot_interval": general_interval,
        "zero_shot_sets": {name: part["top1"] for name, part in zero_shot.items()},
        "harmonic_mean": harmonic_mean([special, general]),
        "harmonic_mean_interval": harmonic_interval([special, general], [special_interval, general_interval]),
    }

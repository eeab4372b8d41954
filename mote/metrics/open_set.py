"""Open-set recognition: telling clips of the listed classes (known) from clips of no such class (unknown) by a score.

AUROC = P(known > unknown) + P(equal) / 2 (Mann & Whitney 1947); its interval is Newcombe's (2006, Statistics in
Medicine 25:559, method 5), which inverts the Hanley-McNeil variance as Wilson's inverts the binomial and so keeps its
width at 1. Scores: the highest probability (maximum softmax, Hendrycks & Gimpel, ICLR 2017; over the classes of a CLIP,
Ming et al., NeurIPS 2022), which also gets a threshold; the margin to the second; the negative entropy.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from mote.metrics.accuracy import NORMAL_QUANTILE_95
from mote.metrics.scores import Scores
from mote.metrics.statistics import finite, fraction


def auroc(positive: Float[np.ndarray, "P"], negative: Float[np.ndarray, "Q"]) -> float:
    """Probability in [0, 1] that a positive score is above a negative one; equal scores count half."""
    ordered = np.sort(finite("negative scores", negative))
    above = finite("positive scores", positive)
    twice = np.searchsorted(ordered, above, "left").sum() + np.searchsorted(ordered, above, "right").sum()
    return int(twice) / (2 * above.size * ordered.size)


def auroc_interval(
    value: float, num_positive: int, num_negative: int, z: float = NORMAL_QUANTILE_95
) -> tuple[float, float]:
    """Interval (low, high) of an AUROC measured on this many scores, 95 % by default.

    The limits are the areas q with |value - q| = z * sqrt(V(q)), V(q) the Hanley-McNeil variance; found by bisection.
    """
    if not 0 <= value <= 1 or min(num_positive, num_negative) < 1:
        raise ValueError(f"AUROC {value} of {num_positive} and {num_negative} scores; expected 0..1, at least one each")
    extra = (num_positive + num_negative) / 2 - 1

    def beyond(q: float) -> bool:
        spread = 1 + extra * ((1 - q) / (2 - q) + q / (1 + q))
        return abs(value - q) > z * math.sqrt(q * (1 - q) * spread / (num_positive * num_negative))

    limits = []
    for far in (0.0, 1.0):
        near = value
        for _ in range(60 if far != value else 0):
            middle = (near + far) / 2
            near, far = (near, middle) if beyond(middle) else (middle, far)
        limits.append(far)
    return limits[0], limits[1]


def open_set(
    known: Float[np.ndarray, "N"], unknown: Float[np.ndarray, "M"], rejected: float = 0.05
) -> dict[str, float | int | list[float]]:
    """Separation of clips of the vocabulary (known) from others (unknown) by the top probability.

    known, unknown: top probability of each *decoded* clip. A clip is accepted when it reaches `threshold`, the highest
    value that refuses at most the fraction `rejected` of the known clips; so known_accepted holds by construction and
    unknown_rejected is the measurement.
    Keys: auroc, auroc_interval, threshold, known, unknown (counts), and known_accepted and unknown_rejected, each with
    `_count` and `_interval` (Wilson; the threshold taken as given).
    """
    if not 0 <= rejected < 1:
        raise ValueError(f"rejected is {rejected}; expected a fraction of the known clips in [0, 1)")
    area = auroc(known, unknown)
    threshold = np.sort(known)[math.floor(rejected * known.size + 1e-9)]  # 0.29 * 100 is 28.999999999999996
    return {
        "auroc": area,
        "auroc_interval": list(auroc_interval(area, known.size, unknown.size)),
        "threshold": float(threshold),
        "known": known.size,
        "unknown": unknown.size,
        **fraction("known_accepted", int((known >= threshold).sum()), known.size, "count"),
        **fraction("unknown_rejected", int((unknown < threshold).sum()), unknown.size, "count"),
    }


def open_set_report(known: Scores, unknown: Scores, paths: Sequence[str], accept: float) -> dict[str, object]:
    """The "open_set" part of a result: the keys of `open_set` and those named here.

    accept: share in (0, 1] of the known clips that the threshold keeps. listed, undecodable: of the unknown clips,
    whose files are `paths`; those not decoded have no score. other_scores: AUROC and interval of two more scores, the
    margin between the two highest probabilities and the negative entropy. Where nothing could be decoded there are only
    accept, listed and undecodable.
    """
    lost = [path for path, valid in zip(paths, unknown.valid, strict=True) if not valid]
    report: dict[str, object] = {"accept": accept, "listed": len(paths), "undecodable": lost}
    inside, outside = known.probabilities[known.valid], unknown.probabilities[unknown.valid]
    if not len(inside) or not len(outside):
        return report
    report |= open_set(inside.max(axis=1), outside.max(axis=1), rejected=1 - accept)
    others = {}
    for name, score in (("margin", margin), ("negative_entropy", negative_entropy)):
        area = auroc(score(inside), score(outside))
        interval = list(auroc_interval(area, len(inside), len(outside)))
        others[name] = {"auroc": area, "auroc_interval": interval}
    return report | {"other_scores": others}


def margin(probabilities: Float64[np.ndarray, "N K"]) -> Float64[np.ndarray, "N"]:
    """Highest probability minus the second highest; of a single class, its probability."""
    best = np.sort(probabilities, axis=1)[:, ::-1]
    return best[:, 0] - best[:, 1] if best.shape[1] > 1 else best[:, 0]


def negative_entropy(probabilities: Float64[np.ndarray, "N K"]) -> Float64[np.ndarray, "N"]:
    """sum p log p in nats: 0 for a sure prediction, -log K for an even one."""
    return (probabilities * np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))).sum(axis=1)

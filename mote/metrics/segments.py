"""Segments found in videos against those listed: average precision and F1 at thresholds of temporal overlap.

Temporal overlap (tIoU): seconds in both segments over seconds in either. A detection is right at a threshold when its
tIoU with a listed segment of the same class and video reaches it and no detection with a higher score has taken that
segment: detections of a class are taken by falling score, each tries the listed segments of its video by falling tIoU.
This is the matching of ActivityNet (Caba Heilbron et al., CVPR 2015; its evaluation code) and THUMOS (Idrees et al.,
CVIU 2017). AP is the area under precision over recall, precision being the highest at that or a greater recall; mAP is
its mean over the classes that are listed. F1 is 2 TP / (detections + listed), over all classes, all detections taken.

Intervals: 1.96 standard deviations to either side, cut off at 0 and 1, by the bootstrap over videos, drawn with
replacement, all their segments with them. Not its quantiles: a class without a segment in a draw has no AP there, which
moves the mean over classes (by several points with four segments a class), and they can lie beside the value itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
EXACT = 1e-9  # what rounding takes from a tIoU may decide nothing
RESAMPLES = 1000
CHUNK = 2**20  # values drawn and summed at once by the bootstrap


class Listed(NamedTuple):
    """A segment that is there: number of its video, seconds, class."""

    video: int
    start: float
    end: float
    label: str


class Detection(NamedTuple):
    """A segment that was found, with a score that says how sure that is."""

    video: int
    start: float
    end: float
    label: str
    score: float


class _Class(NamedTuple):
    """The detections of one class by falling score: their videos, whether they are right; and the listed ones."""

    detected: Int64[np.ndarray, "N"]
    right: Bool[np.ndarray, "N H"]
    listed: Int64[np.ndarray, "M"]


def segment_report(
    listed: Sequence[Listed],
    detections: Sequence[Detection],
    videos: int,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict:
    """mAP and segment F1 of `videos` videos, numbered from 0, with intervals.

    Returns:
        tiou (the H thresholds), map and f1 (lists of H), map_mean and f1_mean (over thresholds); each again with
        `_interval`, (low, high) at 95 %, None for one video; videos, listed, detections; classes: for each listed class
        its label, listed, detections and ap (list of H), by label. Listed classes only count in mAP, all in F1.

    Raises:
        ValueError: nothing is listed, a segment without length, or a video outside 0..videos-1.
    """
    _check(listed, detections, videos)
    names = sorted({segment.label for segment in [*listed, *detections]})
    parts = [_match(listed, detections, name, thresholds) for name in names]
    one = np.ones((1, videos))
    ap, f1 = _scores(parts, one)
    means = {"map": np.nanmean(ap[:, 0], axis=0), "f1": f1[0]}
    report: dict = {"tiou": list(thresholds), "videos": videos, "listed": len(listed), "detections": len(detections)}
    drawn = _draws(parts, videos, seed, resamples) if videos > 1 else None
    for key, values in means.items():
        report |= {key: values.tolist(), f"{key}_mean": float(values.mean())}
        again = None if drawn is None else drawn[key]
        report[f"{key}_interval"] = None if again is None else _around(values, again.std(axis=0))
        report[f"{key}_mean_interval"] = None if again is None else _around(values.mean(), again.mean(axis=1).std())
    report["classes"] = [
        {"class": name, "listed": len(part.listed), "detections": len(part.detected), "ap": ap[i, 0].tolist()}
        for i, (name, part) in enumerate(zip(names, parts, strict=True))
        if len(part.listed)
    ]
    return report


def overlap(one: Float64[np.ndarray, "2"], others: Float64[np.ndarray, "N 2"]) -> Float64[np.ndarray, "N"]:
    """tIoU of a segment (start, end) with others, 0..1."""
    both = np.minimum(one[1], others[:, 1]) - np.maximum(one[0], others[:, 0])
    both = both.clip(min=0)
    either = (one[1] - one[0]) + (others[:, 1] - others[:, 0]) - both
    return both / either


def _check(listed: Sequence[Listed], detections: Sequence[Detection], videos: int) -> None:
    if not listed:
        raise ValueError("no segment is listed; mAP and F1 need at least one")
    for segment in [*listed, *detections]:
        if not segment.start < segment.end or not 0 <= segment.video < videos:
            raise ValueError(f"{segment}: expected a start before its end, and a video in 0..{videos - 1}")


def _match(listed: Sequence[Listed], detections: Sequence[Detection], name: str, thresholds: Sequence[float]) -> _Class:
    """The detections of one class by falling score (of equal ones the first given first), and which are right."""
    found = sorted((d for d in detections if d.label == name), key=lambda d: -d.score)
    there = [segment for segment in listed if segment.label == name]
    places = np.array([(segment.start, segment.end) for segment in there], dtype=float).reshape(-1, 2)
    of_video: dict[int, list[int]] = {}
    for number, segment in enumerate(there):
        of_video.setdefault(segment.video, []).append(number)
    taken = np.zeros((len(there), len(thresholds)), dtype=bool)
    right = np.zeros((len(found), len(thresholds)), dtype=bool)
    for row, detection in enumerate(found):
        candidates = np.array(of_video.get(detection.video, []), dtype=np.int64)
        tiou = overlap(np.array([detection.start, detection.end], dtype=float), places[candidates])
        order = np.argsort(-tiou, kind="stable")
        for column, threshold in enumerate(thresholds):
            for place in candidates[order][tiou[order] >= threshold - EXACT]:
                if not taken[place, column]:
                    taken[place, column] = right[row, column] = True
                    break
    return _Class(np.array([d.video for d in found], np.int64), right, np.array([s.video for s in there], np.int64))


def _scores(
    parts: Sequence[_Class], times: Float64[np.ndarray, "R V"]
) -> tuple[Float64[np.ndarray, "C R H"], Float64[np.ndarray, "R H"]]:
    """AP of each class (NaN where it is not listed) and F1, for R draws in which video v counts `times[:, v]` times."""
    width = parts[0].right.shape[1]
    ap = np.full((len(parts), len(times), width), np.nan)
    true = np.zeros((len(times), width))
    both = np.zeros((len(times), 1))
    for number, part in enumerate(parts):
        weight = times[:, part.detected]  # (R, N)
        total = times[:, part.listed].sum(axis=1)  # (R,)
        hits = (weight[..., None] * part.right).cumsum(axis=1)  # (R, N, H)
        if len(part.detected):
            true += hits[:, -1]
        both[:, 0] += weight.sum(axis=1) + total
        present = total > 0
        ap[number, present] = _average_precision(hits[present], weight[present], total[present])
    return ap, 2 * true / np.where(both, both, 1)


def _average_precision(
    hits: Float64[np.ndarray, "R N H"], weight: Float64[np.ndarray, "R N"], total: Float64[np.ndarray, "R"]
) -> Float64[np.ndarray, "R H"]:
    taken = weight.cumsum(axis=1)[..., None]
    precision = hits / np.where(taken, taken, 1)
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # at this or a greater recall
    gained = np.diff(hits, axis=1, prepend=0) / total[:, None, None]
    return (highest * gained).sum(axis=1)


def _around(value: Float64[np.ndarray, "*H"], deviation: Float64[np.ndarray, "*H"]) -> list:
    """(low, high) of each value."""
    return np.clip(np.stack([value - 1.96 * deviation, value + 1.96 * deviation], axis=-1), 0, 1).tolist()


def _draws(parts: Sequence[_Class], videos: int, seed: int, resamples: int) -> dict[str, Float64[np.ndarray, "R H"]]:
    """mAP and F1 of videos drawn again; draws without a listed segment have neither and are left out."""
    rng = np.random.default_rng(seed)
    largest = max(videos, *(part.right.size for part in parts))
    rows = max(1, CHUNK // largest)
    drawn: dict[str, list[np.ndarray]] = {"map": [], "f1": []}
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        draws = rng.multinomial(videos, np.full(videos, 1 / videos), size).astype(float)
        some = sum(draws[:, part.listed].sum(axis=1) for part in parts) > 0
        ap, f1 = _scores(parts, draws[some])
        drawn["map"].append(np.nanmean(ap, axis=0))
        drawn["f1"].append(f1)
    return {key: np.concatenate(values) for key, values in drawn.items()}

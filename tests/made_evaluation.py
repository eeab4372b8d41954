"""An evaluation made of random scores, written and read back as `mote eval` does, and clips made of moving dots."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mote.evaluation.results import write_results
from mote.files.provenance import provenance
from mote.metrics.scores import Scores, summarize
from mote.metrics.statistics import expected_calibration_error
from mote.reporting.contact_sheet import ShownClip, pick_clips, shown_clip
from mote.reporting.evaluation_page import read_predictions


class Made(NamedTuple):
    classes: list[str]
    scores: Scores
    result: dict
    predictions: list[dict[str, str]]


def make_evaluation(folder: Path, classes: list[str], clips_each: int = 6, seed: int = 0, lost: int = 2) -> Made:
    """Random logits with the true class raised, more for some classes than for others; the last `lost` undecodable."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(classes)), clips_each)
    logits = rng.normal(size=(len(label), len(classes)))
    logits[np.arange(len(label)), label] += rng.uniform(0.5, 6, len(classes))[label]
    probabilities = np.exp(2 * logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    valid = np.arange(len(label)) < len(label) - lost
    scores = Scores(np.arange(len(label)), label, probabilities * valid[:, None], valid)
    summary = summarize(scores, classes)
    summary["calibration"] = expected_calibration_error(scores.probabilities, label, valid)
    origin = provenance(config={"frames": 8}, hashes={"weights": "0" * 64, "classes": "a" * 64}, seed=seed)
    records = [(Path("videos") / classes[k].replace(" ", "_") / f"{i:05d}.mp4", int(k)) for i, k in enumerate(label)]
    json_path, csv_path = write_results(
        folder, "made", summary, records=records, classes=classes, scores=scores, provenance=origin
    )
    return Made(classes, scores, json.loads(json_path.read_text()), read_predictions(csv_path))


def dots(num_frames: int = 8, height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    """A bright dot that crosses a coloured background: uint8 (T,H,W,3)."""
    rng = np.random.default_rng(seed)
    frames = np.empty((num_frames, height, width, 3), dtype=np.uint8)
    frames[:] = rng.integers(30, 140, 3)
    for t in range(num_frames):
        left = (width - 30) * t // max(num_frames - 1, 1)
        frames[t, height // 3 : height // 3 + 30, left : left + 30] = 250
    return frames


def make_clips(made: Made, count: int = 6) -> list[ShownClip]:
    rng = np.random.default_rng(1)
    best, worst = pick_clips(made.predictions, count)
    return [shown_clip(made.predictions[i], dots(seed=i), rng.normal(-0.5, 1.5, 8)) for i in best + worst]

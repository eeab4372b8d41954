"""The page of a result: a few of its clips are decoded again, asked which frames mattered, and everything is drawn.

Importance of frame t: the logit of the predicted class over all T frames minus that over the T - 1 others, one pass of
the temporal head each (occlusion, Zeiler & Fergus, ECCV 2014, along time). The other frames move up: the model is
asked what it would say of a clip of T - 1 frames.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mote.config.sections import DataConfig, EvaluationConfig
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.lists.manifest import Record
from mote.datasets.video import VideoDataset
from mote.evaluation.views import views_of
from mote.files.writing import replacing_together
from mote.inference.classifier import VideoClassifier
from mote.metrics.result_files import Summary
from mote.reporting.contact_sheet import ShownClip, pick_clips, shown_clip
from mote.reporting.evaluation_page import read_predictions, write_evaluation_page
from mote.reporting.imbalance_sections import imbalance_sections
from mote.reporting.page import Section

CLIPS = 6  # right ones and wrong ones, at most so many of each are decoded


def page_path(out: Path, name: str) -> Path:
    """Where the page of the result `out/name.json` is."""
    return out / name / "index.html"


class Contents(TypedDict, total=False):
    """What a page shows beside the numbers, see `write_evaluation_page`."""

    clips: Sequence[ShownClip]
    note: str
    extra: Sequence[Section]


def draw(out: Path, name: str, contents: Callable[[Summary, list[dict[str, str]], Path], Contents]) -> None:
    """Write the page of the result files `out/name.json` and `.csv`, see `drawn`.

    contents: takes the result, its predictions, and the folder where figures of the page are to lie.
    """

    def write(page: Path) -> None:
        result = json.loads((out / f"{name}.json").read_text("utf-8", "surrogateescape"))
        predictions = read_predictions(out / f"{name}.csv")
        write_evaluation_page(page, result, predictions, **contents(result, predictions, page.parent))

    drawn(page_path(out, name), write)


def drawn(page: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a page at the path that it gets; the page and the files beside it appear together.

    Whatever goes wrong is a line on stderr, for the numbers are there already, and no figure is worth losing them. An
    older page went when they were written.
    """
    try:
        with replacing_together(page.parent) as stage:
            write(stage / page.name)
    except Exception as error:
        why = " ".join(str(error).split()).partition("; what was there before is intact")[0]
        print(f"mote: warning: {page} could not be drawn: {why}", file=sys.stderr)


def draw_page(
    out: Path,
    classifier: VideoClassifier,
    labels: Sequence[str],
    settings: EvaluationConfig,
    data: DataConfig,
    records: Sequence[Record],
) -> None:
    """Write the page of the result files in `out`, see `draw`.

    records: what was scored, in the order of the result.
    """

    def contents(result: Summary, predictions: list[dict[str, str]], folder: Path) -> Contents:
        used = classifier.in_precision(settings.precision)
        clips = shown_clips(used, predictions, labels, settings, views_of(used, records, settings, data))
        count, note = settings.clips * settings.crops, ""
        if count > 1:
            note = f"Frames and their importance are those of the middle one of {count} views, the rest is of all."
        extra = imbalance_sections(result, folder) if "training_counts" in result else []
        return {"clips": clips, "note": note, "extra": extra}

    draw(out, settings.name, contents)


def shown_clips(
    classifier: VideoClassifier,
    predictions: Sequence[Mapping[str, str]],
    labels: Sequence[str],
    settings: EvaluationConfig,
    views: VideoDataset,
) -> list[ShownClip]:
    """The best and the worst clips, see `pick_clips`, with what the model saw in their middle view; lost ones left out.

    predictions: rows of the result's CSV file, in the order of `views`.
    """
    gate = classifier.modulation_gate.changed(settings.modulation_k, settings.modulation_gamma)
    view_logits = classifier.scorer(labels, settings.modulation, gate=gate)
    middle = settings.clips // 2 * settings.crops + settings.crops // 2
    images = []
    best, worst = pick_clips(predictions, CLIPS)
    for place in best + worst:
        row = predictions[place]
        try:
            frames = views.frames(0, place)[middle]  # (T, 3, S, S)
        except DecodeError:
            continue  # it could be decoded when it was scored, but the page is no place to fail
        features = classifier.encode(frames[None, None])[0, 0]
        importance = frame_importance(view_logits, features, labels.index(row["predicted"]))
        images.append(shown_clip(row, frames.permute(0, 2, 3, 1).numpy(), importance))
    return images


def frame_importance(
    view_logits: Callable[[Mapping[str, Tensor]], Tensor], features: Float[Tensor, "T D"], predicted: int
) -> Float[np.ndarray, "T"] | None:
    """Fall of the logit of class `predicted` when each frame is left out, above 0 where it helps; None for one frame.

    view_logits: batch with `features` (B, V, T, D) -> logits (B, V, K).
    """
    frames = len(features)
    if frames == 1:
        return None
    others = ~torch.eye(frames, dtype=torch.bool, device=features.device)
    left_out = features.expand(frames, -1, -1)[others].unflatten(0, (frames, frames - 1))  # (T, T - 1, D)
    whole, parts = (view_logits({"features": f[:, None]})[:, 0, predicted] for f in (features[None], left_out))
    return (whole - parts).double().cpu().numpy()

"""The page of a result: a few of its clips are decoded again, asked which frames mattered, and everything is drawn.

Importance of frame t: the logit of the predicted class over the T - 1 other frames minus that over all T, one pass of
the temporal head each (occlusion, Zeiler & Fergus, ECCV 2014, along time). The other frames move up: the model is
asked what it would say of a clip of T - 1 frames.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

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
from mote.reporting.contact_sheet import ShownClip, pick_clips, shown_clip
from mote.reporting.evaluation_page import read_predictions, remove_page, write_evaluation_page
from mote.reporting.imbalance_sections import imbalance_sections

CLIPS = 6  # right ones and wrong ones, at most so many of each are decoded


def page_path(out: Path, name: str) -> Path:
    """Where the page of the result `out/name.json` is."""
    return out / name / "index.html"


@contextmanager
def replacing_page(page: Path) -> Iterator[Path]:
    """Context that gives a temporary place for a page; it and the files beside it appear together at the end.

    Whatever goes wrong is a line on stderr, for the numbers are there already, and no figure is worth losing them. The
    older page is removed then: its numbers are gone.
    """
    try:
        with replacing_together(page.parent) as stage:
            yield stage / page.name
    except Exception as error:
        why = " ".join(str(error).split()).partition("; what was there before is intact")[0]
        print(f"mote: warning: {page} could not be drawn: {why}", file=sys.stderr)
        remove_page(page)


def draw_page(
    out: Path,
    classifier: VideoClassifier,
    labels: Sequence[str],
    settings: EvaluationConfig,
    data: DataConfig,
    records: Sequence[Record],
    *,
    wanted: bool = True,
) -> None:
    """Write the page of the result files in `out`, see `replacing_page`; not `wanted`: remove the older one.

    records: what was scored, in the order of the result.
    """
    page = page_path(out, settings.name)
    if not wanted:
        remove_page(page)
        return
    with replacing_page(page) as staged:
        result = json.loads((out / f"{settings.name}.json").read_text("utf-8", "surrogateescape"))
        predictions = read_predictions(out / f"{settings.name}.csv")
        classifier = classifier.in_precision(settings.precision)
        views = views_of(classifier, records, settings, data)
        clips = shown_clips(classifier, predictions, labels, settings, views)
        count, note = settings.clips * settings.crops, ""
        if count > 1:
            note = f"Frames and their importance are those of the middle one of {count} views, the rest is of all."
        extra = imbalance_sections(result, staged.parent) if "training_counts" in result else []
        write_evaluation_page(staged, result, predictions, clips, note=note, extra=extra)


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
    """Change of the logit of class `predicted` when each frame is left out; None for a single frame.

    view_logits: batch with `features` (B, V, T, D) -> logits (B, V, K).
    """
    frames = len(features)
    if frames == 1:
        return None
    others = ~torch.eye(frames, dtype=torch.bool, device=features.device)
    left_out = features.expand(frames, -1, -1)[others].unflatten(0, (frames, frames - 1))  # (T, T - 1, D)
    whole, parts = (view_logits({"features": f[:, None]})[:, 0, predicted] for f in (features[None], left_out))
    return (parts - whole).double().cpu().numpy()

"""The verb `mote encode`: features of videos, or of their frames or windows, in a folder that other programs read.

Features of a video, or of a window: what the model compares with class features, see `VideoClassifier.embed`. Those of
a frame: what the visual tower gives for it, scaled to length 1; which frames: those that the model samples of a video.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from mote.datasets.decoding.decode import open_video
from mote.datasets.decoding.errors import DecodeError, FrameOrderError
from mote.datasets.lists.manifest import Record
from mote.datasets.sources import find_sources
from mote.datasets.video import VideoDataset
from mote.files.hashes import sha256_lines, sha256_tensors
from mote.files.provenance import versions, without_places
from mote.inference.classifier import VideoClassifier
from mote.inference.features import Load
from mote.inference.loading import load_video
from mote.inference.model import ONE_VIEW, Views
from mote.inference.pipeline import File, for_each_video
from mote.parallel.accelerator import make_accelerator
from mote.parallel.launch import has_company
from mote.prediction.encodings import Encoded, FeaturePlan, Level, has_text, write_text
from mote.prediction.folder import open_folder
from mote.prediction.predict import TIMEOUT, WORKERS
from mote.prediction.write import ALL, Outcome, Share, write_parts

SOFTWARE = ("mote", "torch", "open_clip", "av")  # whose versions may change features


@dataclass(frozen=True)
class Request:
    """What `mote encode` is asked for.

    Args:
        model: a video model, see `mote.load`.
        places: see `find_sources`.
        out: folder of features, new, or of an earlier run of the same command, which goes on.
        level: what a row is about.
        views: of a video; frames and windows have one crop.
        class_names: names whose text features are written too; None = none.
        templates, backbone: see `mote.load`.
        share: which of the videos are encoded here.
        retry_failed: encode those again that failed.
        workers: processes that decode; None = `WORKERS`.
        cache: folder of frame features that are kept; None = as `evaluation.cache=auto`.
    """

    model: str
    places: Sequence[str]
    out: str
    level: Level = "video"
    window: str | None = None
    every: str | None = None
    views: Views = ONE_VIEW
    class_names: list[str] | None = None
    templates: str | None = None
    backbone: str | None = None
    share: Share = ALL
    retry_failed: bool = False
    workers: int | None = None
    cache: str | None = None


def encode(request: Request) -> int:
    """Write features that are not there yet; the exit code: 0, or 1 when a video has none.

    Raises:
        ValueError, OSError: unknown model, no such file, a folder of something else; before anything slow.
    """
    _check(request)
    out = Path(request.out)
    together = make_accelerator(cpu=not torch.cuda.is_available()) if has_company() else None
    device, share = None, request.share
    if together is not None:
        device = together.device
        share = share._replace(process=together.process_index, processes=together.num_processes)
    model = load_video(request.model, backbone=request.backbone, templates=request.templates, device=device)
    inputs = find_sources(request.places)
    plan = feature_plan(model, request)
    open_folder(out, plan)
    names = request.class_names and model.chosen(request.class_names)
    if names and share.process == 0 and not has_text(out, names):
        facts = {"templates": model.templates, "text_tower": text_hash(model)}
        write_text(out, names, model.text_features(names).cpu().numpy(), facts)
    found = write_parts(
        lambda missing: _with_words(encoded(model, missing, request), len(missing), share.process == 0),
        inputs,
        out,
        plan,
        share=share,
        retry_failed=request.retry_failed,
    )
    _say(out, found)
    return int(found.failed > 0)


def _check(request: Request) -> None:
    if request.level != "video" and request.views.crops != 1:
        raise ValueError(f"--crops is for --level video; features of a {request.level} are of its middle crop")


def _say(out: Path, found: Outcome) -> None:
    mine = "" if found.own == found.listed else f", {found.own} of them here"
    print(f"{out}: {found.listed} videos{mine}: {found.now} encoded now, {found.own - found.now} were there before")
    if found.failed:
        print(f"mote: {found.failed} videos have no features; --retry-failed tries them again", file=sys.stderr)


def _with_words(rows: Iterator[Encoded], count: int, shown: bool) -> Iterator[Encoded]:
    """The rows; each video moves a bar on, and each failure is said."""
    with tqdm(total=count, unit="video", disable=None if shown and count > 1 else True) as bar:
        before: File | None = None
        for row in rows:
            bar.update(row.path != before)
            before = row.path
            if row.error is not None:
                bar.write(f"mote: skipped: {row.error}", file=sys.stderr)
            yield row


def feature_plan(model: VideoClassifier, request: Request) -> FeaturePlan:
    """What decides the features that `request` asks for."""
    found = versions()
    views = request.views
    settings: dict[str, Any] = {
        "hashes": feature_hashes(model),
        "text_tower": _text_tower(model),
        "recipe": model.recipe,
        "clips": views.clips,
        "crops": views.crops,
        "faces": views.faces,
        "precision": model.precision,
        "versions": {name: found[name] for name in SOFTWARE},
    }
    return FeaturePlan(settings, level=request.level, dim=model.model.embed_dim, source=source_of(model))


def feature_hashes(model: VideoClassifier) -> dict[str, str]:
    """SHA-256 of the weights, and of the prompt templates that text features are made with."""
    return {"weights": sha256_tensors(model.model.state_dict()), "templates": sha256_lines(model.templates)}


def source_of(model: VideoClassifier) -> dict[str, str | None]:
    """Where a model lies, also from elsewhere."""
    assert model.source is not None
    name, backbone = model.source
    return {"model": str(Path(name).absolute()) if Path(name).exists() else name, "backbone": backbone}


def _text_tower(model: VideoClassifier) -> dict[str, str | None]:
    """Whose text tower belongs to the model; where it was tuned, the hash of its weights."""
    known: dict[str, Any] = {name: model.meta.get(name) for name in ("backbone", "pretrained")}
    tuned = text_hash(model) if model.meta.get("text_tuned") else None
    return {**without_places(known), "tuned": tuned}


def text_hash(model: VideoClassifier) -> str | None:
    """SHA-256 of the weights of the text tower; None where it has none."""
    tower = model.towers().encode_text
    return sha256_tensors(tower.state_dict()) if isinstance(tower, nn.Module) else None


def encoded(model: VideoClassifier, files: Sequence[File], request: Request) -> Iterator[Encoded]:
    """Features of the files, or of what `request.level` says of them, lazily and in order."""
    asked = WORKERS if request.workers is None else request.workers
    workers = min(asked, len(files)) if len(files) > 1 else 0
    load = Load(max(1, min(8, len(files) // (2 * max(workers, 1)))), workers)
    work = _frame_rows(model, request.views) if request.level == "frame" else _video_row(model)
    options: dict[str, Any] = {"load": load, "cache": request.cache or "auto", "timeout": TIMEOUT}
    for file, found in for_each_video(model, files, work, request.views, **options):
        if isinstance(found, Exception):
            yield Encoded(file, None, str(found))
        else:
            yield from found


Work = Callable[[File, Float[Tensor, "V T D"]], list[Encoded]]


def _video_row(model: VideoClassifier) -> Work:
    return lambda file, features: [Encoded(file, model.embed(features[None])[0].cpu().numpy())]


def _frame_rows(model: VideoClassifier, views: Views) -> Work:
    """Rows of the frames that the model samples, each frame once, in the order in which they are shown."""

    def rows(file: File, features: Float[Tensor, "V T D"]) -> list[Encoded]:
        try:
            numbers, spans = sampled_frames(model.clips_of([Record(file, 0)], views), file)  # pyright: ignore
        except DecodeError as error:
            return [Encoded(file, None, str(error))]
        unit = F.normalize(features.flatten(0, 1), dim=-1).numpy()
        distinct, first = np.unique(numbers, return_index=True)
        return [
            Encoded(file, unit[place], None, *(span.tolist() if span is not None else (None, None)), number)
            for number, place, span in zip(distinct.tolist(), first.tolist(), spans(distinct), strict=True)
        ]

    return rows


Spans = Callable[[Int64[np.ndarray, "N"]], Sequence[Float64[np.ndarray, "2"] | None]]


def sampled_frames(dataset: VideoDataset, file: File) -> tuple[Int64[np.ndarray, "M"], Spans]:
    """Numbers of the frames in the views of the only record, in their order, and when frames are shown, where known.

    Raises:
        DecodeError: the file cannot be opened.
    """
    with open_video(file, dataset.decoder) as video:
        while True:
            last = max(video.num_frames - 1 - dataset.difference, 0)  # has a frame so many later
            numbers = np.minimum(dataset.sampled(video.num_frames).ravel(), last)
            try:
                if not video.keyframes:  # their number is certain once they were counted
                    video.read(numbers, lambda frame: np.empty(0))
                break
            except FrameOrderError:  # at most once, see `read_frames`
                continue
        try:
            times = np.append(video.times, video.end)
        except DecodeError:  # nothing in it says
            return numbers, lambda chosen: [None] * len(chosen)
    return numbers, lambda chosen: list(np.stack([times[chosen], times[chosen + 1]], axis=1))

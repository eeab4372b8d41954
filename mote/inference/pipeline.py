"""Files named one after another: decoded by workers, each distinct frame encoded once, scored, in the order given.

The features are those of `mote eval`, from the same code and the same cache. Every file is scored on its own, so its
probabilities depend, bit for bit on the CPU, on the file, the model and the class names alone: not on what else is
named, nor on workers, threads and processes.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mote.datasets.decoding.errors import DecodeError
from mote.datasets.images import BadImageError
from mote.datasets.lists.manifest import Record, unlabelled
from mote.datasets.video import VideoDataset
from mote.files.absent import absent
from mote.files.addresses import scheme, without_secrets
from mote.inference.asked import ONE_VIEW, Prediction, Views
from mote.inference.describe import described
from mote.inference.features import (
    ALONE,
    Encoder,
    Load,
    Unusable,
    cache_folder,
    frame_features,
    keep_class_features,
    open_cache,
)
from mote.metrics.scoring import fuse_views
from mote.models.view_scorer import Batch
from mote.parallel.cores import all_cores

File = str | Path
Outcome = dict[str, float] | Unusable | BadImageError  # probabilities, most probable first, or what is wrong
TIMEOUT = 60.0  # seconds for a video, as `data.decode_timeout`
CHUNK = 2048  # files that are looked up in the cache, and handed to the workers, at once
T = TypeVar("T")


@runtime_checkable
class VideoNamer(Encoder, Protocol):
    """What names videos: `VideoClassifier`."""

    def clips_of(self, records: Sequence[Record], views: Views = ONE_VIEW, **options: object) -> VideoDataset:
        """Views of videos."""
        ...

    def scorer(
        self, class_names: Sequence[str], modulation: bool | None = None
    ) -> Callable[[Batch], Float[Tensor, "B V K"]]:
        """From features to logits."""
        ...


def name_videos(
    model: VideoNamer,
    files: Iterable[File],
    class_names: Sequence[str],
    views: Views = ONE_VIEW,
    *,
    modulation: bool | None = None,
    load: Load = ALONE,
    cache: str | None = None,
    timeout: float | None = None,
) -> Iterator[tuple[File, Outcome]]:
    """Scores of every file, lazily, in the order of `files`, or what is wrong with it.

    Args:
        model: on its device.
        files: see `open_video`; taken `CHUNK` at a time.
        class_names: names to choose among, checked.
        views: how often each file is looked at; the scores are the mean over views of softmax(logits).
        modulation: see `VideoClassifier.scorer`.
        load: of the loader that decodes.
        cache: see `cache_folder`.
        timeout: seconds after which a file counts as undecodable, see `VideoDataset`.

    Raises:
        ValueError: scores that are no numbers, naming the file.
    """
    place = cache_folder(cache, model)
    if place is not None:
        keep_class_features(place, model, class_names)
    score = model.scorer(class_names, modulation)

    def named(file: File, features: Float[Tensor, "V T D"]) -> dict[str, float]:
        logits = score({"features": features[None].to(model.device)})
        return ranked(fuse_views(logits)[0].cpu(), class_names, file)

    yield from for_each_video(model, files, named, views, load=load, cache=cache, timeout=timeout)


def for_each_video(
    model: VideoNamer,
    files: Iterable[File],
    work: Callable[[File, Float[Tensor, "V T D"]], T],
    views: Views = ONE_VIEW,
    *,
    load: Load = ALONE,
    cache: str | None = None,
    timeout: float | None = None,
) -> Iterator[tuple[File, T | Unusable]]:
    """What `work` makes of every file and its features, by all cores; see `name_videos` for the rest."""
    place = cache_folder(cache, model)
    with all_cores(model.device) as ordered_map:

        def done(file: File, features: Float[Tensor, "V T D"] | Unusable) -> tuple[File, T | Unusable]:
            return file, features if isinstance(features, Unusable) else work(file, features)

        for chunk in _chunks(files):
            records = [unlabelled(file) for file in chunk]
            dataset = model.clips_of(records, views, on_error="mark", timeout=timeout)
            with nullcontext() if place is None else open_cache(place, model, dataset) as held:
                features = frame_features(
                    model, dataset, range(len(chunk)), ordered_map, load=load, strict=False, cache=held
                )
                yield from ordered_map(lambda pair: done(*pair), zip(chunk, features, strict=True))
            dataset.close()


def ranked(probabilities: Float64[Tensor, "K"], class_names: Sequence[str], file: File) -> dict[str, float]:
    """{class name: probability}, most probable first. Raises ValueError, naming the file, for what is no number."""
    if not probabilities.isfinite().all():
        raise ValueError(
            f"{without_secrets(file)}: the model gives scores that are no numbers (nan); its weights are not usable"
        )
    order: list[int] = torch.argsort(probabilities, descending=True, stable=True).tolist()
    return {str(class_names[c]): float(probabilities[c]) for c in order}


class NamesFiles:
    """What models for videos and for images do with files, from their `outcomes`."""

    def __repr__(self) -> str:
        """A few lines: backbone, frames, classes, where it comes from."""
        return described(self)

    def chosen(self, class_names: Sequence[str] | None) -> list[str]:
        """The class names to choose among, checked."""
        raise NotImplementedError

    def outcomes(
        self, files: Iterable[File], class_names: Sequence[str], views: Views = ONE_VIEW, **options: Any
    ) -> Iterator[tuple[File, Outcome]]:
        """Scores of each file, lazily and in order, or why there are none; `options`: see `name_videos`."""
        raise NotImplementedError

    def predict(
        self,
        files: File | Iterable[File],
        class_names: Sequence[str] | None = None,
        *,
        clips: int = 1,
        crops: int = 1,
        faces: bool = False,
        workers: int = 0,
        cache: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Prediction]:
        """What each file shows, lazily and in order; a file that cannot be used has an error and stops nothing.

        Args:
            files: one, or any number of them, see `mote.datasets.decoding.decode.open_video`.
            class_names: names to choose among, at least one; None = the model's own.
            clips, crops: temporal clips and spatial crops (1 or 3) of each video, whose probabilities are averaged.
            faces: look at the largest face only, see `mote.datasets.face_crop`.
            workers: processes that decode, in which a file counts as undecodable after 60 s; 0 = this one, which waits.
            cache: folder of frame features that are kept, "auto" for the user's; None = none.
            progress: called with the number of files that are done.

        Raises:
            ValueError: no class names, or duplicates among them; a model that cannot take what is asked for; scores
                that are no numbers.
        """
        given = [files] if isinstance(files, str | Path) else files
        views, options = Views(clips, crops, faces), dict[str, Any](load=Load(workers=workers), cache=cache)
        options["timeout"] = TIMEOUT if workers else None
        found = self.outcomes(given, self.chosen(class_names), views, **options)
        return _reported(found, progress or (lambda done: None))

    def scores(
        self, file: File, class_names: Sequence[str], views: Views = ONE_VIEW, **options: Any
    ) -> dict[str, float]:
        """{class name: probability} of one file, most probable first.

        Raises:
            FileNotFoundError: there is no such file.
            DecodeError: the video cannot be decoded.
            ValueError: the image cannot be, or no face where faces are wanted.
        """
        [(_, outcome)] = self.outcomes([file], class_names, views, **options)
        if isinstance(outcome, dict):
            return outcome
        here = scheme(file) is None
        gone = here and not os.path.exists(file) if isinstance(outcome, BadImageError) else _is_missing(outcome)
        if gone:
            raise FileNotFoundError(absent(file, "file") if here else str(outcome)) from outcome
        raise outcome


def _is_missing(outcome: Unusable) -> bool:
    return isinstance(outcome, DecodeError) and outcome.cause.startswith("there is no such file")


def _reported(outcomes: Iterable[tuple[File, Outcome]], progress: Callable[[int], None]) -> Iterator[Prediction]:
    for done, (file, outcome) in enumerate(outcomes, 1):
        bad = isinstance(outcome, Exception)
        yield Prediction(file, {}, error=str(outcome)) if bad else Prediction(file, outcome, name=next(iter(outcome)))
        progress(done)


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    left = iter(items)
    while chunk := list(islice(left, CHUNK)):
        yield chunk

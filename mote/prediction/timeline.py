"""Timelines: every window of a long video scored, each sampled frame decoded and encoded once.

Scores of a window are those that its frames get alone, bit for bit on a CPU: `VideoClassifier.scorer` on the T frames
as a batch of one. Rounding depends on how many images go through the tower at once, but within calls of one shape a
result depends neither on its place nor on its neighbours. So every call of the tower has T images there, as many as a
window (the last call is filled up with black ones); for the temporal head see `in_calls`. An accelerator takes larger
batches.

Frames pass by: what is kept are the features of the frames that a window may still need.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from mote.datasets.decoding.decode import open_video
from mote.datasets.decoding.errors import FrameOrderError
from mote.datasets.decoding.reading import Frame, OpenVideo
from mote.datasets.transforms import eval_transform, subtract_frames
from mote.inference.classifier import VideoClassifier
from mote.metrics.scoring import fuse_views
from mote.models.view_scorer import CALL
from mote.parallel.cores import OrderedMap
from mote.prediction.merging import Scored
from mote.prediction.timeline_cache import KnownFrames, TimelineCache
from mote.prediction.windows import Windows

ON_ACCELERATOR = 64  # images in one call there
Square = UInt8[np.ndarray, "S S 3"]


class Picture(NamedTuple):
    """A frame as the network sees it, and its number in the video."""

    number: int
    pixels: Square


class Window(NamedTuple):
    """A window whose pictures have all come before it."""

    start: float
    end: float
    frames: Int64[np.ndarray, "T"]


class Batch(NamedTuple):
    """Pictures for one call of the tower, and the windows that are complete with them."""

    numbers: list[int]
    images: UInt8[Tensor, "N 3 S S"] | None
    windows: list[Window]
    known: dict[int, Float[Tensor, "D"]]  # features that need no call


def windows_of(classifier: VideoClassifier, length: float, step: float) -> Windows:
    """Windows whose frames are taken as the model takes those of a clip."""
    return Windows(length, step, classifier.frames, classifier.sampling, classifier.stride)


class Timeline(NamedTuple):
    """A file cut into windows: their places, their frames, and the times of all frames of the video, in seconds."""

    places: Float64[np.ndarray, "N 2"]
    frames: Int64[np.ndarray, "N T"]
    times: Float64[np.ndarray, "F"]
    end: float


def cut_into(windows: Windows, video: OpenVideo) -> Timeline:
    """The windows of an open video; raises DecodeError where nothing says when its frames are shown."""
    places = windows.places(video.end)
    return Timeline(places, windows.take(video.times, places), video.times, video.end)


def score_file(
    path: str,
    classifier: VideoClassifier,
    class_names: Sequence[str],
    windows: Windows,
    ordered_map: OrderedMap,
    begin: Callable[[Timeline], Callable[[int, Frame], None]] = lambda _: lambda number, frame: None,
    cache: TimelineCache | None = None,
) -> Iterator[Scored]:
    """The scored windows of a video file, in the order of their times.

    Args:
        path: see `open_video`.
        classifier, class_names: what scores, and the K names.
        windows: see `windows_of`.
        ordered_map: of `all_cores` for the classifier's device.
        begin: called with the windows before the first frame is decoded; what it returns is called with every decoded
            frame and its number. Both happen anew where the file turns out to have other frames than it says: the
            windows given so far are then void.
        cache: where features are looked up and kept.

    Raises:
        DecodeError: the file cannot be decoded, or says nothing of times.
        ValueError: scores that are no numbers.
    """
    found = nullcontext(KnownFrames()) if cache is None else cache.frames_of(path)
    with open_video(path, classifier.decoder) as video, found as known:
        while True:
            timeline = cut_into(windows, video)
            items = file_items(video, timeline, classifier, begin(timeline))
            try:
                yield from score_items(items, classifier, class_names, ordered_map, known=known)
                return
            except FrameOrderError:  # at most once: from here on the frames are counted
                known.forget()


def file_items(
    video: OpenVideo, timeline: Timeline, classifier: VideoClassifier, each: Callable[[int, Frame], None]
) -> Iterator[Picture | Window]:
    """Pictures of the frames that windows take, ascending, and each window after the last of its pictures."""
    last, given = timeline.frames.max(axis=1), 0
    for picture in _pictures(video, np.unique(timeline.frames), classifier, each):
        yield picture
        while given < len(last) and last[given] <= picture.number:
            start, end = timeline.places[given].tolist()
            yield Window(start, end, timeline.frames[given])
            given += 1


def _pictures(
    video: OpenVideo, numbers: Int64[np.ndarray, "N"], classifier: VideoClassifier, each: Callable[[int, Frame], None]
) -> Iterator[Picture]:
    """What the network sees at ascending frame numbers: the frame, or its difference to a later one."""
    apart = classifier.difference
    if not apart:
        for number, frame in zip(numbers.tolist(), video.frames(numbers), strict=True):
            each(number, frame)
            yield Picture(number, square(classifier, frame))
        return
    earlier = np.minimum(numbers, max(video.num_frames - 1 - apart, 0))
    later = np.minimum(earlier + apart, video.num_frames - 1)
    needed, held, given = np.union1d(earlier, later), {}, 0
    for number, frame in zip(needed.tolist(), video.frames(needed), strict=True):
        each(number, frame)
        held[number] = square(classifier, frame)
        while given < len(numbers) and later[given] <= number:
            pair = torch.from_numpy(np.stack([held[earlier[given]], held[later[given]]])).movedim(-1, -3)
            yield Picture(int(numbers[given]), subtract_frames(pair)[0].movedim(0, -1).contiguous().numpy())
            given += 1
        needless = [old for old in held if given == len(numbers) or old < earlier[given]]
        for old in needless:
            del held[old]


def square(classifier: VideoClassifier, frame: Frame) -> Square:
    """A frame cut and resized as the model's recipe says, pixels interleaved."""
    cut = eval_transform(frame[None], classifier.size, 1, classifier.model.preprocessing)[0, 0]
    return cut.movedim(0, -1).contiguous().numpy()


def score_items(
    items: Iterable[Picture | Window],
    classifier: VideoClassifier,
    class_names: Sequence[str],
    ordered_map: OrderedMap,
    patience: int | None = None,
    known: KnownFrames | None = None,
) -> Iterator[Scored]:
    """Score windows that come after their pictures, see `for_each_window`."""
    scorer = classifier.scorer(class_names)

    def score(features: Float[Tensor, "B T D"]) -> Float64[np.ndarray, "B K"]:
        scores = fuse_views(scorer({"features": features[:, None].to(classifier.device)})).numpy()
        if not np.isfinite(scores).all():
            raise ValueError("the model gives scores that are no numbers (nan); its weights are not usable")
        return scores

    for window, row in for_each_window(items, classifier, score, ordered_map, patience, known):
        yield Scored(window.start, window.end, row)


def for_each_window(
    items: Iterable[Picture | Window],
    classifier: VideoClassifier,
    work: Callable[[Float[Tensor, "B T D"]], Sequence[np.ndarray] | np.ndarray],
    ordered_map: OrderedMap,
    patience: int | None = None,
    known: KnownFrames | None = None,
) -> Iterator[tuple[Window, np.ndarray]]:
    """What `work` makes of the frame features of windows that come after their pictures, B windows at a time.

    The smallest frame number of a window never falls. patience: windows that may come while one waits for a call of the
    tower to fill; None = any number. known: pictures in it are not encoded, the others are added to it.
    """
    on_cpu, known = classifier.device.type == "cpu", known or KnownFrames()
    encoder = classifier.for_encoding()

    def encode(batch: Batch) -> tuple[Batch, Tensor]:
        if batch.images is None:
            return batch, torch.empty(0)
        return batch, encoder.encode(batch.images[None, None])[0, 0].cpu()

    def worked(group: list[tuple[Window, Tensor]]) -> list[tuple[Window, np.ndarray]]:
        rows = work(torch.stack([features for _, features in group]))
        return [(window, row) for (window, _), row in zip(group, rows, strict=True)]

    encoded = ordered_map(encode, _batches(items, images_a_call(classifier), patience, known))
    most = CALL if on_cpu else ON_ACCELERATOR
    for group in ordered_map(worked, _complete(encoded, most, patience is None, known)):
        yield from group


def images_a_call(classifier: VideoClassifier) -> int:
    """How many images go through the tower at once."""
    return classifier.frames if classifier.device.type == "cpu" else max(classifier.frames, ON_ACCELERATOR)


def _batches(items: Iterable[Picture | Window], size: int, patience: int | None, known: KnownFrames) -> Iterator[Batch]:
    """`size` unknown pictures at a time, filled up with black ones, with the windows that came since the last batch."""
    pictures, windows, found = list[Picture](), list[Window](), dict[int, Tensor]()

    def batch() -> Batch:
        if not pictures:
            return Batch([], None, windows, found)
        filled = np.zeros((size, *pictures[0].pixels.shape), np.uint8)
        filled[: len(pictures)] = [picture.pixels for picture in pictures]
        return Batch([picture.number for picture in pictures], torch.from_numpy(filled).movedim(-1, -3), windows, found)

    for item in items:
        if isinstance(item, Window):
            windows.append(item)
        elif (row := known.get(item.number)) is not None:
            found[item.number] = row
        else:
            pictures.append(item)
        waited = patience is not None and len(windows) > patience
        if len(pictures) == size or (windows and (not pictures or waited)):
            yield batch()
            pictures, windows, found = [], [], {}
    if pictures or windows:
        yield batch()


def _complete(
    encoded: Iterable[tuple[Batch, Float[Tensor, "N D"]]], most: int, wait: bool, kept: KnownFrames
) -> Iterator[list[tuple[Window, Float[Tensor, "T D"]]]]:
    """Windows with the features of their frames, `most` at a time, or (wait=False) as soon as they are there."""
    known: dict[int, Tensor] = {}
    ready: list[tuple[Window, Tensor]] = []
    for batch, features in encoded:
        new = dict(zip(batch.numbers, features.unbind(), strict=False))  # without those of black images
        for number, row in new.items():
            kept.add(number, row)
        known |= new | batch.known
        ready += [(w, torch.stack([known[n] for n in w.frames.tolist()])) for w in batch.windows]
        if batch.windows:
            first = batch.windows[-1].frames.min()
            known = {number: row for number, row in known.items() if number >= first}
        while len(ready) >= most or (ready and not wait):
            yield ready[:most]
            ready = ready[most:]
    if ready:
        yield ready

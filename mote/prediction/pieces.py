"""Features of videos, windows and frames, as rows of the files that `mote encode` writes.

Features of a video or a window: what the model compares with class features, see `VideoClassifier.embed`. Those of a
frame: what the visual tower gives for it, scaled to length 1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from mote.datasets.decoding.decode import open_video
from mote.datasets.decoding.errors import DecodeError, FrameOrderError
from mote.datasets.lists.manifest import unlabelled
from mote.datasets.video import VideoDataset
from mote.inference.asked import Views
from mote.inference.classifier import VideoClassifier
from mote.inference.pipeline import File, for_each_video
from mote.parallel.cores import OrderedMap, all_cores
from mote.prediction.encodings import Encoded, Level
from mote.prediction.timeline import cut_into, file_items, for_each_window, windows_of
from mote.prediction.windows import Windows

Work = Callable[[File, Float[Tensor, "V T D"]], list[Encoded]]
Spans = Callable[[Int64[np.ndarray, "N"]], list[tuple[float | None, float | None]]]  # seconds in which each is shown


def by_sampling(
    model: VideoClassifier, files: Sequence[File], views: Views, level: Level, **options: Any
) -> Iterator[Encoded]:
    """Features of the files, or of the frames that the model samples of them, lazily and in order.

    options: of `for_each_video`.
    """
    work = _frame_rows(model, views) if level == "frame" else _video_row(model)
    for file, found in for_each_video(model, files, work, views, **options):
        if isinstance(found, Exception):
            yield Encoded(file, None, str(found))
        else:
            yield from found


def by_time(
    model: VideoClassifier, files: Sequence[File], pace: tuple[float, float], level: Level
) -> Iterator[Encoded | None]:
    """Features of the windows of the files, or of the frames in the middle of windows, lazily and in order.

    None comes after the last of each file, see `write_parts`.

    pace: length and step of the windows in seconds.
    """
    frames: dict[str, int | str] = {"frames": 1, "sampling": "segment"} if level == "frame" else {}
    windows = replace(windows_of(model, *pace), **frames)
    with all_cores(model.device) as ordered_map:
        for file in files:
            yield from _window_rows(model, file, windows, level, ordered_map)
            yield None


def _window_rows(
    model: VideoClassifier, file: File, windows: Windows, level: Level, ordered_map: OrderedMap
) -> list[Encoded]:
    """Rows of the windows of a file, or, with windows of one frame, of these frames, each once."""

    def work(features: Float[Tensor, "B T D"]) -> Float32[np.ndarray, "B D"]:
        one = F.normalize(features[:, 0], dim=-1) if level == "frame" else model.embed(features[:, None])
        return one.cpu().numpy()

    try:
        with open_video(file, model.decoder) as video:
            while True:
                timeline = cut_into(windows, video)
                items = file_items(video, timeline, model, lambda number, frame: None)
                try:
                    found = list(for_each_window(items, model, work, ordered_map))
                    break
                except FrameOrderError:  # at most once: from here on the frames are counted
                    continue
    except DecodeError as error:
        return [Encoded(file, None, str(error))]
    if level == "window":
        return [Encoded(file, row, None, window.start, window.end) for window, row in found]
    ends = np.append(timeline.times[1:], timeline.end)
    rows = {int(window.frames[0]): row for window, row in found}
    spans = {number: (float(timeline.times[number]), float(ends[number])) for number in rows}
    return [Encoded(file, row, None, *spans[number], number) for number, row in rows.items()]


def _video_row(model: VideoClassifier) -> Work:
    return lambda file, features: [Encoded(file, model.embed(features[None])[0].cpu().numpy())]


def _frame_rows(model: VideoClassifier, views: Views) -> Work:
    """Rows of the frames that the model samples, each frame once, in the order in which they are shown."""

    def rows(file: File, features: Float[Tensor, "V T D"]) -> list[Encoded]:
        try:
            numbers, spans = sampled_frames(model.clips_of([unlabelled(file)], views), file)
        except DecodeError as error:
            return [Encoded(file, None, str(error))]
        unit = F.normalize(features.flatten(0, 1), dim=-1).numpy()
        distinct, first = np.unique(numbers, return_index=True)
        return [
            Encoded(file, unit[place], None, start, end, number)
            for number, place, (start, end) in zip(distinct.tolist(), first.tolist(), spans(distinct), strict=True)
        ]

    return rows


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
            return numbers, lambda chosen: [(None, None)] * len(chosen)
    return numbers, lambda chosen: list(zip(times[chosen].tolist(), times[chosen + 1].tolist(), strict=True))

"""The verb `mote predict ... --window 2s --every 0.5s`: videos cut into segments, printed and written as files."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from tqdm import tqdm

from mote.datasets.decoding.errors import DecodeError
from mote.datasets.decoding.reading import Frame
from mote.datasets.sources import Source
from mote.files.addresses import public_name
from mote.files.provenance import versions
from mote.files.writing import replacing_together, write_atomic
from mote.inference.classifier import VideoClassifier
from mote.inference.correction import corrected
from mote.inference.loading import load_video
from mote.inference.threshold import read_threshold
from mote.parallel.cores import OrderedMap, all_cores
from mote.prediction.asked import Request, check_request
from mote.prediction.merging import Scored, Segment, merged, smoothed
from mote.prediction.outputs import (
    NONE,
    WINDOW_COLUMNS,
    VideoTimeline,
    segments_csv,
    timelines_json,
    vtt,
    windows_csv,
    windows_file,
)
from mote.prediction.predict import decisive, launched, share_of, write_missing
from mote.prediction.share import Share
from mote.prediction.timeline import Timeline, images_a_call, score_file, windows_of
from mote.prediction.timeline_cache import TimelineCache
from mote.prediction.windows import Cutting, Windows, shown
from mote.reporting.timeline_page import ShownTimeline, clock, link_to, small, strip_times, write_timeline_page


@dataclass(frozen=True)
class Setting:
    """What every video of a request shares; threshold and smooth are 0 where they are not asked for."""

    classifier: VideoClassifier
    names: list[str]
    windows: Windows
    threshold: float
    smooth: float
    cache: TimelineCache | None = None

    def facts(self, model: str) -> dict[str, object]:
        """What the numbers come from: settings, recipe, hashes, versions."""
        return {
            "model": model,
            "window": self.windows.length,
            "every": self.windows.step,
            "smooth": self.smooth,
            "threshold": self.threshold or None,
            "recipe": self.classifier.recipe,
            "hashes": self.classifier.hashes(self.names),
            "versions": versions(),
        }

    def note(self) -> str:
        """How windows were scored and merged, in words."""
        windows = self.windows
        text = f"Windows of {windows.length:g} s, one every {windows.step:g} s, {windows.frames} frames each."
        if self.smooth:
            text += f" Probabilities are means over the windows within {self.smooth:g} s (moving average)."
        text += (
            " Neighbouring windows of the same best name are one segment; between two names the boundary lies midway"
        )
        text += " between the centres of their windows."
        if self.threshold:
            text += f" Where no name reaches {self.threshold:.3g}: {NONE}."
        return text


def predict_timelines(request: Request, files: Sequence[Source] | None = None) -> int:
    """Print the segments of every video and write them; the exit code: 0, or 1 when a file was bad.

    files: what `check_request` gave, where the request was checked.

    Raises:
        ValueError, FileNotFoundError: unknown model, no class names, no such file, a length of time or threshold that
            is none.
    """
    files = [str(file) for file in (check_request(request) if files is None else files)]
    together = launched()
    setting = setting_of(request, None if together is None else together.device)
    if request.out is not None:
        return _into_folder(request, setting, files, share_of(request, together))
    pages = _places(request.page, files, ".html", "--page")
    vtts = _places(request.vtt, files, ".vtt", "--vtt")
    found, facts = [], setting.facts(request.model)
    with all_cores(setting.classifier.device) as ordered_map:
        for number, file in enumerate(files):
            pictures: dict[float, Frame] | None = None if pages is None else {}
            timeline = _timeline(file, setting, ordered_map, pictures)
            _say(timeline)
            found.append(timeline)
            if timeline.error is None and vtts is not None:
                write_atomic(vtts[number], vtt(timeline.segments, f"mote predict. {setting.note()}"))
            if timeline.error is None and pages is not None:
                _draw(pages[number], timeline, setting, pictures or {}, facts)
            if timeline.error is None and not (request.csv_file or request.json_file):
                timeline.windows.clear()
    write_tables(request, found, setting)
    bad = sum(timeline.error is not None for timeline in found)
    if bad:
        print(f"mote: {bad} of {len(files)} videos could not be decoded", file=sys.stderr)
    return int(bad > 0)


def _into_folder(request: Request, setting: Setting, files: Sequence[str], share: Share) -> int:
    """Write the windows of videos that are missing in the folder of parts; the exit code."""
    from mote.prediction.parts import Plan  # pyarrow is an extra
    from mote.prediction.timeline_parts import WindowRow, window_rows

    def rows_of(missing: list[str | Path]) -> Iterator[WindowRow | None]:
        off = None if len(missing) > 1 and share.process == 0 else True
        with all_cores(setting.classifier.device) as ordered_map:
            for file in tqdm(missing, unit="video", disable=off):
                found = _timeline(str(file), setting, ordered_map, None)
                yield from window_rows(file, found, setting.names, least)
                yield None

    least = setting.threshold
    settings = decisive(setting.classifier, setting.names, request.views, least or None)
    settings |= cast(Cutting, request.cutting)._asdict()
    plan = Plan(settings, setting.names, request.top, timed=True)
    return write_missing(request, plan, rows_of, files, share, "video")


def in_words(segment: Segment) -> str:
    """A segment as it is printed."""
    return f"{clock(segment.start)} - {clock(segment.end)} {segment.name or NONE} {segment.score:.3f}"


def write_tables(request: Request, found: Sequence[VideoTimeline], setting: Setting) -> None:
    """Write CSV, both files together, and JSON, where they are asked for."""
    if request.csv_file is not None:
        file = Path(request.csv_file)
        with replacing_together(file.parent) as folder:
            texts = {file.name: segments_csv(found)}
            texts[windows_file(file).name] = windows_csv(found, setting.names, setting.threshold)
            for name, text in texts.items():
                (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    if request.json_file is not None:
        write_atomic(Path(request.json_file), timelines_json(found, setting.names, setting.facts(request.model)))


def setting_of(request: Request, device: torch.device | None = None) -> Setting:
    """What all that a checked request asks for shares, the model loaded. Raises ValueError."""
    assert request.cutting is not None
    length, step, smooth = request.cutting
    classifier = load_video(request.model, backbone=request.backbone, templates=request.templates, device=device)
    names = classifier.chosen(request.class_names)
    if request.csv_file is not None and (taken := {*WINDOW_COLUMNS} & {*names}):
        raise ValueError(f"--csv: a class is called {taken.pop()!r}, as a column of the table is; write --json instead")
    classifier = cast(VideoClassifier, corrected(classifier, names))
    threshold = 0.0
    if request.threshold is not None:
        threshold = read_threshold(request.threshold, lambda: classifier.hashes(names), clips=1, crops=1)
    cache = None
    if request.cache is not None:
        cache = TimelineCache(Path(request.cache), classifier, images_a_call(classifier))
    return Setting(classifier, names, windows_of(classifier, length, step), threshold, smooth, cache)


def _timeline(
    file: str, setting: Setting, ordered_map: OrderedMap, pictures: dict[float, Frame] | None
) -> VideoTimeline:
    """What is found in one file. pictures: filled with a few frames by their seconds, where they are wanted."""
    found, scored = VideoTimeline(public_name(file)), list[Scored]()
    bar = tqdm(desc=os.path.basename(found.path), unit="window", disable=None, leave=False)

    def begin(timeline: Timeline) -> Callable[[int, Frame], None]:
        scored.clear()
        bar.reset(len(timeline.places))
        numbers = np.unique(timeline.frames)
        found.end, found.frames = timeline.end, len(numbers)
        if (strip := pictures) is None:
            return lambda number, frame: None
        strip.clear()
        chosen = {*numbers[shown(timeline.times[numbers], np.array(strip_times(timeline.end)))].tolist()}

        def look(number: int, frame: Frame) -> None:
            if number in chosen:
                strip[float(timeline.times[number])] = small(frame)

        return look

    try:
        for window in score_file(
            file, setting.classifier, setting.names, setting.windows, ordered_map, begin, setting.cache
        ):
            scored.append(window)
            bar.update()
    except DecodeError as error:
        return VideoTimeline(found.path, str(error))
    except ValueError as error:
        raise ValueError(f"{found.path}: {error}") from error
    finally:
        bar.close()
    found.windows = list(smoothed(scored, setting.smooth))
    step = setting.windows.step
    found.segments = list(merged(found.windows, setting.names, threshold=setting.threshold, step=step))
    return found


def _say(found: VideoTimeline) -> None:
    if found.error is not None:
        print(f"mote: skipped: {found.error}", file=sys.stderr)
    for segment in found.segments:
        print(f"{found.path}: {in_words(segment)}")


def _draw(
    page: Path, found: VideoTimeline, setting: Setting, pictures: dict[float, Frame], facts: dict[str, object]
) -> None:
    link = link_to(found.path, page)
    shown_timeline = ShownTimeline(
        found.path,
        link,
        found.end,
        sorted(pictures.items(), key=lambda item: item[0]),
        np.array([window.centre for window in found.windows]),
        np.stack([window.scores for window in found.windows]),
        setting.names,
        [(segment.start, segment.end, segment.name, segment.score) for segment in found.segments],
        setting.threshold or None,
    )
    note = setting.note() + ("" if link else " To play the video here, write the page into the folder of the video.")
    write_timeline_page(page, shown_timeline, note, {**facts, "frames_encoded": found.frames})


def _places(given: str | None, files: Sequence[str], suffix: str, option: str) -> list[Path] | None:
    """Where the file of each video is written: `given` itself for one video, else in the folder that it names.

    Videos of one name in several folders are numbered: a.html, a-2.html.

    Raises:
        ValueError: `given` is a file, and there are several videos.
    """
    if given is None:
        return None
    folder = Path(given)
    if len(files) == 1 and not folder.is_dir() and not given.endswith(os.sep):
        return [folder]
    if folder.is_file():
        raise ValueError(f"{option} {given}: is a file, and there are {len(files)} videos; name a folder")
    places: list[Path] = []
    for file in files:
        names = (f"{Path(file).stem}{number}{suffix}" for number in ("", *(f"-{n}" for n in range(2, len(files) + 2))))
        places.append(next(folder / name for name in names if folder / name not in places))
    return places

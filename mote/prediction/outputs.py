"""Timelines as files: segments and windows as CSV, everything as JSON, segments as WebVTT."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np

from mote.files.writing import csv_text, to_json
from mote.prediction.merging import Scored, Segment

NONE = "none of these"
INSTALL = "--vtt needs webvtt-py: pip install 'mote-video[timelines]', or webvtt-py"
SEGMENT_COLUMNS = ("path", "start", "end", "name", "score", "error")
WINDOW_COLUMNS = ("path", "start", "end", "predicted", "error")  # the scores stand before the last


@dataclass
class VideoTimeline:
    """What was found in one video, seconds from its first frame, or why nothing was.

    scores: of all windows, smoothed where that was asked for, (N, K). frames: how many were encoded.
    """

    path: str
    error: str | None = None
    end: float = 0.0
    frames: int = 0
    windows: list[Scored] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)


def segments_csv(timelines: Sequence[VideoTimeline]) -> str:
    """One line per segment; a video that could not be decoded has one line, with its error."""
    return csv_text(SEGMENT_COLUMNS, segment_rows(timelines))


def segment_rows(timelines: Iterable[VideoTimeline]) -> Iterator[Sequence[str]]:
    """The lines of `segments_csv` without the first."""
    for found in timelines:
        if found.error is not None:
            yield found.path, "", "", "", "", found.error
        for s in found.segments:
            yield found.path, f"{s.start:.3f}", f"{s.end:.3f}", s.name or NONE, f"{s.score:.6f}", ""


def windows_csv(timelines: Sequence[VideoTimeline], names: Sequence[str], threshold: float) -> str:
    """One line per window, with the probability of every class; of a video that could not be decoded its error."""
    rows: list[Sequence[object]] = []
    for found in timelines:
        if found.error is not None:
            rows.append((found.path, "", "", "", *("" for _ in names), found.error))
        for window in found.windows:
            best = int(np.argmax(window.scores))
            predicted = names[best] if window.scores[best] >= threshold else NONE
            scores = (f"{score:.6f}" for score in window.scores.tolist())
            rows.append((found.path, f"{window.start:.3f}", f"{window.end:.3f}", predicted, *scores, ""))
    return csv_text((*WINDOW_COLUMNS[:-1], *names, WINDOW_COLUMNS[-1]), rows)


def windows_file(file: Path) -> Path:
    """Where the windows stand whose segments are in the table `file`: beside it, as NAME.windows.csv."""
    return file.with_name(f"{file.stem}.windows{file.suffix or '.csv'}")


def timelines_json(timelines: Sequence[VideoTimeline], names: Sequence[str], facts: Mapping[str, object]) -> str:
    """Everything; `facts` come first. Windows are columns: starts, ends, the probabilities of each class."""
    return to_json({**facts, "labels": list(names), "videos": [_as_json(found, names) for found in timelines]})


def _as_json(found: VideoTimeline, names: Sequence[str]) -> dict[str, object]:
    if found.error is not None:
        return {"path": found.path, "error": found.error}
    columns = np.stack([window.scores for window in found.windows], axis=1).tolist()
    windows = {
        "start": [round(window.start, 6) for window in found.windows],
        "end": [round(window.end, 6) for window in found.windows],
        "scores": dict(zip(names, columns, strict=True)),
    }
    segments = [
        {"start": round(s.start, 6), "end": round(s.end, 6), "name": s.name, "score": s.score} for s in found.segments
    ]
    sizes = {"end": round(found.end, 6), "frames_encoded": found.frames}
    return {"path": found.path, **sizes, "segments": segments, "windows": windows}


def vtt(segments: Sequence[Segment], note: str) -> str:
    """A WebVTT file with a cue for each named segment, for a <track> of the video; `note` stands in its head.

    Parts without a name have no cue, nor have segments that end before the next millisecond.

    Raises:
        ValueError: webvtt-py is not installed; says what to install.
    """
    webvtt = check_webvtt()
    document = webvtt.WebVTT(header_comments=[_one_line(note)])
    for segment in segments:
        start, end = (_stamp(moment) for moment in (segment.start, segment.end))
        if segment.name is not None and start < end:
            document.captions.append(webvtt.Caption(start, end, _escaped(segment.name)))
    return document.content + "\n"


def check_webvtt() -> ModuleType:
    """The package webvtt-py; raises ValueError, saying what to install, where it is missing."""
    try:
        import webvtt
    except ImportError as error:
        raise ValueError(INSTALL) from error
    return webvtt


def _stamp(moment: float) -> str:
    """hh:mm:ss.ttt, which sorts as the moments do, up to 99 hours."""
    whole = math.floor(moment * 1000 + 0.5)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d}.{whole % 1000:03d}"


def _one_line(text: str) -> str:
    return " ".join(text.replace("-->", "to").split())


def _escaped(text: str) -> str:
    """Text of a cue: one line, its markup signs as entities."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

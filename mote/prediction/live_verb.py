"""The verb `mote predict ... --window 2s` on a live stream: segments printed as they end, and written at its end."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mote.datasets.decoding.errors import DecodeError
from mote.datasets.decoding.live import is_live, live_frames
from mote.datasets.decoding.reading import Frame
from mote.files.addresses import without_secrets
from mote.files.writing import write_atomic
from mote.prediction.live import delay, live_segments
from mote.prediction.outputs import VideoTimeline, vtt
from mote.prediction.timeline_verb import Request, Setting, in_words, setting_of, write_tables


def predict_live(request: Request) -> int:
    """Print the segments of one live stream and write them when it ends; the exit code.

    Raises:
        ValueError: more than a stream, or a page of one.
    """
    [place, *others] = request.places
    if others:
        stream = next(filter(is_live, request.places), place)
        raise ValueError(f"{without_secrets(stream)}: is a live stream, and those are watched one at a time")
    if request.page is not None:
        raise ValueError("--page is for videos that are there; of a live stream write --csv, --json or --vtt")
    setting = setting_of(request)
    try:
        found = predict_stream(without_secrets(place), live_frames(place), setting)
    except DecodeError as error:
        print(f"mote: {error}", file=sys.stderr)
        return 1
    write_tables(request, [found], setting)
    if request.vtt is not None:
        write_atomic(Path(request.vtt), vtt(found.segments, f"mote predict. {setting.note()}"))
    return 0


def predict_stream(
    name: str, frames: Iterable[tuple[float, Frame]], setting: Setting, say: Callable[[str], object] = print
) -> VideoTimeline:
    """Print the segments of a stream as they end, until it ends or is interrupted (Ctrl-C).

    Memory is bounded but for the segments, which are returned; `windows` stays empty.
    """
    windows, found = setting.windows, VideoTimeline(name)
    say(f"{name}: segments are known at most {delay(windows, setting.smooth):g} s after they end")
    segments = live_segments(
        _until_interrupted(frames),
        setting.classifier,
        setting.names,
        windows,
        threshold=setting.threshold,
        smooth=setting.smooth,
    )
    for segment in segments:
        found.segments.append(segment)
        found.end = segment.end
        say(f"{name}: {in_words(segment)}")
    return found


def _until_interrupted(frames: Iterable[tuple[float, Frame]]) -> Iterator[tuple[float, Frame]]:
    """The frames up to Ctrl-C, which is how a camera ends."""
    try:
        yield from frames
    except KeyboardInterrupt:
        return

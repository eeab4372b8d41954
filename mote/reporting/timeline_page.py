"""The page of a timeline: the video, its frames over time, segments as bars, probabilities as curves, and a table.

One file that needs no network. Where the video lies beside it, a click on a frame, a bar or a line of the table plays
the video from there; without JavaScript the same links open it at that time.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jaxtyping import Float, UInt8
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from mote.reporting.page import Head, Section, command_line, short, write_page

TEMPLATE = Path(__file__).with_name("timeline.html.j2")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito (2008)
INK = ("#fff", "#000", "#000", "#000", "#000", "#000")  # that is read on them: contrast of at least 4.5
OTHER = "#8a9099"  # segments of further names
POINTS = 800  # of a curve at most; of longer videos means over neighbouring windows
STRIP = 16  # frames over time
SIDE = 160  # pixels of their longest side
TICKS = 5
NOTHING = "none of these"


@dataclass(frozen=True, eq=False)
class ShownTimeline:
    """A video cut into windows, as it is shown.

    Args:
        path: of the video, as it was given.
        link: what a browser finds the video by from the page, see `link_to`; None = it cannot.
        end: seconds.
        frames: (seconds, image) of a few frames, ascending.
        centres: seconds of the middle of each of N windows, ascending.
        scores: their probabilities of the K classes.
        names: of the classes.
        segments: (start, end, name, probability), name None where no class reaches the threshold.
        threshold: that, in 0..1; None = there is none.
    """

    path: str
    link: str | None
    end: float
    frames: Sequence[tuple[float, UInt8[np.ndarray, "H W 3"]]]
    centres: Float[np.ndarray, "N"]
    scores: Float[np.ndarray, "N K"]
    names: Sequence[str]
    segments: Sequence[tuple[float, float, str | None, float]]
    threshold: float | None = None


def write_timeline_page(path: Path | str, shown: ShownTimeline, note: str, facts: Mapping[str, object]) -> Path:
    """Write the page and return its path; note: how windows were scored; facts: where the numbers come from."""
    sections = [Section("What happens when", markup=timeline_markup(shown, note)), Section("Provenance", facts=facts)]
    data = f"{clock(shown.end)} of video, {len(shown.centres)} windows, {len(shown.names)} names"
    head = Head(conclusion(shown), _cards(shown), str(facts.get("model") or ""), data, "", command_line())
    return write_page(path, f"Timeline: {shown.path}", sections, head)


def conclusion(shown: ShownTimeline) -> str:
    """One sentence: what the longest part of the video is, and how much of it has a name."""
    lasting = _lasting(shown)
    count, end = len(shown.segments), max(shown.end, 1e-3)
    parts = f"{count} segment{'s' if count != 1 else ''}"
    if not lasting:
        return f"No part of the video reaches the threshold for any of the names ({parts})."
    name, seconds = max(lasting.items(), key=lambda item: item[1])
    named = 100 * sum(lasting.values()) / end
    return (
        f"“{short(name, 60)}” takes {min(100 * seconds / end, 100):.0f} % of the video, more than any other of"
        f" {len(lasting)} names found; {min(named, 100):.0f} % of it has a name ({parts})."
    )


def _cards(shown: ShownTimeline) -> list[tuple[str, str]]:
    lasting, end = _lasting(shown), max(shown.end, 1e-3)
    longest = sorted(lasting.items(), key=lambda item: -item[1])[:3]
    shares = [(f"{min(100 * seconds / end, 100):.0f} %", short(name, 60)) for name, seconds in longest]
    nothing = sum(stop - start for start, stop, name, _ in shown.segments if name is None)
    none = [(f"{100 * nothing / end:.0f} %", "none of the names")] if nothing else []
    return [(clock(shown.end), "minutes and seconds of video"), *shares, *none]


def _lasting(shown: ShownTimeline) -> dict[str, float]:
    """Seconds of each name that a segment has."""
    lasting: dict[str, float] = {}
    for start, stop, name, _ in shown.segments:
        if name is not None:
            lasting[name] = lasting.get(name, 0.0) + stop - start
    return lasting


def link_to(video: str, page: Path | str) -> str | None:
    """A relative link from the folder of the page to a video in it or below; None where the video lies elsewhere."""
    file, folder = Path(video).absolute().resolve(), Path(page).absolute().parent.resolve()
    if not file.is_file() or not file.is_relative_to(folder):
        return None
    return quote(file.relative_to(folder).as_posix().encode("utf-8", "surrogateescape"))


def timeline_markup(shown: ShownTimeline, note: str) -> Markup:
    """The part of the page that shows frames, bars, curves and the table, as HTML for `Section.markup`."""
    top = most_probable(shown)
    colours = dict(zip(top, COLOURS, strict=False))
    end = max(shown.end, 1e-3)
    rows = [
        {
            "moment": f"{start:.3f}",
            "time": f"{clock(start)} \N{EN DASH} {clock(stop)}",
            "name": name or NOTHING,
            "colour": colours.get(name, OTHER) if name else None,
            "score": f"{score:.3f}",
        }
        for start, stop, name, score in shown.segments
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        link=shown.link,
        end=f"{end:.3f}",
        frames=[_thumbnail(moment, frame) for moment, frame in shown.frames],
        bars=[_bar(segment, end, top) for segment in shown.segments],
        keys=[{"name": n, "colour": colours[n], "points": _points(shown, shown.names.index(n), end)} for n in top],
        threshold=None if shown.threshold is None else f"{100 - 100 * shown.threshold:.2f}",
        ticks=[clock(end * i / (TICKS - 1)) for i in range(TICKS)],
        rows=rows,
        note=note,
    )
    return Markup(html)


def most_probable(shown: ShownTimeline) -> list[str]:
    """Names whose curves are drawn: those of segments, by their seconds in all, then those of the highest means."""
    lasting = _lasting(shown)
    named = sorted(lasting, key=lambda name: -lasting[name])
    names = list(shown.names)
    means = [names[k] for k in np.argsort(-shown.scores.mean(axis=0), kind="stable").tolist()]
    return list(dict.fromkeys([*named, *means]))[: len(COLOURS)]


def strip_times(end: float) -> list[float]:
    """Seconds of the frames that a strip over a video of `end` seconds shows: the middle of equal parts."""
    return [end * (place + 0.5) / STRIP for place in range(STRIP)]


def small(frame: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A copy of a frame in the size of a strip, for frames that are gone before the page is drawn."""
    image = Image.fromarray(frame)
    image.thumbnail((SIDE, SIDE))
    return np.array(image)


def clock(moment: float) -> str:
    """Seconds as m:ss.t or h:mm:ss.t."""
    tenths = round(moment * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes}:{seconds}"


def _bar(segment: tuple[float, float, str | None, float], end: float, top: Sequence[str]) -> dict[str, str]:
    start, stop, name, score = segment
    place = f"left: {100 * start / end:.3f}%; width: {100 * (stop - start) / end:.3f}%"
    title = f"{clock(start)} \N{EN DASH} {clock(stop)}: {name or NOTHING} {score:.3f}"
    if name is None:
        return {"moment": f"{start:.3f}", "kind": "none", "style": place, "title": title, "name": ""}
    number = top.index(name) if name in top else None
    colour, ink = (OTHER, "#000") if number is None else (COLOURS[number], INK[number])
    style = f"{place}; background: {colour}; color: {ink}"
    return {"moment": f"{start:.3f}", "kind": "named", "style": style, "title": title, "name": name}


def _points(shown: ShownTimeline, column: int, end: float) -> str:
    """A curve in a field of 1000 x 100, upside down as SVG counts."""
    edges = np.unique(np.linspace(0, len(shown.centres), min(POINTS, len(shown.centres)) + 1).astype(int))
    counts = np.diff(edges)
    x, y = (np.add.reduceat(v, edges[:-1]) / counts for v in (shown.centres, shown.scores[:, column]))
    if len(x) == 1:  # a line over the whole field, for a point would not be seen
        x, y = np.array([0.0, end]), np.repeat(y, 2)
    return " ".join(f"{1000 * a / end:.2f},{100 - 100 * b:.2f}" for a, b in zip(x, y, strict=True))


def _thumbnail(moment: float, frame: UInt8[np.ndarray, "H W 3"]) -> dict[str, object]:
    image, data = Image.fromarray(small(frame)), BytesIO()
    image.save(data, "JPEG", quality=75, optimize=True)
    source = f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
    return {
        "moment": f"{moment:.3f}",
        "clock": clock(moment),
        "source": source,
        "width": image.width,
        "height": image.height,
    }

"""The specialisation-generalisation plane of one model under many settings, its frontier drawn through the best."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from mote.reporting.page import short
from mote.reporting.plots import (
    COLOURS,
    SMALL,
    _figure,
    _save,
    harmonic_curves,
    interval_limits,
    name_plane,
    set_range,
)

STYLES = {  # sweep -> colour, marker, how it is called
    "model": (COLOURS[6], "*", "the model as it is"),
    "alpha": (COLOURS[0], "o", "alpha: tower interpolated with CLIP"),
    "gate": (COLOURS[1], "s", "gate of the temporal branch"),
    "expert": (COLOURS[2], "^", "one expert alone"),
}
DISTANCES = (7, 11, 16, 22, 30, 40, 52, 66, 82, 100)  # points from a point to its label, nearest first
DIRECTIONS = 16


def frontier_plot(rows: Sequence[Mapping], path: Path | str) -> tuple[Path, Path]:
    """Draw closed-set top-1 across, zero-shot top-1 up, one labelled point per setting; returns the SVG and PNG path.

    rows: as from `mote.metrics.frontier.with_pareto`. Numeric sweeps are joined in the order of their values. Faint
    bars are 95 % intervals. Points on the frontier are ringed and joined by a staircase: what lies below or left of it
    is dominated. A label says the value of the sweep that its colour and marker tell; none covers another.
    """
    if not rows:
        raise ValueError("no rows to draw; the frontier needs at least one setting")
    sweeps = [sweep for sweep in STYLES if any(row["sweep"] == sweep for row in rows)]
    figure, axes = _figure(4.0 + 0.19 * (len(sweeps) + 1))
    points = 100 * np.array([[row["closed_set"], row["zero_shot"]] for row in rows])  # (settings, 2)
    limits = interval_limits(rows)
    set_range(axes, limits)
    numbers = harmonic_curves(axes)
    for sweep in sweeps:
        _draw_sweep(axes, sweep, rows, points, limits)
    _draw_frontier(axes, points[[row["pareto"] for row in rows]])
    name_plane(axes)
    figure.legend(loc="outside lower left", ncols=1, frameon=False, fontsize=SMALL)
    figure.draw_without_rendering()  # the constrained layout settles, so pixels are final
    taken = [number.get_window_extent() for number in numbers]
    colours = [STYLES[row["sweep"]][0] for row in rows]
    place_labels(axes, points, [label_of(row) for row in rows], colours, taken)
    return _save(figure, path)


def label_of(row: Mapping) -> str:
    """What stands beside a point: the value within its sweep, or the name of the setting."""
    if row["sweep"] == "model":
        return "model"
    return short(str(row["name"]).removeprefix(f"{row['sweep']} "), 14)


def _draw_sweep(axes: Axes, sweep: str, rows: Sequence[Mapping], points: np.ndarray, limits: np.ndarray) -> None:
    colour, marker, name = STYLES[sweep]
    chosen = [i for i, row in enumerate(rows) if row["sweep"] == sweep]
    for i in chosen:
        (left, right), (low, high) = limits[i]
        axes.plot([left, right], [points[i, 1]] * 2, color=colour, linewidth=1, alpha=0.35, zorder=2)
        axes.plot([points[i, 0]] * 2, [low, high], color=colour, linewidth=1, alpha=0.35, zorder=2)
    look = {"color": colour, "markersize": 13 if sweep == "model" else 5.5, "linestyle": "none"}
    axes.plot(*points[chosen].T, marker=marker, **look, label=name, zorder=4)
    if sweep not in ("alpha", "gate"):
        return
    own = sorted((row["value"], i) for i, row in enumerate(rows) if row["sweep"] == sweep and row["value"] is not None)
    joined = [i for _, i in own]
    if sweep == "alpha":  # it ends in the model itself, alpha 1
        joined += [i for i, row in enumerate(rows) if row["sweep"] == "model"]
    axes.plot(*points[joined].T, "-", color=colour, linewidth=1, alpha=0.6, zorder=2)


def _draw_frontier(axes: Axes, optimal: np.ndarray) -> None:
    best = np.unique(optimal, axis=0)
    left, bottom = axes.get_xlim()[0], axes.get_ylim()[0]
    corners = np.vstack([[left, best[0, 1]], best, [best[-1, 0], bottom]])
    style = "steps-pre" if len(best) > 1 else "default"
    axes.plot(*corners.T, drawstyle=style, color="#444444", linewidth=1.2, zorder=3)
    ring = {"linestyle": "none", "markerfacecolor": "none", "markeredgecolor": "#444444", "markersize": 11, "zorder": 5}
    axes.plot(*best.T, marker="o", **ring, label="on the frontier (Pareto-optimal)")


def place_labels(
    axes: Axes, points: np.ndarray, names: Sequence[str], colours: Sequence[str], taken: Sequence[Bbox]
) -> None:
    """Write each name near its point, over no other name; where it must stand farther off, a line leads to it.

    Of the places within the axes that cover no name the one over the fewest points and `taken` boxes is used, the
    nearest of equals. A name that has no place is left out: tables have all.
    """
    figure = axes.figure
    pixels = axes.transData.transform(points)
    scale = figure.dpi / 72
    marks = [Bbox.from_bounds(x - 5 * scale, y - 5 * scale, 10 * scale, 10 * scale) for x, y in pixels]
    frame, written = axes.get_window_extent(), []
    for point, place, name, colour in zip(points, pixels, names, colours, strict=True):
        text = axes.annotate(
            name,
            (float(point[0]), float(point[1])),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=SMALL,
            parse_math=False,
            zorder=6,
        )
        size = text.get_window_extent()
        found = _free_place(place, size.width + 2, size.height + 1, scale, frame, written, [*marks, *taken])
        if found is None:
            text.remove()
            continue
        box, distance = found
        middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        text.set_position(((middle[0] - place[0]) / scale, (middle[1] - place[1]) / scale))
        written.append(box)
        if distance > DISTANCES[1]:
            near = np.clip(place, [box.x0, box.y0], [box.x1, box.y1])
            ends = axes.transData.inverted().transform([place, near])
            axes.plot(*ends.T, color=colour, linewidth=0.6, alpha=0.7, zorder=3)


def _free_place(
    place: np.ndarray,
    width: float,
    height: float,
    scale: float,
    frame: Bbox,
    written: Sequence[Bbox],
    taken: Sequence[Bbox],
) -> tuple[Bbox, float] | None:
    """(box, distance in points) of the best place for a label; None where every place covers another or leaves."""
    best: tuple[int, Bbox, float] | None = None
    for distance in DISTANCES:
        for turn in range(DIRECTIONS):
            angle = 2 * math.pi * turn / DIRECTIONS
            across, up = math.cos(angle), math.sin(angle)
            x = place[0] + across * (distance * scale + width / 2)
            y = place[1] + up * (distance * scale + height / 2)
            box = Bbox.from_bounds(x - width / 2, y - height / 2, width, height)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if not inside or box.count_overlaps(written):
                continue
            cost = box.count_overlaps(taken)
            if best is None or cost < best[0]:
                best = (cost, box, distance)
        if best is not None and best[0] == 0:
            break
    return None if best is None else best[1:]

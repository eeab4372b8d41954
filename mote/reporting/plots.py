"""Figures of results, each written as SVG and PNG: the trade-off plane, confusion matrices, loss curves.

Figures are made without pyplot, so nothing global changes and no display is needed. Colours are those of Okabe & Ito
(2008), which colour-blind readers can tell apart; every series also has a marker or a dash of its own.
Accuracies come in as fractions and are drawn in percent.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from mote.files.writing import replacing

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
MAX_TICK_LABELS = 40  # more class names than this cannot be read on a confusion matrix
NOT_A_LOSS = {"step", "epoch", "lr", "grad_norm", "time", "skipped"}
LABEL_OFFSETS = [  # points, in order of preference
    *((9, 0), (-9, 0), (0, 10), (0, -10), (9, 8), (-9, 8), (9, -8), (-9, -8)),
    *((12, 20), (-12, 20), (12, -20), (-12, -20), (12, 34), (-12, 34), (12, -34), (-12, -34)),
]


def tradeoff_plot(rows: Sequence[Mapping], path: Path | str) -> tuple[Path, Path]:
    """Draw one labelled point per method: closed-set top-1 across, zero-shot top-1 up, bars for 95 % intervals.

    rows: as returned by `mote.metrics.zero_shot.trade_off`: method, closed_set, zero_shot and, where there are
    any, closed_set_interval and zero_shot_interval. Grey curves join points of equal harmonic mean.
    Returns the paths of the SVG and the PNG file: `path` with these endings added.
    """
    if not rows:
        raise ValueError("no rows to draw; the trade-off plane needs at least one method")
    figure, axes = _figure(7.2, 5.4)
    points = 100 * np.array([[row["closed_set"], row["zero_shot"]] for row in rows])  # (methods, 2)
    limits = 100 * np.array(
        [[_limits(row, "closed_set"), _limits(row, "zero_shot")] for row in rows]
    )  # (methods, 2, 2)
    _set_range(axes, limits)
    numbers = _harmonic_curves(axes)
    for i, (point, (across, up)) in enumerate(zip(points, limits, strict=True)):
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]}
        bars = {"xerr": np.abs(across - point[0])[:, None], "yerr": np.abs(up - point[1])[:, None]}
        axes.errorbar(*point, **bars, **style, markersize=8, elinewidth=1.2, capsize=3, linestyle="none", zorder=3)
    axes.set_xlabel("closed-set top-1 (%), classes it was tuned on")
    axes.set_ylabel("zero-shot top-1 (%), classes it has never seen")
    axes.set_title(
        "Grey: equal harmonic mean of the two. Bars: 95 % intervals.", loc="left", fontsize=9, color="#555555"
    )
    figure.draw_without_rendering()  # the constrained layout settles, so pixels are final
    taken = [number.get_window_extent() for number in numbers]
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(rows))]
    _place_labels(axes, points, limits, [str(row["method"]) for row in rows], colours, taken)
    return _save(figure, path)


def confusion_plot(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path | str) -> tuple[Path, Path]:
    """Draw a confusion matrix (K, K) of counts, rows true, each row in percent of its sum; empty rows stay grey.

    Above 40 classes the names are left out and colours grow with the square root, so that rare confusions are seen.
    Returns the paths of the SVG and the PNG file.
    """
    counts = np.asarray(matrix, dtype=float)
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(f"confusion matrix is {counts.shape} but there are {len(classes)} class names")
    total = counts.sum(axis=1, keepdims=True)
    percent = np.ma.masked_invalid(np.divide(100 * counts, total, out=np.full_like(counts, np.nan), where=total > 0))
    side = float(np.clip(2.8 + 0.24 * len(classes), 4.5, 12.0))
    figure, axes = _figure(side + 0.8, side)
    figure.set_layout_engine("compressed")  # for axes that keep their shape: the other one pushes labels over the edge
    colours = matplotlib.colormaps["Blues"].with_extremes(bad="#dddddd")
    norm = PowerNorm(1.0 if len(classes) <= MAX_TICK_LABELS else 0.5, vmin=0, vmax=100)
    image = axes.imshow(percent, norm=norm, cmap=colours, interpolation="nearest")
    figure.colorbar(image, ax=axes, label="% of the true class", shrink=0.8)
    if len(classes) <= MAX_TICK_LABELS:
        axes.set_xticks(range(len(classes)), classes, rotation=90, parse_math=False)
        axes.set_yticks(range(len(classes)), classes, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.grid(False)
    return _save(figure, path)


def curves_plot(records: Sequence[Mapping], path: Path | str) -> tuple[Path, Path]:
    """Draw the loss and its terms over steps from the records of a run's log; returns the SVG and the PNG path.

    Every number in a record that is not a step, epoch, rate, norm, time or count is taken for a loss. Long logs are
    drawn pale with their running mean on top.
    """
    steps = [record for record in records if "loss" in record]
    if not steps:
        raise ValueError("the log holds no losses yet; nothing to draw")
    figure, axes = _figure(7.2, 4.2)
    names = dict.fromkeys(name for record in steps for name in record if name not in NOT_A_LOSS)
    for i, name in enumerate(names):
        x, y = np.array([(record["step"], record[name]) for record in steps if name in record], dtype=float).T
        colour = COLOURS[i % len(COLOURS)]
        window = len(y) // 25
        if window > 1:
            axes.plot(x, y, color=colour, linewidth=0.6, alpha=0.25)
            y = np.convolve(y, np.full(window, 1 / window), mode="valid")
            x = x[window // 2 :][: len(y)]  # the mean of a window stands at its middle
        axes.plot(x, y, color=colour, linestyle=DASHES[i % len(DASHES)], linewidth=1.8, label=name)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss (weighted terms)")
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.legend(frameon=False)
    return _save(figure, path)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, path: Path | str) -> tuple[Path, Path]:
    """Write `path`.svg and `path`.png; equal figures give equal files (no date, no random ids)."""
    path = Path(path)
    svg, png = path.with_name(path.name + ".svg"), path.with_name(path.name + ".png")
    figure.draw_without_rendering()  # lays it out, once for both files
    figure.set_layout_engine("none")
    with matplotlib.rc_context({"svg.hashsalt": "mote"}), replacing(svg) as temporary:
        figure.savefig(temporary, metadata={"Date": None})
    with replacing(png) as temporary:
        figure.savefig(temporary, dpi=150, metadata={"Software": None})
    return svg, png


def _limits(row: Mapping, name: str) -> tuple[float, float]:
    low, high = row.get(f"{name}_interval") or (row[name], row[name])
    return low, high


def _set_range(axes: Axes, limits: np.ndarray) -> None:
    """Show all intervals with room for labels, at least 10 points wide, within -2..102 percent."""
    for axis, low, high in (
        (axes.xaxis, limits[:, 0].min(), limits[:, 0].max()),
        (axes.yaxis, limits[:, 1].min(), limits[:, 1].max()),
    ):
        room = max(0.12 * (high - low), (10 - (high - low)) / 2, 1.0)
        first, last = max(low - room, -2.0), min(high + room, 102.0)
        ticks = [
            tick
            for tick in MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(first, last)
            if max(first, 0) <= tick <= min(last, 100)
        ]
        axis.set_ticks(ticks)
        axis.set_view_interval(first, last, ignore=True)


def _harmonic_curves(axes: Axes) -> list[Text]:
    """Draw curves of equal harmonic mean 2xy / (x + y) in grey behind everything; returns their labels."""
    x = np.linspace(max(axes.get_xlim()[0], 0.01), axes.get_xlim()[1], 200)
    y = np.linspace(max(axes.get_ylim()[0], 0.01), axes.get_ylim()[1], 200)
    mean = 2 * x * y[:, None] / (x + y[:, None])
    levels = [
        level
        for level in MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(mean.min(), mean.max())
        if mean.min() < level < mean.max()
    ]
    curves = axes.contour(x, y, mean, levels=levels, colors="#b5b5b5", linewidths=0.8, linestyles="--", zorder=1)
    return list(axes.clabel(curves, fmt="%g", fontsize=8, colors="#767676"))


def _place_labels(
    axes: Axes,
    points: np.ndarray,
    limits: np.ndarray,
    names: Sequence[str],
    colours: Sequence[str],
    taken: list[Bbox],
) -> None:
    """Write each name beside its point, where it overlaps the fewest names, points, bars, edges and `taken` boxes."""
    to_pixels = axes.transData.transform
    for point, (across, up) in zip(points, limits, strict=True):
        taken += [_box(to_pixels([(x, point[1]) for x in across]), 3), _box(to_pixels([(point[0], y) for y in up]), 3)]
        taken.append(_box(to_pixels([point]), 9))
    frame, written = axes.get_window_extent(), []
    for point, name, colour in zip(points, names, colours, strict=True):
        label = axes.annotate(
            name,
            (float(point[0]), float(point[1])),
            xytext=(0, 0),
            textcoords="offset points",
            color=[0.7 * part for part in to_rgb(colour)],  # thin strokes need more contrast
            fontweight="bold",
            parse_math=False,
            zorder=4,
        )

        def cost(offset: tuple[int, int], label: Annotation = label) -> int:
            _shift(label, offset)
            box = label.get_window_extent()
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            return box.count_overlaps(taken) + 5 * box.count_overlaps(written) + (0 if inside else 5)

        _shift(label, min(LABEL_OFFSETS, key=cost))
        written.append(label.get_window_extent())


def _shift(label: Annotation, offset: tuple[int, int]) -> None:
    """Put `label` at `offset` (points) from its point, aligned away from it."""
    across, up = offset
    label.set_position(offset)
    label.set_horizontalalignment("left" if across > 0 else "right" if across < 0 else "center")
    label.set_verticalalignment("bottom" if up > 0 else "top" if up < 0 else "center")


def _box(pixels: np.ndarray, margin: int) -> Bbox:
    low, high = pixels.min(axis=0) - margin, pixels.max(axis=0) + margin
    return Bbox([low, high])

"""Figures of results, each written as SVG and PNG: the trade-off plane, confusion matrices, loss curves.

Figures are made without pyplot, so nothing global changes and no display is needed. They are as wide as a telephone, so
that their text can be read there; pages show them larger where there is room. Colours are those of Okabe & Ito (2008),
which colour-blind readers can tell apart; every series also has a marker or a dash of its own. Text stays text in the
SVG file. Accuracies come in as fractions and are drawn in percent.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import ListedColormap, PowerNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from mote.files.writing import replacing
from mote.reporting.page import short

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
WIDTH = 4.2  # inches
TEXT, SMALL = 9, 8  # points
MAX_TICK_LABELS = 40  # more class names than this cannot be read in a figure
NAMED_ROWS = 20  # classes whose names stand beside a confusion matrix; of more there are numbers
MOST_CELLS = 160  # along the side of a confusion matrix: more could not be told apart
NOT_A_LOSS = {"step", "epoch", "lr", "grad_norm", "time", "skipped"}


def tradeoff_plot(rows: Sequence[Mapping], path: Path | str) -> tuple[Path, Path]:
    """Draw one point per method: closed-set top-1 across, zero-shot top-1 up, bars for 95 % intervals.

    rows: as returned by `mote.metrics.zero_shot.trade_off`: method, closed_set, zero_shot and, where there are
    any, closed_set_interval and zero_shot_interval. Grey curves join points of equal harmonic mean. The names stand
    below, each with its colour and marker.
    Returns the paths of the SVG and the PNG file: `path` with these endings added.
    """
    if not rows:
        raise ValueError("no rows to draw; the trade-off plane needs at least one method")
    figure, axes = _figure(3.6 + 0.2 * len(rows))
    points = 100 * np.array([[row["closed_set"], row["zero_shot"]] for row in rows])  # (methods, 2)
    limits = interval_limits(rows)
    set_range(axes, limits)
    harmonic_curves(axes)
    for i, (row, point, (across, up)) in enumerate(zip(rows, points, limits, strict=True)):
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]}
        bars: dict[str, Any] = {"xerr": np.abs(across - point[0])[:, None], "yerr": np.abs(up - point[1])[:, None]}
        bars["label"] = short(str(row["method"]), 44)
        axes.errorbar(*point, **bars, **style, markersize=7, elinewidth=1.2, capsize=3, linestyle="none", zorder=3)
    name_plane(axes)
    legend = figure.legend(loc="outside lower left", ncols=1, frameon=False, fontsize=TEXT)
    plain_text(legend.get_texts())
    return _save(figure, path)


def confusion_plot(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path | str) -> tuple[Path, Path]:
    """Draw a confusion matrix (K, K) of counts, rows true, each row in percent of its sum; empty rows stay grey.

    Up to 20 classes have their number and name beside the rows, more of them a number, counted from 1 in the order of
    `classes`, and colours that grow with the square root, so that rare confusions are seen. Of more than 160 classes a
    cell is the largest of several.
    Returns the paths of the SVG and the PNG file.
    """
    counts = np.asarray(matrix, dtype=float)
    num = len(classes)
    if counts.shape != (num, num):
        raise ValueError(f"confusion matrix is {counts.shape} but there are {num} class names")
    total = counts.sum(axis=1, keepdims=True)
    percent = np.divide(100 * counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    step = -(-num // MOST_CELLS)
    if step > 1:
        edges = np.arange(0, num, step)
        percent = np.fmax.reduceat(np.fmax.reduceat(percent, edges, axis=0), edges, axis=1)
    figure, axes = _figure(float(np.clip(1.5 + 0.24 * num, 2.4, 4.4)))
    figure.set_layout_engine("compressed")  # for axes that keep their shape: the other one pushes labels over the edge
    edge = 0.5 + step * len(percent)
    show_shares(axes, percent, power=1.0 if num <= NAMED_ROWS else 0.5, extent=(0.5, edge, edge, 0.5))
    axes.set(xlim=(0.5, num + 0.5), ylim=(num + 0.5, 0.5), xlabel="predicted", ylabel="true")
    if num <= NAMED_ROWS:
        size = SMALL if num <= 12 else 6.5
        axes.set_xticks(range(1, num + 1), [str(n) for n in range(1, num + 1)], fontsize=size)
        axes.set_yticks(range(1, num + 1), [f"{short(c, 20)}  {n}" for n, c in enumerate(classes, 1)], fontsize=SMALL)
        plain_text(axes.get_yticklabels())
    else:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10], min_n_ticks=2))
    return _save(figure, path)


def show_shares(axes: Axes, percent: np.ndarray, *, power: float, full: float = 1.0, **settings: Any) -> np.ndarray:
    """Draw a matrix of percentages: nothing at 0, the first colour at 100, `full` of it covered; NaN is grey.

    The rest shows what lies behind, so that it suits light and dark pages. Returns the matrix with NaN masked.
    """
    values = np.ma.masked_invalid(percent)
    ramp = [to_rgba(COLOURS[0], alpha) for alpha in np.linspace(0, full, 256)]
    colours = ListedColormap(ramp).with_extremes(bad=to_rgba("#808080", 0.25))
    norm = PowerNorm(power, vmin=0, vmax=100)
    axes.imshow(values, norm=norm, cmap=colours, interpolation="none", **settings)
    axes.grid(False)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color("#b5b5b5")
    return values


def curves_plot(records: Sequence[Mapping], path: Path | str) -> tuple[Path, Path]:
    """Draw the loss and its terms over steps from the records of a run's log; returns the SVG and the PNG path.

    Every number in a record that is not a step, epoch, rate, norm, time or count is taken for a loss. Long logs are
    drawn pale with their running mean on top.
    """
    steps = [record for record in records if "loss" in record]
    if not steps:
        raise ValueError("the log holds no losses yet; nothing to draw")
    figure, axes = _figure(3.0)
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
    plain_text(axes.legend(frameon=False, fontsize=SMALL).get_texts())
    return _save(figure, path)


def paths_plot(paths: Mapping[str, Sequence[tuple[float, float]]], path: Path | str) -> tuple[Path, Path]:
    """Draw (closed-set, zero-shot) top-1 of each method along its training, as fractions; the last point is filled.

    Grey curves join points of equal harmonic mean. Returns the paths of the SVG and the PNG file.
    """
    if not paths or not all(paths.values()):
        raise ValueError("nothing to draw; expected some methods, each with at least one point")
    figure, axes = _figure(3.6 + 0.2 * len(paths))
    points = {name: 100 * np.array(values, dtype=float) for name, values in paths.items()}
    everything = np.concatenate([*points.values()])
    set_range(axes, np.repeat(everything[:, :, None], 2, axis=2))
    harmonic_curves(axes)
    for i, (name, line) in enumerate(points.items()):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]
        style = {"color": colour, "linewidth": 1.2, "linestyle": DASHES[i % len(DASHES)], "zorder": 3}
        axes.plot(*line.T, marker=marker, markersize=3.5, markerfacecolor="none", **style)
        axes.plot(*line[-1], marker=marker, markersize=7, label=short(name, 44), **style)
    name_plane(axes)
    legend = figure.legend(loc="outside lower left", ncols=1, frameon=False, fontsize=TEXT)
    plain_text(legend.get_texts())
    return _save(figure, path)


def plain_text(texts: Sequence[Text]) -> None:
    """Show texts as they are: a dollar sign in a name begins no formula."""
    for text in texts:
        text.set_parse_math(False)


def _figure(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    dress(axes)
    return figure, axes


def dress(axes: Axes) -> None:
    """The look of all axes: no frame above and right, a faint grid, text that a telephone shows large enough."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b5b5b5")
    axes.grid(color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL, color="#b5b5b5")
    for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
        label.set_fontsize(TEXT)


def _save(figure: Figure, path: Path | str) -> tuple[Path, Path]:
    """Write `path`.svg and `path`.png; equal figures give equal files (no date, no random ids)."""
    path = Path(path)
    svg, png = path.with_name(path.name + ".svg"), path.with_name(path.name + ".png")
    with warnings.catch_warnings():
        # Names in a script that matplotlib's font lacks are boxes in the PNG file; the text of the SVG file has them.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        layout = figure.get_layout_engine()
        assert layout is not None
        layout.execute(figure)  # once for both files
        figure.set_layout_engine("none")
        # Not with `savefig`, which draws every figure twice that had a layout.
        with matplotlib.rc_context({"svg.hashsalt": "mote", "svg.fonttype": "none"}), replacing(svg) as temporary:
            FigureCanvasSVG(figure).print_svg(temporary, metadata={"Date": None})
        figure.set_dpi(150)
        with replacing(png) as temporary:
            FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None})
    return svg, png


def interval_limits(rows: Sequence[Mapping]) -> np.ndarray:
    """Ends of the 95 % intervals in percent, (rows, 2 axes, 2 ends); the point itself where there is none."""
    ends = [[row.get(f"{key}_interval") or (row[key],) * 2 for key in ("closed_set", "zero_shot")] for row in rows]
    return 100 * np.array(ends, dtype=float)


def name_plane(axes: Axes) -> None:
    """Names of the axes of the trade-off plane."""
    axes.set_xlabel("closed-set top-1 (%): classes it was tuned on")
    axes.set_ylabel("zero-shot top-1 (%): new classes")


def set_range(axes: Axes, limits: np.ndarray) -> None:
    """Show all intervals with room for labels, at least 10 points wide, within -2..102 percent."""
    for axis, low, high in (
        (axes.xaxis, limits[:, 0].min(), limits[:, 0].max()),
        (axes.yaxis, limits[:, 1].min(), limits[:, 1].max()),
    ):
        room = max(0.12 * (high - low), (10 - (high - low)) / 2, 1.0)
        first, last = max(low - room, -2.0), min(high + room, 102.0)
        ticks = [
            tick
            for tick in MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(first, last)
            if max(first, 0) <= tick <= min(last, 100)
        ]
        axis.set_ticks(ticks)
        axis.set_view_interval(first, last, ignore=True)


def harmonic_curves(axes: Axes) -> list[Text]:
    """Draw curves of equal harmonic mean 2xy / (x + y) in grey behind everything; returns their labels."""
    x = np.linspace(max(axes.get_xlim()[0], 0.01), axes.get_xlim()[1], 200)
    y = np.linspace(max(axes.get_ylim()[0], 0.01), axes.get_ylim()[1], 200)
    mean = 2 * x * y[:, None] / (x + y[:, None])
    levels = [
        level
        for level in MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(mean.min(), mean.max())
        if mean.min() < level < mean.max()
    ]
    curves = axes.contour(x, y, mean, levels=levels, colors="#b5b5b5", linewidths=0.8, linestyles="--", zorder=1)
    return list(axes.clabel(curves, fmt="%g", fontsize=8, colors="#767676"))

"""Figures of the probability that samples of one class give to the others, of one result and of two compared."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from mote.reporting.plots import COLOURS, _save


def given_plot(
    given: Mapping[str, Sequence[Sequence[float | None]]], classes: Sequence[str], path: Path | str
) -> tuple[Path, Path]:
    """Draw a matrix (K, K) in percent for each entry of `given`: rows give, columns get; returns the SVG and PNG path.

    Two stand side by side, so that the numbers can be read. None stays grey: a class without samples. Colours grow with
    the square root, so that small shares are seen.
    """
    side = float(np.clip(2.0 + 0.3 * len(classes), 3.2, 9.0))
    columns, lines = min(2, len(given)), (len(given) + 1) // 2
    figure = Figure(figsize=(side * columns + 0.8, (side + 0.4) * lines), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    colours = matplotlib.colormaps["Blues"].with_extremes(bad="#dddddd")
    all_axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in all_axes[len(given) :]:
        axes.set_visible(False)
    for axes, (name, rows) in zip(all_axes, given.items(), strict=False):
        values = np.ma.masked_invalid(100 * np.array(rows, dtype=float))
        image = axes.imshow(values, norm=PowerNorm(0.5, vmin=0, vmax=100), cmap=colours)
        axes.set_xticks(range(len(classes)), classes, rotation=90, parse_math=False)
        axes.set_yticks(range(len(classes)), classes, parse_math=False)
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xlabel("gets")
        axes.set_ylabel("samples of")
        if len(classes) <= 12:
            for (y, c), value in np.ndenumerate(values):
                if not np.ma.is_masked(value):
                    ink = "white" if value > 50 else "black"
                    axes.text(c, y, f"{value:.1f}", ha="center", va="center", fontsize=7, color=ink)
    figure.colorbar(image, ax=all_axes, label="%", shrink=0.8)
    return _save(figure, path)


def mined_plot(rows: Sequence[Mapping], names: tuple[str, str], path: Path | str) -> tuple[Path, Path]:
    """Draw the probability that frequent classes give to rare ones, in two results; returns the SVG and PNG path.

    rows: of `mote.metrics.imbalance.mined_table`. names: of the two results.
    """
    if not rows:
        raise ValueError("no pair of a major and a minor class; nothing to draw")
    figure = Figure(figsize=(7.2, 1.0 + 0.42 * len(rows)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = np.arange(len(rows))
    for shift, key, name, colour in ((-0.19, "before", names[0], COLOURS[5]), (0.19, "after", names[1], COLOURS[0])):
        bars = axes.barh(places + shift, [100 * row[key] for row in rows], 0.36, color=colour, label=name)
        axes.bar_label(bars, [f"{100 * row[key]:.2g}" for row in rows], fontsize=8, padding=3)
    axes.set_yticks(places, [f"{row['giver']} → {row['taker']}" for row in rows], parse_math=False, fontsize=9)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    axes.set_xlabel("given by samples of the major class to the minor one (%)")
    axes.legend(frameon=False, loc="lower right")
    return _save(figure, path)

"""Figures of the probability that samples of one class give to the others, of one result and of two compared."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mote.reporting.page import short
from mote.reporting.plots import COLOURS, NAMED_ROWS, SMALL, WIDTH, _save, dress, plain_text, show_shares

PRINTED = 12  # classes; the shares of more are not written into their cells


def given_plot(
    given: Mapping[str, Sequence[Sequence[float | None]]], classes: Sequence[str], path: Path | str
) -> tuple[Path, Path]:
    """Draw a matrix (K, K) in percent for each entry of `given`: rows give, columns get; returns the SVG and PNG path.

    They stand below each other. None stays grey: a class without samples. Colours grow with the square root, so that
    small shares are seen, and leave the numbers readable. Columns are numbered, and the numbers stand beside the names
    of the rows; above 20 classes there are numbers only.
    """
    num = len(classes)
    side = float(np.clip(1.0 + 0.3 * num, 2.2, 4.2))
    figure = Figure(figsize=(WIDTH, (side + 0.3) * len(given)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    all_axes = list(figure.subplots(len(given), squeeze=False)[:, 0])
    for axes, (name, rows) in zip(all_axes, given.items(), strict=True):
        dress(axes)
        extent = (0.5, num + 0.5, num + 0.5, 0.5)
        share = 100 * np.array(rows, dtype=float)
        values = show_shares(axes, share, power=0.5, full=0.6, extent=extent, aspect="auto")
        axes.set_title(name, loc="left", fontsize=TITLE)
        axes.set(xlabel="gets", ylabel="samples of")
        if num <= NAMED_ROWS:
            axes.set_xticks(range(1, num + 1))
            axes.set_yticks(range(1, num + 1), [f"{short(c, 20)}  {n}" for n, c in enumerate(classes, 1)])
            plain_text(axes.get_yticklabels())
        if num <= PRINTED:
            for (y, c), value in np.ndenumerate(values):
                if not np.ma.is_masked(value):
                    text = f"{value:.1f}" if value < 99.95 else "100"
                    axes.text(c + 1, y + 1, text, ha="center", va="center", fontsize=7)
    return _save(figure, path)


TITLE = 10  # points


def mined_plot(rows: Sequence[Mapping], names: tuple[str, str], path: Path | str) -> tuple[Path, Path]:
    """Draw the probability that frequent classes give to rare ones, in two results; returns the SVG and PNG path.

    rows: of `mote.metrics.imbalance.mined_table`. names: of the two results.
    """
    if not rows:
        raise ValueError("no pair of a major and a minor class; nothing to draw")
    figure = Figure(figsize=(WIDTH, 1.3 + 0.42 * len(rows)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    dress(axes)
    axes.grid(False, axis="y")
    places = np.arange(len(rows))
    for shift, key, name, colour in ((-0.19, "before", names[0], COLOURS[5]), (0.19, "after", names[1], COLOURS[0])):
        bars = axes.barh(places + shift, [100 * row[key] for row in rows], 0.36, color=colour, label=name)
        axes.bar_label(bars, [f"{100 * row[key]:.2g}" for row in rows], fontsize=7.5, padding=3)
    axes.set_yticks(places, [f"{short(row['giver'], 12)} → {short(row['taker'], 12)}" for row in rows])
    plain_text(axes.get_yticklabels())
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.set_xlabel("probability given (%)")
    figure.legend(loc="outside lower left", ncols=1, frameon=False, fontsize=SMALL)
    return _save(figure, path)

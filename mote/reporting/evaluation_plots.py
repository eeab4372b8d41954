"""Figures of one evaluation, each written as SVG and PNG: recall per class, and the reliability curve.

Narrow enough to be read on a phone. Recall and confidence come in as fractions and are drawn in percent. Reliability:
Guo et al. (2017), accuracy against mean confidence per bin; how many clips a bin holds stands below.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mote.reporting.page import short
from mote.reporting.plots import COLOURS, MAX_TICK_LABELS, SMALL, TEXT, WIDTH, _save, dress, plain_text

BAR = 0.2  # inches for a class
EXTREMES = 20  # worst and best classes shown where not all can be
NAME_LENGTH = 20  # columns of a class name beside its bar


def recall_plot(per_class: Sequence[Mapping], path: Path | str) -> tuple[Path, Path]:
    """Draw the recall of each class, lowest first; returns the paths of the SVG and the PNG file.

    per_class: class, listed, correct, recall, as in a result. Of more than 40 classes the worst and the best 20 get a
    bar, and a strip shows all.
    """
    if not per_class:
        raise ValueError("no class has a clip; nothing to draw")
    rows = sorted(per_class, key=lambda row: row["recall"])
    if len(rows) <= MAX_TICK_LABELS:
        (axes,) = _figure([BAR * len(rows) + 0.2])
        _bars(axes, rows)
    else:
        strip, worst, best = _figure([0.9, BAR * EXTREMES, BAR * EXTREMES])
        _strip(strip, rows)
        _bars(worst, rows[:EXTREMES])
        _bars(best, rows[-EXTREMES:])
        worst.set_title(f"the lowest {EXTREMES}", loc="left", fontsize=TEXT)
        best.set_title(f"the highest {EXTREMES}", loc="left", fontsize=TEXT)
        axes = best
    axes.set_xlabel("recall (%), and right of listed")
    figure = axes.figure
    assert isinstance(figure, Figure)
    return _save(figure, path)


def calibration_plot(calibration: Mapping, path: Path | str) -> tuple[Path, Path]:
    """Draw accuracy against confidence per bin and the clips in each; returns the paths of the SVG and the PNG file.

    calibration: as returned by `mote.metrics.statistics.expected_calibration_error`.
    """
    bins = [row for row in calibration["bins"] if row["count"]]
    if not bins:
        raise ValueError("every bin of the calibration is empty; nothing to draw")
    curve, counts = _figure([3.2, 1.1])
    curve.plot([0, 100], [0, 100], color="#767676", linestyle="--", linewidth=1, label="as right as it is sure")
    confidence, accuracy = (100 * np.array([row[name] for row in bins]) for name in ("confidence", "accuracy"))
    share = np.array([row["count"] for row in bins]) / max(row["count"] for row in bins)
    curve.plot(confidence, accuracy, color=COLOURS[0], linewidth=1.2, label="measured")
    curve.scatter(confidence, accuracy, 12 + 60 * share, color=COLOURS[0], clip_on=False, zorder=3)
    curve.set_ylabel("accuracy (%)")
    curve.set_ylim(0, 103)
    curve.legend(frameon=False, loc="upper left", fontsize=SMALL)
    low, width = (
        np.array(v) for v in zip(*((100 * r["low"], 100 * (r["high"] - r["low"])) for r in bins), strict=True)
    )
    bars = counts.bar(low, [row["count"] for row in bins], 0.9 * width, align="edge", color=COLOURS[5])
    counts.bar_label(bars, fontsize=7, padding=1)
    counts.set_ylabel("number")
    counts.margins(y=0.25)
    counts.grid(False, axis="x")
    counts.set_xlabel("confidence (%): probability of the predicted class")
    for axes in (curve, counts):
        axes.set_xlim(0, 100)
    figure = curve.figure
    assert isinstance(figure, Figure)
    return _save(figure, path)


def _figure(heights: Sequence[float]) -> list[Axes]:
    """Axes of these heights in inches below each other, without upper and right borders."""
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.6 + 0.3 * (len(heights) - 1)), layout="constrained")
    figure.set_facecolor("white")
    FigureCanvasAgg(figure)
    all_axes = list(figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0])
    for axes in all_axes:
        dress(axes)
    return all_axes


def _bars(axes: Axes, rows: Sequence[Mapping]) -> None:
    places = range(len(rows))
    bars = axes.barh(places, [100 * row["recall"] for row in rows], 0.72, color=COLOURS[0])
    texts = [f"{100 * row['recall']:.0f}  ({row['correct']}/{row['listed']})" for row in rows]
    axes.bar_label(bars, texts, fontsize=7.5, padding=3)
    axes.set_yticks(places, [short(row["class"], NAME_LENGTH) for row in rows], fontsize=SMALL)
    plain_text(axes.get_yticklabels())
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 100)  # the layout makes room for the text behind a full bar
    axes.set_xticks(range(0, 101, 25))
    axes.grid(False, axis="y")


def _strip(axes: Axes, rows: Sequence[Mapping]) -> None:
    recall = [100 * row["recall"] for row in rows]
    axes.fill_between(np.arange(len(rows) + 1), [*recall, recall[-1]], step="post", color=COLOURS[0], linewidth=0)
    axes.axhline(float(np.mean(recall)), color="#000000", linestyle="--", linewidth=1)
    axes.set_title(f"all {len(rows)} classes; dashed: mean", loc="left", fontsize=TEXT)
    axes.set_xlim(0, len(rows))
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 50, 100])

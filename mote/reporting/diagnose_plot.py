"""Figures of `mote diagnose`: distance of classes from their boundary, convergence of Lanczos, rank correlations."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mote.reporting.page import short
from mote.reporting.plots import (
    COLOURS,
    DASHES,
    MARKERS,
    MAX_TICK_LABELS,
    SMALL,
    TEXT,
    WIDTH,
    _figure,
    _save,
    dress,
    plain_text,
)

SHOWN = 15  # classes nearest to their boundary, and as many farthest from it, where there are too many for all


def classes_plot(rows: Sequence[Mapping], path: Path | str) -> tuple[Path, Path]:
    """Draw the median radius of each class, smallest first, its samples beside it; returns the SVG and PNG path.

    rows: `class`, `samples`, `radius` (may be infinite: drawn to the edge) and `accuracy`.
    """
    if not rows:
        raise ValueError("no classes to draw")
    ordered = sorted(rows, key=lambda row: row["radius"])
    title = f"all {len(rows)} classes"
    if len(rows) > MAX_TICK_LABELS:
        ordered, title = [*ordered[:SHOWN], *ordered[-SHOWN:]], f"{SHOWN} lowest, {SHOWN} highest of {len(rows)}"
    values = np.array([row["radius"] for row in ordered], dtype=float)
    finite = values[np.isfinite(values)]
    edge = 1.05 * np.abs(finite).max() if finite.size else 1.0
    figure, axes = _figure(0.9 + 0.19 * len(ordered))
    colours = [COLOURS[0] if value > 0 else COLOURS[1] for value in values]
    axes.barh(range(len(ordered)), np.clip(values, -edge, edge), color=colours)
    axes.axvline(0, color="#444444", linewidth=0.8)
    names = [f"{short(row['class'], 20)} ({row['samples']})" for row in ordered]
    axes.set_yticks(range(len(ordered)), names, fontsize=SMALL)
    plain_text(axes.get_yticklabels())
    axes.set_ylim(len(ordered) - 0.4, -0.6)  # the first on top
    axes.grid(False, axis="y")
    axes.set_xlabel("median radius (units of the input)")
    axes.set_title(title, loc="left", fontsize=SMALL, color="#555555")
    return _save(figure, path)


def lanczos_plot(
    histories: Mapping[str, Sequence[tuple[float, float]]], values: Mapping[str, float], path: Path | str
) -> tuple[Path, Path]:
    """Draw residual over Ritz value against the number of products for each operator; returns the SVG and PNG path.

    values: for the legend, the quantity that each operator is measured for, as it stands in the table.
    """
    figure, axes = _figure(3.2)
    for i, (name, history) in enumerate(histories.items()):
        value, residual = np.array(history, dtype=float).T
        relative = np.divide(residual, np.abs(value), out=np.zeros_like(residual), where=value != 0)
        axes.plot(
            np.arange(1, len(value) + 1),
            np.maximum(relative, 1e-16),
            color=COLOURS[i % len(COLOURS)],
            linestyle=DASHES[i % len(DASHES)],
            marker=MARKERS[i],
            label=f"{name}: {values[name]:.4g}",
        )
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("products")
    axes.set_ylabel("residual / eigenvalue")
    figure.legend(loc="outside lower left", ncols=1, frameon=False, fontsize=SMALL)
    return _save(figure, path)


def correlation_plot(
    quantities: Mapping[str, Mapping], accuracy: Sequence[float], path: Path | str
) -> tuple[Path, Path]:
    """Draw held-out balanced accuracy against every quantity, a point a run; returns the SVG and PNG path.

    quantities: `values`, `rho` and `p` by name. Values that are all positive are drawn on a logarithmic axis.
    """
    columns = min(2, len(quantities))
    lines = -(-len(quantities) // columns)
    figure = Figure(figsize=(WIDTH, 1.9 * lines + 0.3), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for i, (name, row) in enumerate(quantities.items()):
        axes = figure.add_subplot(lines, columns, i + 1)
        values = np.array(row["values"], dtype=float)
        dress(axes)
        axes.plot(values, 100 * np.array(accuracy), "o", color=COLOURS[0], markersize=5)
        if (values > 0).all() and values.max() > 3 * values.min():
            axes.set_xscale("log")
        axes.set_title(f"{name}\nrho {row['rho']:+.2f}, p {row['p']:.3f}", fontsize=SMALL, loc="left")
    figure.supylabel("held-out balanced accuracy (%)", fontsize=TEXT)
    return _save(figure, path)

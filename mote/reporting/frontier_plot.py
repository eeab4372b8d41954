"""The specialisation-generalisation plane of one model under many settings, its frontier drawn through the best."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mote.reporting.plots import COLOURS, _figure, _harmonic_curves, _place_labels, _save, _set_range

STYLES = {  # sweep -> colour, marker, how it is called
    "model": (COLOURS[6], "*", "the model as it is"),
    "alpha": (COLOURS[0], "o", "alpha: tower interpolated with CLIP"),
    "gate": (COLOURS[1], "s", "gate of the temporal branch"),
    "expert": (COLOURS[2], "^", "one expert alone"),
}


def frontier_plot(rows: Sequence[Mapping], path: Path | str) -> tuple[Path, Path]:
    """Draw closed-set top-1 across, zero-shot top-1 up, one labelled point per setting; returns the SVG and PNG path.

    rows: as from `mote.metrics.frontier.with_pareto`. Numeric sweeps are joined in the order of their values. Points
    on the frontier are ringed and joined by a staircase: what lies below or left of it is dominated.
    """
    if not rows:
        raise ValueError("no rows to draw; the frontier needs at least one setting")
    figure, axes = _figure(8.0, 6.0)
    points = 100 * np.array([[row["closed_set"], row["zero_shot"]] for row in rows])  # (settings, 2)
    _set_range(axes, np.stack([points, points], axis=-1))
    numbers = _harmonic_curves(axes)
    for sweep, (colour, marker, name) in STYLES.items():
        chosen = [i for i, row in enumerate(rows) if row["sweep"] == sweep]
        if not chosen:
            continue
        size = 20 if sweep == "model" else 7
        axes.plot(*points[chosen].T, marker, color=colour, markersize=size, label=name, zorder=4)
        if sweep in ("alpha", "gate"):
            own = sorted(
                (row["value"], i) for i, row in enumerate(rows) if row["sweep"] == sweep and row["value"] is not None
            )
            path_of = [i for _, i in own]
            if sweep == "alpha":  # it ends in the model itself, alpha 1
                path_of += [i for i, row in enumerate(rows) if row["sweep"] == "model"]
            axes.plot(*points[path_of].T, "-", color=colour, linewidth=1, alpha=0.5, zorder=2)
    best = np.array(sorted({tuple(points[i]) for i, row in enumerate(rows) if row["pareto"]}))
    left, bottom = axes.get_xlim()[0], axes.get_ylim()[0]
    corners = np.vstack([[left, best[0, 1]], best, [best[-1, 0], bottom]])
    line = {"color": "#444444", "linewidth": 1.2, "zorder": 3}
    axes.plot(*corners.T, drawstyle="steps-pre" if len(best) > 1 else "default", **line)
    ring = {"linestyle": "none", "markerfacecolor": "none", "markeredgecolor": "#444444", "markersize": 14, "zorder": 5}
    axes.plot(*best.T, marker="o", **ring, label="on the frontier (Pareto-optimal)")
    axes.set_xlabel("closed-set top-1 (%), classes it was tuned on")
    axes.set_ylabel("zero-shot top-1 (%), classes it has never seen")
    axes.set_title(
        "Zero-shot: harmonic mean over data sets. Grey dashes: equal harmonic mean of the two axes.",
        loc="left",
        fontsize=9,
        color="#555555",
    )
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.draw_without_rendering()  # the constrained layout settles, so pixels are final
    taken = [number.get_window_extent() for number in numbers]
    exact = np.stack([points, points], axis=-1)
    colours = [STYLES[row["sweep"]][0] for row in rows]
    _place_labels(axes, points, exact, [str(row["name"]) for row in rows], colours, taken)
    return _save(figure, path)

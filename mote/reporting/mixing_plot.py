"""The figure of `mote diagnose mixing`: one curve a(d) for each method, the closed form of Mixup as a grey line."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mote.reporting.plots import COLOURS, DASHES, MARKERS, SMALL, _figure, _save


def mixing_plot(
    curves: Mapping[str, np.ndarray], closed_form: float, path: Path | str, title: str
) -> tuple[Path, Path]:
    """Draw a (D,) of each method against d / D; returns the paths of the SVG and the PNG file."""
    figure, axes = _figure(3.9)
    axes.axhline(closed_form, color="#999999", linewidth=6, alpha=0.35, label=f"Mixup, closed form: {closed_form:.4f}")
    for i, (name, curve) in enumerate(curves.items()):
        axes.plot(
            np.arange(len(curve)) / len(curve),
            curve,
            color=COLOURS[i % len(COLOURS)],
            linestyle=DASHES[i % len(DASHES)],
            marker=MARKERS[i % len(MARKERS)],
            markevery=max(1, len(curve) // 8),
            label=name,
        )
    axes.set_xlabel("distance of two pixels over the side of the image")
    axes.set_ylabel("a = E[(1 − M)(1 − M′)]")
    axes.set_ylim(bottom=0)
    figure.suptitle(title, fontsize=7, color="#555555", x=0.01, ha="left")
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=SMALL)
    return _save(figure, path)

"""The figures of the method pages, drawn from the functions of the package, so that they show what the code does.

uv run python tools/docs_figures.py --out docs/figures
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mote.datasets.mixing import METHODS
from mote.models.routing import DEFAULT_TEMPERATURES, expert_weights
from mote.regularizers.extra_knowledge import class_weights, smooth_label_matrix
from mote.regularizers.gaussian_mixture import axis_centres, isotropic, mixture_cdf
from mote.regularizers.r_drop import symmetric_kl
from mote.sparsity.lasso import GroupLasso

ROOT = Path(__file__).resolve().parents[1]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
RAFDB = {"surprise": 1290, "fear": 281, "disgust": 717, "happy": 4772, "sad": 1982, "anger": 705, "neutral": 2524}
STYLE = {"svg.hashsalt": "mote", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11}


def routing(axes: list[Axes]) -> None:
    """Probability that a layer draws each of four experts, at three temperatures."""
    for place, temperature in enumerate((0.5, 1.0, 4.0)):
        weights = expert_weights(4, temperature)
        axes[0].bar(np.arange(1, 5) + 0.27 * (place - 1), weights, 0.25, color=COLOURS[place], label=f"{temperature:g}")
    axes[0].set(xlabel="expert i", ylabel="P(i)", xticks=range(1, 5))
    axes[0].legend(title="loss.route_temperature", frameon=False)


def merging(axes: list[Axes]) -> None:
    """Weights of four experts in a merge, for every temperature that may be drawn."""
    shades, levels = matplotlib.colormaps["coolwarm"], np.unique(np.abs(DEFAULT_TEMPERATURES))
    for tau in DEFAULT_TEMPERATURES:
        strength = 0.5 - 0.5 * np.searchsorted(levels, abs(tau)) / len(levels)
        colour = "#000000" if tau == np.inf else shades(0.5 + np.sign(tau) * strength)
        label = "∞" if tau == np.inf else f"{tau:+g}"
        axes[0].plot(range(1, 5), expert_weights(4, tau), "o-", color=colour, label=label)
    axes[0].set(xlabel="expert i", ylabel="weight in the merge", xticks=range(1, 5))
    axes[0].legend(title="τ", frameon=False, ncols=2, loc="upper center")


def modulation(axes: list[Axes]) -> None:
    """Factor of the temporal branch against the similarity of the class names."""
    s = np.linspace(0.6, 1, 200)
    for gamma, colour in zip((0.02, 0.05, 0.1), COLOURS, strict=False):
        axes[0].plot(s, np.exp(-(1 - s) / gamma), color=colour, label=f"{gamma:g}")
    axes[0].set(xlabel="similarity s of the nearest class names", ylabel="factor ρ of the temporal branch")
    axes[0].legend(title="evaluation.modulation_gamma", frameon=False)


def mek(axes: list[Axes]) -> None:
    """Smooth targets of a frequent and of a rare class, with the class counts of RAF-DB."""
    names = list(RAFDB)
    matrix = smooth_label_matrix(class_weights(torch.tensor(list(RAFDB.values()))), 0.3)
    for place, name in enumerate(("happy", "fear")):
        row = matrix[names.index(name)]
        axes[0].bar(np.arange(7) + 0.4 * place - 0.2, row.numpy(), 0.38, color=COLOURS[place], label=name)
    axes[0].set(ylabel="target probability (ε = 0.3)", xticks=range(7), xticklabels=names)
    axes[0].tick_params(axis="x", rotation=30)
    axes[0].legend(title="class of the sample", frameon=False)


def sparsity(axes: list[Axes]) -> None:
    """Strength of the penalty over a run, and what is left of a group of a given norm."""
    lasso = GroupLasso.__new__(GroupLasso)
    lasso.strength, lasso.start, lasso.ramp, lasso.stop = 0.1, 0.0, 0.1, 0.7
    run = np.linspace(0, 0.999, 500)
    axes[0].plot(run, [lasso.strength_at(share) for share in run], color=COLOURS[0])
    axes[0].set(xlabel="share of the run that is done", ylabel="strength", ylim=(0, None))
    norm = np.linspace(0.01, 3, 300)
    for threshold, colour in zip((0.25, 0.5, 1.0), COLOURS[1:], strict=False):
        axes[1].plot(norm, norm * np.clip(1 - threshold / norm, 0, None), color=colour, label=f"{threshold:g}")
    axes[1].set(xlabel="norm of a group without the penalty", ylabel="norm that it keeps")
    axes[1].legend(title="threshold", frameon=False)


def r_drop(axes: list[Axes]) -> None:
    """Divergence of two passes whose cosines differ by a hundredth, against the temperature."""
    generator = torch.Generator().manual_seed(0)
    cosines = 0.2 + 0.05 * torch.randn(200, 50, generator=generator)
    other = cosines + 0.01 * torch.randn(200, 50, generator=generator)
    temperatures = np.geomspace(1, 100, 40)
    values = [symmetric_kl(100 * cosines, 100 * other, float(t)).mean() for t in temperatures]
    axes[0].loglog(temperatures, values, color=COLOURS[0])
    axes[0].set(xlabel="r_drop.temperature", ylabel="divergence of the two passes, nats")


def mixing(axes: list[Axes]) -> None:
    """One mask of each method with the same share and centre; white: the first clip, black: the second."""
    lam, centre = torch.tensor([0.6]), torch.tensor([[0.45, 0.55]])
    for place, (name, method) in zip(axes, METHODS.items(), strict=True):
        mask = method(lam, centre, (64, 64), 0.5).expand(1, 64, 64)[0]
        place.imshow(mask, cmap="gray", vmin=0, vmax=1)
        place.set(xticks=[], yticks=[])
        place.set_title(f"{name}, mean {mask.mean():.2f}", fontsize=10)


def autoencoder(axes: list[Axes]) -> None:
    """Density of one coordinate of the prior, for modes that are close and modes that are apart."""
    t = torch.linspace(-4, 9, 400)
    for separation, colour in zip((2**0.5, 3, 6), COLOURS, strict=False):
        prior = isotropic(axis_centres(2, 2, separation))
        cdf = mixture_cdf(t[:, None].expand(-1, 2), prior)[:, 0]
        axes[0].plot(t[1:], cdf.diff() / t.diff(), color=colour, label=f"{separation:.3g}")
    axes[0].set(xlabel="one coordinate of a code", ylabel="density of the prior (two modes)", ylim=(0, None))
    axes[0].legend(title="autoencoder.separation", frameon=False)


def diagnostics(axes: list[Axes]) -> None:
    """Flatness and smoothness of the runs in the table of configs/README.md, against learning rate over batch size."""
    text = (ROOT / "configs" / "README.md").read_text(encoding="utf-8").partition("## Flat, hence smooth?")[2]
    rows = [line.strip("| ").split("|") for line in re.findall(r"^\| [\d.]+ \|.*$", text.partition("\n## ")[0], re.M)]
    numbers = np.array([[float(cell) for cell in row] for row in rows])
    ratio = numbers[:, 0] / numbers[:, 1]
    for place, column, label in zip(axes, (3, 5), ("Gauss-Newton trace", "gradient in the input"), strict=True):
        place.semilogx(ratio, numbers[:, column], "o", color=COLOURS[0])
        place.set(xlabel="learning rate / batch size", ylabel=label, ylim=(0, None))
        place.set_xticks([0.004, 0.01, 0.03, 0.06], ["0.004", "0.01", "0.03", "0.06"])
        place.xaxis.set_minor_locator(NullLocator())


FIGURES: dict[str, tuple[Callable[[list[Axes]], None], int]] = {  # name -> how it is drawn, number of panels
    "routing": (routing, 1),
    "merging": (merging, 1),
    "modulation": (modulation, 1),
    "mek": (mek, 1),
    "sparsity": (sparsity, 2),
    "r_drop": (r_drop, 1),
    "mixing": (mixing, 4),
    "autoencoder": (autoencoder, 1),
    "diagnostics": (diagnostics, 2),
}


def draw(name: str, path: Path) -> None:
    """Write one figure as SVG; the same file whenever the package says the same."""
    function, panels = FIGURES[name]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.2 if panels == 4 else 3.4), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        axes = [figure.add_subplot(1, panels, place + 1) for place in range(panels)]
        for place in axes:
            place.spines[["top", "right"]].set_visible(panels == 4)
        function(axes)
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Write all figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        draw(name, folder / f"{name}.svg")
        print(folder / f"{name}.svg")


if __name__ == "__main__":
    main()

"""The verb `mote diagnose mixing`: the mask law of each mixing method, as a table, a figure and a CSV file."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from mote.datasets.mixing import METHODS, Mixer
from mote.diagnostics.quantities.mixing_law import mask_law, mixup_law
from mote.files.provenance import versions
from mote.files.writing import alone, replacing_together, write_atomic
from mote.reporting.diagnose_page import write_mixing_page
from mote.reporting.mixing_plot import mixing_plot
from mote.reporting.page import text_table

BATCH = 100


def mixing_report(
    out: Path, *, size: tuple[int, int, int], draws: int, seed: int, alpha: float, ratio: float, extent: str
) -> dict[str, np.ndarray]:
    """Write `out`/mixing_law.csv, .svg, .png, .html and print the table; the law a (T, D) of each method.

    Args:
        out: folder, made where it is missing.
        size: (T, H, W) of the masks.
        draws: masks of each method, rounded up to hundreds.
        seed: of the draws.
        alpha, ratio, extent: see `mote.datasets.mixing.Mixer`.

    Raises:
        ValueError: a size or a setting out of range.
        InUseError: another process makes the same report.
    """
    if min(size) < 1 or min(size[1:]) < 2 or draws < 1:
        raise ValueError(f"expected at least 1 frame, 2 x 2 pixels and 1 draw, got {size} and {draws}")
    laws, shares = {}, {}
    with alone(out / "mixing_law.csv"):
        for name in METHODS:
            mixer = Mixer([name], 1, alpha=alpha, ratio=ratio, extent=extent)
            rng = np.random.default_rng((seed, list(METHODS).index(name)))
            laws[name], shares[name] = mask_law(_batches(mixer, size, draws, rng, name))
        ways = f"alpha {alpha:g}, ratio {ratio:g} (hmix), {extent}"
        settings = f"{size[0]} x {size[1]} x {size[2]}, {ways}, {draws} draws"
        exact, origin = mixup_law(alpha), f"seed {seed}, mote {versions()['mote']}"
        title = f"What each method ties together: {settings}"
        with replacing_together(out) as stage:
            write_atomic(stage / "mixing_law.csv", _csv(laws, shares, f"{settings}, {origin}"))
            svg, _ = mixing_plot({name: law[0] for name, law in laws.items()}, exact, stage / "mixing_law", title)
            write_mixing_page(stage / "mixing_law.html", _table(laws, shares), svg, exact, settings, seed)
    print(
        f"{text_table(_table(laws, shares))}\nmixup, closed form: {exact:.4f}\n{out}/mixing_law.csv, .svg, .png, .html"
    )
    return laws


def _batches(
    mixer: Mixer, size: tuple[int, int, int], draws: int, rng: np.random.Generator, name: str
) -> Iterator[Tensor]:
    for _ in tqdm(range(0, draws, BATCH), desc=name, disable=None):
        yield mixer.masks(BATCH, size, rng).expand(BATCH, *size)


def _table(laws: dict[str, np.ndarray], shares: dict[str, float]) -> list[dict[str, str]]:
    """Rows for `text_table`: the law within a frame, at distances that are fractions of the side."""
    length = next(iter(laws.values())).shape[1]
    at = sorted({min(round(share * length), length - 1) for share in (0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1)})
    return [
        {"method": name, "E[1-M]": f"{shares[name]:.3f}"} | {f"a({d}/{length})": f"{law[0, d]:.3f}" for d in at}
        for name, law in laws.items()
    ]


def _csv(laws: dict[str, np.ndarray], shares: dict[str, float], comment: str) -> str:
    text = io.StringIO()
    text.write(f"# {comment}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "mean_of_1_minus_mask", "frames_apart", "pixels_apart", "a"])
    for name, law in laws.items():
        for (t, d), value in np.ndenumerate(law):
            writer.writerow([name, f"{shares[name]:.6f}", t, d, f"{value:.6f}"])
    return text.getvalue()

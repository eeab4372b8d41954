"""Flatness and smoothness over learning rate and batch size, at one training loss: does the trend of the theory hold?

Ma & Ying (NeurIPS 2021): SGD at a large rate or on small batches can only stay at flat minima, and flat ones are smooth
in the input. Every cell trains the temporal head of configs/stability_sweep.yaml on cached features of the demo world
(8 clips of each of 72 classes) by plain SGD at a constant rate, without momentum or decay, until the mean cross-entropy
on its clips is `--loss`; cells that do not get there in `--epochs` did not fit and are left out, by name. Then each is
scored on held-out clips and diagnosed as by `mote diagnose`, and all are compared as by `mote diagnose --compare`.

Cells that are done are kept, so it can be stopped and started again; `--minutes` stops it after a whole cell.

    python tools/sweep_stability.py --out runs/stability
"""

import argparse
import json
import time
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch.nn import functional as F

from mote.config import Config, dump, load
from mote.datasets.loader import FeatureDataset
from mote.datasets.synthetic.clips import make_world
from mote.diagnostics.compare import compare_runs
from mote.diagnostics.report import diagnose
from mote.diagnostics.request import Request
from mote.evaluation.videos import evaluate
from mote.experiments.assemble import assemble
from mote.experiments.video import VideoExperiment as Experiment
from mote.files.provenance import versions
from mote.files.writing import to_json, write_atomic
from mote.metrics.statistics import rank_correlation
from mote.parallel.accelerator import make_accelerator

RECIPE = Path(__file__).resolve().parents[1] / "configs" / "stability_sweep.yaml"
FLAT, SMOOTH = ("gauss_newton_trace", "gauss_newton_top"), ("input_gradient", "radius_median")
CPU = torch.device("cpu")


def settings(out: Path, world: Path, rate: float, batch_size: int, seed: int) -> Config:
    """The recipe for one cell."""
    splits = make_world(world)
    train = out / "train.txt"
    if not train.is_file():
        root = splits["train"].manifest.parent.resolve()
        seen: dict[str, int] = {}
        lines = []
        for line in splits["train"].manifest.read_text().splitlines():
            path, label = line.rsplit(" ", 1)
            seen[label] = seen.get(label, 0) + 1
            lines += [f"{root / path} {label}\n"] * (seen[label] <= 8)
        write_atomic(train, "".join(lines))
    files = {"data.train": train, "data.classes": splits["train"].classes, "run.out": cell(out, rate, batch_size, seed)}
    files |= {"evaluation.manifest": splits["closed_test"].manifest, "evaluation.cache": out / "features"}
    overrides = [f"{key}={json.dumps(str(value.resolve()))}" for key, value in files.items()]
    more = [f"optim.lr={rate}", f"optim.batch_size={batch_size}", f"seed={seed}", "run.cpu=true"]
    return load([RECIPE], [*overrides, *more])


def cell(out: Path, rate: float, batch_size: int, seed: int) -> Path:
    """Run directory of one cell."""
    return out / f"lr{rate:g}_batch{batch_size}_seed{seed}"


def fit(experiment: Experiment, data: FeatureDataset, target: float, epochs: int) -> tuple[float, int]:
    """Plain SGD until the mean cross-entropy is at most `target`; returns it and the number of steps."""
    config, task = experiment.config, experiment.task
    head, text = experiment.model.temporal, task.text
    assert head is not None
    optimizer = torch.optim.SGD(head.parameters(), config.optim.lr)
    generator = torch.Generator().manual_seed(config.seed)
    size, steps, loss = config.optim.batch_size, 0, float("inf")
    often = max(1, len(data) // size // 4)  # the loss on all clips, four times an epoch

    def mean_loss(chosen: torch.Tensor) -> torch.Tensor:
        logits = experiment.model.classify(experiment.model.head(data.features[chosen]), text)
        return F.cross_entropy(logits, data.labels[chosen])

    everything = torch.arange(len(data))
    for _ in range(epochs):
        for chosen in torch.randperm(len(data), generator=generator).split(size):
            optimizer.zero_grad()
            mean_loss(chosen).backward()
            optimizer.step()
            steps += 1
            if steps % often == 0:
                with torch.no_grad():
                    loss = mean_loss(everything).item()
                if loss <= target or not np.isfinite(loss):
                    return loss, steps
    return loss, steps


def run_cell(config: Config, data: FeatureDataset, target: float, epochs: int, samples: int) -> dict:
    """Train, score and diagnose one cell; the numbers that the figure needs."""
    out, start = Path(config.run.out or ""), time.monotonic()
    experiment = assemble(config, make_accelerator(cpu=True))
    loss, steps = fit(experiment, data, target, epochs)
    row = {"lr": config.optim.lr, "batch_size": config.optim.batch_size, "seed": config.seed, "steps": steps}
    row |= {"loss": loss if np.isfinite(loss) else None, "fitted": bool(loss <= target)}
    if row["fitted"]:
        experiment.save(out / "best", selected=f"training loss {target}")
        write_atomic(out / "config.yaml", dump(config))
        summary = evaluate(experiment.classifier(), config, make_accelerator(cpu=True), out / "evaluations", page=False)
        write_atomic(out / "metrics.json", to_json(summary))
        request = Request(samples=samples, parts=("margin", "gradients", "gauss_newton"), probes=4)
        quantities = diagnose(out, config, out / "diagnostics", request)
        row |= {key: quantities[key] for key in (*FLAT, *SMOOTH, "train_loss")}
        row["balanced_accuracy"] = summary["mean_class_recall"]
    row["seconds"] = time.monotonic() - start
    write_atomic(out / "cell.json", to_json(row))
    return row


def trends(rows: list[dict]) -> list[str]:
    """Plain words: with which sign each quantity goes with rate and batch size, and whether the theory says so."""
    lines = []
    fitted = [row for row in rows if row["fitted"]]
    noise = np.array([row["lr"] / row["batch_size"] for row in fitted])
    expected = dict.fromkeys((*FLAT, "input_gradient"), -1) | {"radius_median": 1}
    for name, sign in expected.items():
        values = np.array([row[name] for row in fitted])
        for what, axis in (("lr", [r["lr"] for r in fitted]), ("batch", [-r["batch_size"] for r in fitted]),
                           ("lr / batch", noise)):  # fmt: skip
            found = rank_correlation(np.array(axis, dtype=float), values) if len(fitted) >= 3 else None
            if found is None:
                continue
            rho, p = found
            verdict = "no trend" if p > 0.05 else "holds" if rho * sign > 0 else "REVERSED"
            against = "smaller batch" if what == "batch" else f"larger {what}"
            lines.append(f"{name} with {against}: rho {rho:+.2f}, p {p:.4f}: theory's trend {verdict}")
    return lines


def draw(rows: list[dict], path: Path) -> None:
    """Flatness and smoothness against rate (one line a batch size) and batch size (one line a rate)."""
    figure = Figure(figsize=(13, 6), layout="constrained")
    FigureCanvasAgg(figure)
    fitted = [row for row in rows if row["fitted"]]
    colours = matplotlib.colormaps["viridis"]
    for half, (x, other) in enumerate((("lr", "batch_size"), ("batch_size", "lr"))):
        lines = sorted({row[other] for row in fitted})
        for column, name in enumerate((*FLAT, *SMOOTH)):
            axes = figure.add_subplot(2, 4, 4 * half + column + 1)
            for i, value in enumerate(lines):
                own = [row for row in fitted if row[other] == value]
                at = sorted({row[x] for row in own})
                mean = [np.mean([row[name] for row in own if row[x] == place]) for place in at]
                axes.plot(at, mean, "o-", color=colours(i / max(len(lines), 2)), label=f"{other} {value:g}")
            positive = all(row[name] > 0 for row in fitted)
            axes.set(xscale="log", yscale="log" if positive else "linear", xlabel=x)
            places = sorted({row[x] for row in fitted})
            axes.set_xticks(places, [f"{place:g}" for place in places])
            axes.set_xticks([], minor=True)
            axes.set_title(name, fontsize=9, loc="left")
            if column == 0:
                axes.legend(frameon=False, fontsize=7)
    figure.savefig(path.with_suffix(".png"), dpi=130)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def main() -> None:
    """Run the cells that are missing, print trends and ranking, write sweep.json, .png and .svg."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/stability"))
    parser.add_argument("--world", type=Path, help="folder of the demo world (default: OUT/world; made where missing)")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.5, 1.0, 2.0, 4.0])
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--loss", type=float, default=0.3, help="training loss at which every cell stops")
    parser.add_argument("--epochs", type=int, default=100, help="after which a cell did not fit")
    parser.add_argument("--samples", type=int, default=128, help="clips to diagnose")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further cell after so long")
    given = parser.parse_args()
    torch.set_num_threads(1)
    start, rows, data = time.monotonic(), [], None
    world = given.world or given.out / "world"
    wanted = [(rate, size, seed) for seed in given.seeds for size in reversed(given.batches) for rate in given.rates]
    for rate, size, seed in wanted:
        done = cell(given.out, rate, size, seed) / "cell.json"
        if not done.is_file():
            if time.monotonic() - start > 60 * given.minutes:
                continue
            config = settings(given.out, world, rate, size, seed)
            if data is None:
                data = assemble(config, make_accelerator(cpu=True)).loader().dataset
            row = run_cell(config, data, given.loss, given.epochs, given.samples)
            print(f"{len(rows) + 1}/{len(wanted)} {row}", flush=True)
        rows.append(json.loads(done.read_text()))
    fitted = [row for row in rows if row["fitted"]]
    names = [str(cell(given.out, row["lr"], row["batch_size"], row["seed"])) for row in rows]
    missing = [name for name, row in zip(names, rows, strict=True) if not row["fitted"]]
    print(f"{len(fitted)} of {len(rows)} cells fitted; did not: {', '.join(missing) or 'none'}")
    lines = trends(rows)
    print("\n".join(lines))
    if len(fitted) >= 2:
        draw(rows, given.out / "sweep")
        compare_runs([name for name, row in zip(names, rows, strict=True) if row["fitted"]], given.out / "comparison")
    document = {"loss": given.loss, "cells": rows, "not_fitted": missing, "trends": lines, "versions": versions()}
    write_atomic(given.out / "sweep.json", to_json(document))


if __name__ == "__main__":
    main()

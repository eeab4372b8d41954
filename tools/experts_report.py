"""Tables and figure of `compare_experts.py`: means over seeds, choices made on held-out classes, paired differences."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mote.files.provenance import versions
from mote.files.writing import to_json, write_atomic
from mote.metrics.accuracy import harmonic_mean
from mote.metrics.statistics import bootstrap_interval
from mote.reporting.plots import paths_plot

Run = Mapping[str, Any]
Scores = Mapping[str, Mapping[str, float]]  # set -> way of using the temporal branch -> top-1
PLAIN = "gate 1"  # the head as it is
# World -> sets whose harmonic mean is zero-shot accuracy, and sets on which choices are made.
NEW = {"habits": ("unseen",), "motion": ("unseen_pairs", "unseen_objects", "appearance")}
CHOICE = {"habits": ("closed_choice", "choice"), "motion": ("unseen_pairs",)}
CHOSEN_NEW = {"habits": ("unseen",), "motion": ("unseen_objects",)}  # sets that say what a choice is worth
# Set -> heading of its column.
TITLES = {"closed_test": "closed-set", "unseen": "zero-shot", "unseen_objects": "unseen objects"}
TITLES |= {"unseen_pairs": "unseen pairs", "appearance": "appearance", "unseen_union": "zero-shot, union"}
TITLES |= {"closed_union": "closed-set, union", "unseen_objects_union": "unseen objects, union"}
OBJECTS = "zero-shot, named without motion"  # what `unseen_objects` is in the world of habits
PAIRS = [
    ("plain", "MoTE"),
    ("plain, 120 epochs", "MoTE"),
    ("plain", "MoTE, 30 epochs"),
    ("plain, stochastic depth 0.3", "MoTE, stochastic depth 0.3"),
    ("MoTE", "MoTE, stochastic depth 0.3"),
    ("MoTE", "plain, stochastic depth 0.3"),
    ("MoTE", "plain, no anchor"),
    ("MoTE", "plain, 30 epochs"),
    ("MoTE", "MoTE, equal starts"),
    ("MoTE", "MoTE, no weight-merging loss"),
]
DRAWN = ("plain", "MoTE", "plain, stochastic depth 0.3", "MoTE, stochastic depth 0.3", "plain, no anchor")


def write_report(out: Path, world: str, files: Mapping[str, Sequence[Path]], labels: Mapping[str, np.ndarray]) -> str:
    """Write `results.json`, `tables.md`, `trade.svg` and `.png` of the runs that are there; returns the tables.

    Args:
        out: folder of the world.
        world: its name.
        files: results of each row, a file a seed; missing ones are left out.
        labels: of each set.
    """
    runs = {arm: [json.loads(file.read_text()) for file in some if file.is_file()] for arm, some in files.items()}
    runs = {arm: some for arm, some in runs.items() if some}
    tables = [main_table(runs, world), choice_table(runs, world), pair_table(runs, world, labels)]
    text = "\n\n".join(tables) + "\n"
    kept = {arm: [{k: v for k, v in run.items() if k != "said"} for run in some] for arm, some in runs.items()}
    write_atomic(out / "results.json", to_json({"world": world, "rows": kept, "versions": versions()}))
    write_atomic(out / "tables.md", text)
    drawn = {arm: _path(runs[arm], world) for arm in DRAWN if arm in runs}
    if drawn:
        paths_plot(drawn, out / "trade")
    return text


def zero_shot(scores: Scores, world: str, way: str = PLAIN) -> float:
    """Harmonic mean of the zero-shot sets."""
    return harmonic_mean([scores[name][way] for name in NEW[world]])


def main_table(runs: Mapping[str, Sequence[Run]], world: str) -> str:
    """A row for each arm: top-1 of the last epoch on every set, and processor seconds of the training."""
    first = next(iter(runs.values()))[0]["last"]
    sets = [name for name in first if name not in CHOICE[world] or name in NEW[world]]
    titles = [OBJECTS if (world, name) == ("habits", "unseen_objects") else TITLES[name] for name in sets]
    columns: list[tuple[str, Callable[[Run], float]]] = [
        (title, lambda run, name=name: run["last"][name][PLAIN]) for title, name in zip(titles, sets, strict=True)
    ]
    if len(NEW[world]) > 1:
        columns.append(("zero-shot", lambda run: zero_shot(run["last"], world)))
    columns.append(("harmonic mean", lambda run: _both(run["last"], world)))
    lines = _head(["head", "seeds", *(title for title, _ in columns), "CPU s"])
    for arm, some in runs.items():
        cells = [_cell([value(run) for run in some]) for _, value in columns]
        seconds = np.mean([run["seconds"] for run in some])
        lines.append(f"| {arm} | {len(some)} | {' | '.join(cells)} | {seconds:.0f} |")
    # Without its branch, every head is the frozen tower.
    frozen, closed = _cell([zero_shot(first, world, "gate 0")]), _cell([first["closed_test"]["gate 0"]])
    return "\n".join(lines) + f"\n\ntiny CLIP as it is: closed-set {closed}, zero-shot {frozen}."


def choice_table(runs: Mapping[str, Sequence[Run]], world: str) -> str:
    """A row for each arm, closed-set / zero-shot: averaged weights, and what is chosen on held-out classes."""
    names = ["last epoch", "EMA", "SWA", "epoch chosen", "gate chosen", "gamma 0.05", "gamma chosen"]
    lines = _head(["head", *names])
    for arm, some in runs.items():
        columns = [[_ways(run, world)[name] for run in some] for name in names]
        cells = [f"{_cell([c for c, _ in pairs])} / {_cell([z for _, z in pairs])}" for pairs in columns]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _ways(run: Run, world: str) -> dict[str, tuple[float, float]]:
    """(closed-set, zero-shot) by each way of using one run."""

    def both(scores: Scores, way: str = PLAIN) -> tuple[float, float]:
        return scores["closed_test"][way], harmonic_mean([scores[name][way] for name in CHOSEN_NEW[world]])

    def quality(scores: Scores, way: str = PLAIN) -> float:
        return harmonic_mean([scores[name][way] for name in CHOICE[world]])

    last = run["last"]
    ways = [[way for way in last["closed_test"] if way.startswith(kind)] for kind in ("gate", "gamma")]
    gate, gamma = (max(some, key=lambda way: quality(last, way)) for some in ways)
    return {
        "last epoch": both(last),
        "EMA": both(run["EMA"]),
        "SWA": both(run["SWA"]),
        "epoch chosen": both(max(run["points"].values(), key=quality)),
        "gate chosen": both(last, gate),
        # On the classes of training the modulation changes nothing.
        "gamma 0.05": (both(last)[0], both(last, "gamma 0.05")[1]),
        "gamma chosen": (both(last)[0], both(last, gamma)[1]),
    }


def pair_table(runs: Mapping[str, Sequence[Run]], world: str, labels: Mapping[str, np.ndarray]) -> str:
    """A row for each pair of arms: second minus first in points, 95 % interval over classes, seeds in which it wins."""
    sets = ["closed_test", *NEW[world]]
    lines = _head(["second - first", *(TITLES[name] for name in sets)])
    for first, second in PAIRS:
        if first not in runs or second not in runs:
            continue
        a, b = ({run["seed"]: run["said"] for run in runs[arm]} for arm in (first, second))
        seeds = sorted(a.keys() & b.keys())
        cells = []
        for name in sets:
            true = labels[name]
            gains = np.array([(np.array(b[s][name]) == true) * 1.0 - (np.array(a[s][name]) == true) for s in seeds])
            classes = [100 * gains.mean(axis=0)[true == k].mean() for k in np.unique(true)]
            low, high = bootstrap_interval(classes)
            wins = int((gains.mean(axis=1) > 0).sum())
            cells.append(f"{np.mean(classes):+.1f} [{low:+.1f}, {high:+.1f}], {wins} of {len(seeds)}")
        lines.append(f"| {second} - {first} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _path(some: Sequence[Run], world: str) -> list[tuple[float, float]]:
    """Mean over seeds of (closed-set, zero-shot) at each scored epoch."""
    epochs = list(some[0]["points"])
    points = [
        [(run["points"][e]["closed_test"][PLAIN], zero_shot(run["points"][e], world)) for run in some] for e in epochs
    ]
    return [(float(x), float(y)) for x, y in np.mean(points, axis=1)]


def _both(scores: Scores, world: str) -> float:
    return harmonic_mean([scores["closed_test"][PLAIN], zero_shot(scores, world)])


def _head(names: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(names)} |", "|---|" + "--:|" * (len(names) - 1)]


def _cell(values: Sequence[float]) -> str:
    """Mean ± population standard deviation in %."""
    mean, std = 100 * np.mean(values), 100 * np.std(values)
    return f"{mean:.1f}" if len(values) == 1 else f"{mean:.1f} ± {std:.1f}"

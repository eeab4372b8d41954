"""The verb `mote diagnose --compare A B ...`: runs ranked by each quantity, correlated with held-out accuracy.

Curvature and gradients of a cross-entropy shrink as it is fitted further, so runs are compared at matched training
loss: those whose loss on the same samples is within a factor of the one that is matched. The others are named and
left out. Held-out balanced accuracy is the mean recall over classes in the run's own result file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from mote.diagnostics.report import MEANINGS
from mote.files.hashes import sha256_file
from mote.files.provenance import versions
from mote.files.writing import alone, complete, replacing_together, to_json, write_atomic
from mote.metrics.statistics import rank_correlation
from mote.reporting.diagnose_page import write_runs_page
from mote.reporting.diagnose_plot import correlation_plot
from mote.reporting.page import text_table

DRAWN = ("compare.svg", "compare.png")  # where there is a correlation; older ones go where there is none
LEFT_OUT = ("train_accuracy",)  # what the runs are matched by, not a property to rank them by


@dataclass
class Diagnosed:
    """A run that was measured and evaluated.

    quantities: those that are known, by name. converged: of Lanczos. settings, samples_hash: how it was measured.
    state: "matched", or how its training loss differs from the one that is matched.
    """

    run: str
    train_loss: float
    balanced_accuracy: float
    learning_rate: float
    batch_size: int
    quantities: dict[str, float]
    converged: bool
    settings: dict[str, object]
    samples_hash: str
    hashes: dict[str, str]
    state: Literal["matched", "did not fit", "fitted further"] = "matched"


@dataclass(frozen=True)
class Ranking:
    """A quantity over the matched runs; rho, p: Spearman's correlation with balanced accuracy, where it is defined."""

    runs: list[str]
    values: list[float]
    ranks: list[float]
    rho: float | None
    p: float | None


def compare_runs(
    runs: Sequence[str],
    out: Path,
    *,
    seed: int = 0,
    result: str = "metrics.json",
    name: str = "diagnose",
    loss: float | None = None,
    within: float = 2.0,
) -> None:
    """Print the tables; write `out`/compare.json, .html, and compare.svg and .png where there is a correlation.

    Args:
        runs: run directories that `mote diagnose` has measured, with equal settings.
        out: folder.
        seed: of the permutations.
        result: file in each run that holds `mean_class_recall`.
        name: stem of the files of `mote diagnose`.
        loss: training loss to match; None: the median over the runs.
        within: greatest factor between it and the loss of a run, >= 1.

    Raises:
        ValueError: fewer than two runs, or one that was not diagnosed, not evaluated, or not measured like the first.
    """
    if len(runs) < 2 or len(set(runs)) < len(runs):
        raise ValueError(f"--compare needs at least two different runs, got {' '.join(runs)}")
    if not within >= 1 or (loss is not None and not loss > 0):
        raise ValueError(f"--within must be at least 1 and --loss positive, got {within} and {loss}")
    found = [_read(Path(run), name, result) for run in runs]
    _check_alike(found)
    target = loss or float(np.median([row.train_loss for row in found]))
    for row in found:
        ratio = row.train_loss / target
        row.state = "did not fit" if ratio > within else "fitted further" if ratio < 1 / within else "matched"
    matched = [row for row in found if row.state == "matched"]
    rankings = _ranked(matched, seed)
    table, ranking = _runs_table(found), _ranking_table(rankings, found) if len(matched) >= 3 else []
    left = [f"{row.run} ({row.state})" for row in found if row.state != "matched"]
    remarks = [
        f"matched training loss {target:.4g}, within a factor of {within:g}: {len(matched)} of {len(found)} runs"
    ]
    remarks += [f"left out: {', '.join(left)}"] if left else []
    if not ranking:
        remarks.append("fewer than 3 matched runs: no rank correlation; train longer or shorter, or widen --within")
    print("\n".join([text_table(table), *remarks]))
    if ranking:
        print(text_table(ranking))
        print("order: run numbers from the smallest value to the largest; rho: with held-out balanced accuracy")
    document = {"loss": target, "within": within, "seed": seed, "result": result}
    document |= {"runs": [asdict(row) for row in found]}
    document |= {"quantities": {key: asdict(row) for key, row in rankings.items()}, "versions": versions()}
    plotted = {key: asdict(row) for key, row in rankings.items() if row.rho is not None}
    with alone(out / "compare.json"), replacing_together(out, gone=DRAWN) as stage:
        figure = None
        if plotted:
            figure, _ = correlation_plot(plotted, [row.balanced_accuracy for row in matched], stage / "compare")
        write_runs_page(stage / "compare.html", document, table, ranking, remarks, figure)
        write_atomic(stage / "compare.json", to_json(document))
    print(f"{out / 'compare'}.json, .html")


def _read(run: Path, name: str, result: str) -> Diagnosed:
    """The measured numbers of a run; raises ValueError, naming the file."""
    file = run / "diagnostics" / f"{name}.json"
    for folder in (run, file.parent):
        complete(folder)
    if not file.is_file():
        raise ValueError(f"{file}: not there; measure the run first: mote diagnose {run}")
    if not (run / result).is_file():
        raise ValueError(f"{run / result}: not there; evaluate the run first (mote eval {run}), or name a --result")
    try:
        document, held_out = json.loads(file.read_text()), json.loads((run / result).read_text())
        origin = document["provenance"]
        return Diagnosed(
            run=str(run),
            train_loss=float(document["quantities"]["train_loss"]),
            balanced_accuracy=float(held_out["mean_class_recall"]),
            learning_rate=origin["config"]["optim"]["lr"],
            batch_size=origin["config"]["optim"]["batch_size"],
            quantities={key: float(value) for key, value in document["quantities"].items() if value is not None},
            converged=all(part["converged"] for part in document["lanczos"].values()),
            settings={key: document["settings"][key] for key in ("samples", "inputs", "probes")},
            samples_hash=origin["hashes"]["samples"],
            hashes={"diagnostics": sha256_file(file), "result": sha256_file(run / result)},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} or {run / result}: not as mote writes them: {error!r}") from None


def _check_alike(found: Sequence[Diagnosed]) -> None:
    """Raise ValueError where a run was measured otherwise than the first."""
    first = found[0]
    for row in found[1:]:
        if (row.settings, row.samples_hash) != (first.settings, first.samples_hash):
            raise ValueError(
                f"{row.run} was measured on other samples or settings than {first.run}; "
                "diagnose them with the same list, --samples, --seed, --inputs and --probes"
            )


def _ranked(matched: Sequence[Diagnosed], seed: int) -> dict[str, Ranking]:
    """The quantities that all matched runs have."""
    if len(matched) < 2:
        return {}
    accuracy = np.array([row.balanced_accuracy for row in matched])
    found = {}
    for key in MEANINGS:
        if key in LEFT_OUT or not all(key in row.quantities for row in matched):
            continue
        values = np.array([row.quantities[key] for row in matched])
        related = None if len(matched) < 3 or np.isnan(values).any() else rank_correlation(values, accuracy, seed)
        rho, p = related or (None, None)
        found[key] = Ranking([row.run for row in matched], values.tolist(), rankdata(values).tolist(), rho, p)
    return found


def _runs_table(found: Sequence[Diagnosed]) -> list[dict[str, object]]:
    return [
        {
            "": str(number),
            "run": row.run,
            "lr": f"{row.learning_rate:g}",
            "batch": str(row.batch_size),
            "training loss": row.train_loss,
            "balanced accuracy": f"{100 * row.balanced_accuracy:.1f}",
            "state": row.state + ("" if row.converged else ", Lanczos not converged"),
        }
        for number, row in enumerate(found, start=1)
    ]


def _ranking_table(rankings: Mapping[str, Ranking], found: Sequence[Diagnosed]) -> list[dict[str, object]]:
    number = {row.run: i for i, row in enumerate(found, start=1)}
    rows: list[dict[str, object]] = []
    for key, row in rankings.items():
        order = [number[row.runs[i]] for i in np.argsort(row.values, kind="stable")]
        rho, p = ("", "") if row.rho is None else (f"{row.rho:+.2f}", f"{row.p:.3f}")
        rows.append({"quantity": key, "rho": rho, "p": p, "order": " ".join(map(str, order))})
    return rows

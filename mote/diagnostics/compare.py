"""What `mote diagnose --compare A B ...` does: runs ranked by each quantity, and whether that tells held-out accuracy.

Curvature and gradients of a cross-entropy shrink as it is fitted further, so runs are compared at matched training
loss: those whose loss, on the same samples, is within a factor of the one that is matched. The others are named and
left out. Held-out balanced accuracy is the mean recall over classes in the run's own result file.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from mote.diagnostics.report import MEANINGS
from mote.files.hashes import sha256_file
from mote.files.provenance import versions
from mote.files.writing import to_json, write_atomic
from mote.metrics.statistics import rank_correlation
from mote.reporting.diagnose_plot import correlation_plot
from mote.reporting.page import text_table

LEFT_OUT = ("train_accuracy",)  # what the runs are matched by, not a property to rank them by


def compare_runs(
    runs: Sequence[str],
    out: Path,
    *,
    seed: int = 0,
    result: str = "metrics.json",
    name: str = "diagnose",
    loss: float | None = None,
    within: float = 2.0,
) -> dict[str, Any]:
    """Print the tables, write `out`/compare.json, .svg and .png; returns what the JSON holds.

    Args:
        runs: run directories that `mote diagnose` has measured, with equal settings.
        out: folder.
        seed: of the permutations.
        result: file in each run that holds `mean_class_recall`.
        name: stem of the files of `mote diagnose`.
        loss: training loss to match; None: the median over the runs.
        within: greatest factor between it and the loss of a run, >= 1.

    Raises:
        ValueError: fewer than two runs, one that was not diagnosed or evaluated, or otherwise than the first.
    """
    if len(runs) < 2 or len(set(runs)) < len(runs):
        raise ValueError(f"--compare needs at least two different runs, got {' '.join(runs)}")
    if not within >= 1 or (loss is not None and not loss > 0):
        raise ValueError(f"--within must be at least 1 and --loss positive, got {within} and {loss}")
    found = [_read(Path(run), name, result) for run in runs]
    _check_alike(found)
    target = loss or float(np.median([row["train_loss"] for row in found]))
    for row in found:
        ratio = row["train_loss"] / target
        row["state"] = "did not fit" if ratio > within else "fitted further" if ratio < 1 / within else "matched"
    matched = [row for row in found if row["state"] == "matched"]
    document: dict[str, Any] = {"loss": target, "within": within, "seed": seed, "result": result, "runs": found}
    document |= {"quantities": _ranked(matched, seed), "versions": versions()}
    print(text_table(_runs_table(found)))
    left = [f"{row['run']} ({row['state']})" for row in found if row["state"] != "matched"]
    print(f"matched training loss {target:.4g}, within a factor of {within:g}: {len(matched)} of {len(found)} runs")
    if left:
        print(f"left out: {', '.join(left)}")
    if len(matched) < 3:
        print("fewer than 3 matched runs: no rank correlation; train longer or shorter, or widen --within")
    else:
        print(text_table(_ranking_table(document["quantities"], found)))
        print("order: run numbers from the smallest value to the largest; rho: with held-out balanced accuracy")
        pictures = {key: row for key, row in document["quantities"].items() if row["rho"] is not None}
        if pictures:
            correlation_plot(pictures, [row["balanced_accuracy"] for row in matched], out / "compare")
    write_atomic(out / "compare.json", to_json(document))
    print(out / "compare.json")
    return document


def _read(run: Path, name: str, result: str) -> dict[str, Any]:
    """The measured numbers of a run."""
    file = run / "diagnostics" / f"{name}.json"
    if not file.is_file():
        raise ValueError(f"{file}: not there; measure the run first: mote diagnose {run}")
    if not (run / result).is_file():
        raise ValueError(f"{run / result}: not there; evaluate the run first (mote eval {run}), or name a --result")
    try:
        document, held_out = json.loads(file.read_text()), json.loads((run / result).read_text())
        origin = document["provenance"]
        return {
            "run": str(run),
            "train_loss": float(document["quantities"]["train_loss"]),
            "balanced_accuracy": float(held_out["mean_class_recall"]),
            "learning_rate": origin["config"]["optim"]["lr"],
            "batch_size": origin["config"]["optim"]["batch_size"],
            "quantities": {key: float(value) for key, value in document["quantities"].items() if value is not None},
            "converged": all(part["converged"] for part in document["lanczos"].values()),
            "settings": {key: document["settings"][key] for key in ("samples", "inputs", "probes")},
            "samples_hash": origin["hashes"]["samples"],
            "hashes": {"diagnostics": sha256_file(file), "result": sha256_file(run / result)},
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} or {run / result}: not as mote writes them: {error!r}") from None


def _check_alike(found: Sequence[dict[str, Any]]) -> None:
    first = found[0]
    for row in found[1:]:
        if (row["settings"], row["samples_hash"]) != (first["settings"], first["samples_hash"]):
            raise ValueError(
                f"{row['run']} was measured on other samples or settings than {first['run']}; "
                "diagnose them with the same list, --samples, --seed, --inputs and --probes"
            )


def _ranked(matched: Sequence[dict[str, Any]], seed: int) -> dict[str, dict[str, Any]]:
    """Of each quantity that all matched runs have: values, ranks, and its correlation with balanced accuracy."""
    if len(matched) < 2:
        return {}
    accuracy = np.array([row["balanced_accuracy"] for row in matched])
    found = {}
    for key in MEANINGS:
        if key in LEFT_OUT or not all(key in row["quantities"] for row in matched):
            continue
        values = np.array([row["quantities"][key] for row in matched])
        related = None if len(matched) < 3 or np.isnan(values).any() else rank_correlation(values, accuracy, seed)
        found[key] = {
            "runs": [row["run"] for row in matched],
            "values": values.tolist(),
            "ranks": rankdata(values).tolist(),
            "rho": None if related is None else related[0],
            "p": None if related is None else related[1],
        }
    return found


def _runs_table(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "": str(number),
            "run": row["run"],
            "lr": f"{row['learning_rate']:g}",
            "batch": str(row["batch_size"]),
            "training loss": row["train_loss"],
            "balanced accuracy": f"{100 * row['balanced_accuracy']:.1f}",
            "state": row["state"] + ("" if row["converged"] else ", Lanczos not converged"),
        }
        for number, row in enumerate(found, start=1)
    ]


def _ranking_table(quantities: dict[str, dict[str, Any]], found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    number = {row["run"]: i for i, row in enumerate(found, start=1)}
    rows = []
    for key, row in quantities.items():
        order = [number[row["runs"][i]] for i in np.argsort(row["values"], kind="stable")]
        known = row["rho"] is not None and math.isfinite(row["rho"])
        rows.append(
            {
                "quantity": key,
                "rho": f"{row['rho']:+.2f}" if known else "",
                "p": f"{row['p']:.3f}" if known else "",
                "order": " ".join(map(str, order)),
            }
        )
    return rows

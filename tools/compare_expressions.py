"""Faces of very unequal classes: plain training against what corrects or mines it, several seeds each.

A small residual network from scratch on 32 x 32 grey faces (configs/faces_ce.yaml; MEK: configs/faces_mek.yaml). The
last epoch counts, on the test part, once. Lambda and epsilon of MEK are chosen on the validation part with seed 0: the
highest mean accuracy over classes among the settings whose overall accuracy there is at most one standard error below
that of cross-entropy (of all, where none is). Label smoothing then takes the same epsilon, attention consistency the
same Lambda.

Finished runs are kept and interrupted ones go on, so it can be stopped and started again (`--minutes`).

    python tools/compare_expressions.py --data FOLDER/LABELS.csv
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import mote
from mote.config import Config, load
from mote.datasets.images import read_image
from mote.datasets.lists.images import read_images
from mote.datasets.transforms import eval_transform
from mote.evaluation.evaluate import evaluate
from mote.experiments.train import train
from mote.files.preprocessing import CUT_FIRST
from mote.files.provenance import versions
from mote.files.writing import write_atomic
from mote.parallel.accelerator import make_accelerator
from mote.reporting.page import markdown_table

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SIZE = 32
GRID = [(0.1, 0.1), (0.1, 0.3), (1.0, 0.1)]  # Lambda, epsilon
ENOUGH = 20  # images; a class with fewer moves the mean accuracy by a point or more with every image
MEASURES = {"overall": "top1", "mean": "mean_class_recall", "macro-F1": "macro_f1"}


class OutOfTimeError(Exception):
    """No further run was started."""


def pack(data: Path, out: Path) -> None:
    """Write the faces as `val.npz` (train and validation) and `test.npz` (test), central squares of SIZE pixels."""
    parts: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        found = read_images(data, split=split)
        frames = (read_image(record.path, 1) for record in tqdm(found.records, desc=split, disable=None))
        pixels = [
            eval_transform(np.repeat(frame[None], 3, axis=3), SIZE, preprocessing=CUT_FIRST)[0, 0, 0].numpy()
            for frame in frames
        ]
        parts[f"{split}_images"] = np.stack(pixels)
        parts[f"{split}_labels"] = np.array([record.label for record in found.records])
        write_atomic(out / "classes.txt", "".join(f"{name}\n" for name in found.classes))
    for name, held_out in (("test", "test"), ("val", "val")):
        kinds = ("images", "labels")
        arrays = {f"test_{kind}": parts[f"{held_out}_{kind}"] for kind in kinds}
        np.savez(out / f"{name}.npz", **arrays, **{f"train_{kind}": parts[f"train_{kind}"] for kind in kinds})


class Runs:
    """Trains and scores each run once.

    minutes: after so many no further one is started. overrides: of every run.
    """

    def __init__(self, out: Path, minutes: float, overrides: list[str]):
        self.out, self.end, self.overrides = out, time.monotonic() + 60 * minutes, overrides

    def result(self, name: str, overrides: list[str], seed: int, part: str) -> dict[str, Any]:
        """The result of the run on `part`, "val" or "test"; trained and scored now unless it was before."""
        folder = self.out / f"{name}_{seed}"
        config = self._config(folder, overrides, seed)
        if not (folder / "metrics.json").is_file():
            if time.monotonic() > self.end:
                raise OutOfTimeError
            start = time.monotonic()
            train(config, resume=(folder / "config.yaml").is_file())
            print(f"{folder}: {time.monotonic() - start:.0f} s", flush=True)
        if part == "val":
            return json.loads((folder / "metrics.json").read_text())
        file = folder / "evaluations" / "test.json"
        if not file.is_file():
            where = {"manifest": str(self.out / "test.npz"), "name": "test", "page": False}
            settings = config.evaluation.model_copy(update=where)
            accelerator = make_accelerator(config.optim.precision, cpu=True)  # a process has one, so that of training
            held_out = config.model_copy(update={"evaluation": settings})
            evaluate(mote.load(str(folder), device="cpu"), held_out, accelerator, folder / "evaluations")
        return json.loads(file.read_text())

    def _config(self, folder: Path, overrides: list[str], seed: int) -> Config:
        files = {"data.train": self.out / "val.npz", "data.classes": self.out / "classes.txt"}
        files |= {"evaluation.manifest": self.out / "val.npz", "run.out": folder}
        where = [f"{key}={json.dumps(str(value))}" for key, value in files.items()]
        recipes = [CONFIGS / "faces_ce.yaml"]
        return load(
            recipes, [*where, "evaluation.page=false", f"seed={seed}", "run.cpu=true", *self.overrides, *overrides]
        )


def mek(strength: float, epsilon: float) -> list[str]:
    """Overrides of MEK."""
    return ["imbalance.method=mek", f"imbalance.strength={strength}", f"imbalance.epsilon={epsilon}"]


def choose(runs: Runs) -> tuple[tuple[float, float], list[dict[str, Any]]]:
    """(Lambda, epsilon) and what every setting reached on the validation part, cross-entropy first."""
    plain = runs.result("ce", [], 0, "val")
    rows: list[dict[str, Any]] = [{"strength": 0.0, "epsilon": 0.0}]
    rows += [{"strength": strength, "epsilon": epsilon} for strength, epsilon in GRID]
    results = [plain] + [runs.result(f"mek_{s:g}_{e:g}", mek(s, e), 0, "val") for s, e in GRID]
    for row, result in zip(rows, results, strict=True):
        row |= {name: result[key] for name, key in MEASURES.items()}
    error = (plain["top1"] * (1 - plain["top1"]) / plain["listed"]) ** 0.5
    fitting = [row for row in rows[1:] if row["overall"] >= plain["top1"] - error] or rows[1:]
    best = max(fitting, key=lambda row: row["mean"])
    return (best["strength"], best["epsilon"]), rows


def methods(strength: float, epsilon: float) -> dict[str, tuple[str, list[str]]]:
    """Name -> (stem of the run, overrides)."""
    return {
        "cross-entropy": ("ce", []),
        "weighted": ("weighted", ["imbalance.method=weighted"]),
        "logit adjustment": ("logit_adjustment", ["imbalance.method=logit_adjustment"]),
        "label smoothing": (
            f"smoothing_{epsilon:g}",
            ["imbalance.method=smoothing", f"imbalance.epsilon={epsilon}"],
        ),
        "attention consistency": (
            f"consistency_{strength:g}",
            ["imbalance.method=consistency", f"imbalance.strength={strength}"],
        ),
        "MEK": (f"mek_{strength:g}_{epsilon:g}", mek(strength, epsilon)),
    }


def table(results: dict[str, list[dict[str, Any]]]) -> list[dict[str, str]]:
    """One row a method: overall accuracy, mean over classes, macro-F1, mean accuracy of head, medium and tail."""

    def cell(values: list[float]) -> str:
        return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.pstdev(values):.1f}"

    def common(result: dict[str, Any]) -> float:
        return statistics.mean(row["recall"] for row in result["per_class"] if row["listed"] >= ENOUGH)

    rows = []
    for name, seeds in results.items():
        cells = {key: cell([result[entry] for result in seeds]) for key, entry in MEASURES.items()}
        cells[f"mean of classes with {ENOUGH} images"] = cell([common(result) for result in seeds])
        groups = {
            group: cell([result["groups"][group]["mean_recall"] for result in seeds])
            for group in ("head", "medium", "tail")
        }
        rows.append({"method": name, **cells, **groups})
    return rows


def main() -> None:
    """Run what is missing, print the tables, write `OUT/table.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/faces/LABELS.csv"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/expressions"))
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further run after so many; exit code 3")
    parser.add_argument("overrides", nargs="*", help="a.b=c for every run, such as optim.epochs=30; with a new --out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not (arguments.out / "val.npz").is_file():
        pack(arguments.data, arguments.out)
    runs = Runs(arguments.out, arguments.minutes, arguments.overrides)
    try:
        chosen, trials = choose(runs)
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in methods(*chosen)}
        for seed in arguments.seeds:
            for name, (stem, overrides) in methods(*chosen).items():
                results[name].append(runs.result(stem, overrides, seed, "test"))
    except OutOfTimeError:
        raise SystemExit(3) from None
    print(
        markdown_table([{key: f"{100 * v:.1f}" if key in MEASURES else v for key, v in row.items()} for row in trials])
    )
    print(f"chosen: Lambda {chosen[0]:g}, epsilon {chosen[1]:g}\n")
    print(markdown_table(table(results)))
    kept = [*MEASURES.values(), "listed", "per_class", "groups", "extra_knowledge", "confusion_matrix"]
    numbers = {name: [{key: one[key] for key in kept} for one in seeds] for name, seeds in results.items()}
    document = {"chosen": chosen, "trials": trials, "seeds": arguments.seeds, "results": numbers}
    write_atomic(arguments.out / "table.json", json.dumps(document | {"versions": versions()}, indent=1) + "\n")


if __name__ == "__main__":
    main()

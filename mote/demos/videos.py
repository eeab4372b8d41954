"""The verb `mote demo`: the method against its baselines on two CPU cores, without a download.

Synthetic H.264 clips of coloured shapes whose motions no single frame shows; the built-in tiny CLIP, which was trained
on stills only. Four models: tiny CLIP as it is, mean-pool fine-tuning of its image tower, the plain temporal
transformer, and MoTE, each scored on the classes it was tuned on (closed-set) and on classes it has never seen
(zero-shot). The result is a table, a figure and a page, whichever model is best.
"""

import io
import json
import shutil
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from mote.config import Config
from mote.config import load as load_config
from mote.datasets.synthetic.clips import make_world
from mote.datasets.synthetic.world import Split
from mote.demos.videos_page import write_demo_page
from mote.demos.workers import in_processes
from mote.evaluation.videos import evaluate
from mote.experiments.train import train
from mote.files.provenance import versions
from mote.files.writing import refuse_filled, write_together
from mote.inference.classifier import VideoClassifier
from mote.inference.loading import load_video
from mote.metrics.zero_shot import trade_off
from mote.parallel.accelerator import make_accelerator
from mote.reporting.page import text_table, tradeoff_table
from mote.reporting.plots import curves_plot, tradeoff_plot
from mote.training.log import read_log

Row = dict[str, Any]  # summary of an evaluation, or a row of the table made of them
ZERO_SHOT = ("unseen_pairs", "unseen_objects", "appearance")
COMMON = ["data.flip=0", "data.grayscale=0", "data.crop_scale=[1,1]", "data.workers=0", "optim.weight_decay=0.05"]
HEAD = ["optim.backbone_lr_scale=0", "data.cache_features=true", "optim.batch_size=64", "optim.lr=1e-3"]
HEAD += ["optim.epochs=30", "optim.warmup_epochs=3"]
TOWER = ["model.layers=0", "optim.backbone_lr_scale=1", "optim.batch_size=32", "optim.lr=3e-4", "optim.epochs=1"]
TOWER += ["optim.warmup_epochs=0.1"]
HEAD_ALL = ["model.layers=2", "optim.backbone_lr_scale=0.3", "optim.batch_size=32", "optim.lr=3e-4", "optim.epochs=1"]
HEAD_ALL += ["optim.warmup_epochs=0.1"]
# The temporal head is trained on features of the frozen tower first, then everything together.
METHODS: dict[str, dict[str, list[str]]] = {
    "tiny CLIP, zero-shot": {},
    "mean pooling, tuned": {"all": TOWER},
    "temporal transformer": {
        "head": [*HEAD, "model.layers=2", "model.experts=1"],
        "all": [*HEAD_ALL, "model.experts=1"],
    },
    "MoTE": {
        "head": [*HEAD, "model.layers=2", "model.experts=4"],
        "all": [*HEAD_ALL, "model.experts=4"],
    },
}


def demo(out: Path, seed: int = 0) -> list[Row]:
    """Make the clips, train, evaluate, and write `out`/results.json, table.txt, tradeoff.svg/.png and index.html.

    Returns the rows of the table, see `mote.metrics.zero_shot.trade_off`.
    """
    start = time.monotonic()
    print("1/2 synthetic video world", flush=True)
    earlier = (out / "world" / "world.json").is_file()
    if not earlier:
        refuse_filled(out / f"seed{seed}")  # it would be removed below, but no demo made it
    splits = make_world(out / "world")
    print("2/2 training and evaluation, one process a model", flush=True)
    if earlier:  # the folder is a demo's own, so what an earlier one left can go
        shutil.rmtree(out / f"seed{seed}", ignore_errors=True)
    folders = {name: out / f"seed{seed}" / _slug(name) for name in METHODS}
    slowest_first = {name: (name, splits, folder, seed) for name, folder in reversed(folders.items())}
    found = in_processes(_method, slowest_first, unit="model")
    rows = [row for name in METHODS for row in found[name]]
    _report(rows, folders, out, seed, time.monotonic() - start)
    return rows


def _method(name: str, splits: dict[str, Split], out: Path, seed: int) -> list[Row]:
    """Train one method in its stages and score it; its rows of the table."""
    model, config = "tiny", load_config([], COMMON)
    with redirect_stdout(io.StringIO()):
        for stage, settings in METHODS[name].items():
            start = [f"model.init={json.dumps(model)}"] if model != "tiny" else []
            config = _config([*settings, *start], splits, out / stage, seed)
            model = str(train(config))
        return _rows(name, load_video(model), config, splits, out / "evaluations")


def _slug(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "_")


def _config(method: Sequence[str], splits: dict[str, Split], out: Path, seed: int) -> Config:
    files = {"data.train": splits["train"].manifest, "data.classes": splits["train"].classes, "run.out": out}
    overrides = [f"{key}={json.dumps(str(value))}" for key, value in files.items()]
    return load_config([], [*COMMON, *method, *overrides, f"seed={seed}"])


def _rows(name: str, classifier: VideoClassifier, config: Config, splits: dict[str, Split], out: Path) -> list[Row]:
    """The model's row of the table; with a temporal head a second one, with temporal feature modulation."""

    def summary(split: str, gate: bool) -> Row:
        settings = {
            "manifest": str(splits[split].manifest),
            "classes": str(splits[split].classes),
            "modulation": gate,
            "batch_size": 64,
            "name": f"{split}_gated" if gate else split,
        }
        scored = config.model_copy(update={"evaluation": config.evaluation.model_copy(update=settings)})
        return evaluate(classifier, scored, make_accelerator(), out, page=not gate)

    closed = summary("closed_test", gate=False)
    gates = (False, True) if classifier.model.temporal is not None else (False,)
    return [
        trade_off(f"{name} + gate" if gate else name, closed, {split: summary(split, gate) for split in ZERO_SHOT})
        for gate in gates
    ]


def _report(rows: list[Row], folders: dict[str, Path], out: Path, seed: int, seconds: float) -> None:
    text = text_table(tradeoff_table(rows))
    plane, _ = tradeoff_plot(rows, out / "tradeoff")
    facts = {"seed": seed, "versions": versions(), "runs": {name: str(folder) for name, folder in folders.items()}}
    results = {"rows": rows, "seconds": round(seconds, 1), **facts}
    write_together({out / "results.json": json.dumps(results, indent=1), out / "table.txt": text + "\n"})
    curves = [
        (
            curves_plot(read_log(log), out / f"loss_{log.parts[-3]}_{log.parts[-2]}")[0],
            f"{name}, stage {log.parts[-2]}: terms of the loss at each step",
        )
        for name, folder in folders.items()
        for log in sorted(folder.glob("*/log.jsonl"), reverse=True)
    ]
    write_demo_page(out, rows, folders, plane, curves, {**facts, "seconds": round(seconds, 1)})
    print(f"\n{text}\n\n{out}/index.html, results.json, tradeoff.png ({seconds:.0f} s)")

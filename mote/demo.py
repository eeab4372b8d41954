"""`mote demo`: the whole story on two CPU cores without a download.

Synthetic H.264 clips of coloured shapes that do things no single frame shows; the built-in tiny CLIP, which has only
ever seen stills. Four models: tiny CLIP as it is, mean-pool fine-tuning of its image tower, the plain temporal
transformer, and MoTE, each scored on the classes it was tuned on (closed-set) and on classes it has never seen
(zero-shot). What comes out is a table, a picture and a page, whoever wins.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mote.classifier import Classifier, load
from mote.config import Config
from mote.config import load as load_config
from mote.datasets.synthetic import Split, make_world
from mote.evaluation.results import versions
from mote.evaluation.zero_shot import trade_off
from mote.reporting.page import Section, text_table, tradeoff_table, write_page
from mote.reporting.plots import curves_plot, tradeoff_plot
from mote.runs import evaluate, train
from mote.training.distributed import make_accelerator
from mote.training.log import read_log

ZERO_SHOT = ("unseen_pairs", "unseen_objects", "appearance")
COMMON = ["data.flip=0", "data.grayscale=0", "data.crop_scale=[1,1]", "data.workers=2", "optim.weight_decay=0.05"]
HEAD = ["optim.clip_lr_scale=0", "data.cache_features=true", "optim.batch_size=64", "optim.lr=1e-3"]
HEAD += ["optim.epochs=30", "optim.warmup_epochs=3"]
TOWER = ["model.layers=0", "optim.clip_lr_scale=1", "optim.batch_size=32", "optim.lr=3e-4", "optim.epochs=1"]
TOWER += ["optim.warmup_epochs=0.1"]
METHODS = {
    "mean pooling, tuned": TOWER,
    "temporal transformer": [*HEAD, "model.layers=2", "model.experts=1"],
    "MoTE": [*HEAD, "model.layers=2", "model.experts=4"],
}


def demo(out: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Make the world, train, evaluate, and write `out`/results.json, table.txt, tradeoff.svg/.png and index.html.

    Returns the rows of the table, see `mote.evaluation.zero_shot.trade_off`.

    Raises:
        FileExistsError: `out` holds runs of an earlier demo with this seed.
    """
    start = time.monotonic()
    print("1/3 synthetic video world", flush=True)
    splits = make_world(out / "world")
    settings = {
        name: _config(method, splits, out / f"seed{seed}" / _slug(name), seed) for name, method in METHODS.items()
    }
    print("2/3 training", flush=True)
    for name, config in settings.items():
        print(f"    {name}", flush=True)
        train(config)
    print("3/3 evaluation", flush=True)
    plain = load("tiny")
    rows = _rows("tiny CLIP, zero-shot", plain, load_config([], COMMON), splits, out / f"seed{seed}" / "tiny")
    for name, config in settings.items():
        assert config.run.out is not None
        rows += _rows(name, load(config.run.out), config, splits, Path(config.run.out) / "evaluations")
    _report(rows, settings, out, seed, time.monotonic() - start)
    return rows


def _slug(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "_")


def _config(method: Sequence[str], splits: dict[str, Split], out: Path, seed: int) -> Config:
    files = {"data.train": splits["train"].manifest, "data.classes": splits["train"].classes, "run.out": out}
    overrides = [f"{key}={json.dumps(str(value))}" for key, value in files.items()]
    return load_config([], [*COMMON, *method, *overrides, f"seed={seed}"])


def _rows(name: str, classifier: Classifier, config: Config, splits: dict[str, Split], out: Path) -> list[dict]:
    """The model's row of the table; with a temporal head a second one, the gate of feature modulation on."""

    def summary(split: str, gate: bool) -> dict[str, Any]:
        settings = {
            "manifest": str(splits[split].manifest),
            "classes": str(splits[split].classes),
            "modulation": gate,
            "batch_size": 64,
            "name": f"{split}_gated" if gate else split,
        }
        scored = config.model_copy(update={"evaluation": config.evaluation.model_copy(update=settings)})
        return evaluate(classifier, scored, make_accelerator(), out)

    closed = summary("closed_test", gate=False)
    gates = (False, True) if classifier.model.temporal is not None else (False,)
    return [
        trade_off(f"{name} + gate" if gate else name, closed, {split: summary(split, gate) for split in ZERO_SHOT})
        for gate in gates
    ]


def _report(rows: list[dict], settings: dict[str, Config], out: Path, seed: int, seconds: float) -> None:
    table = tradeoff_table(rows)
    text = text_table(table)
    pictures = tradeoff_plot(rows, out / "tradeoff")
    facts = {"seed": seed, "versions": versions(), "runs": {name: config.run.out for name, config in settings.items()}}
    (out / "results.json").write_text(json.dumps({"rows": rows, "seconds": round(seconds, 1), **facts}, indent=1))
    (out / "table.txt").write_text(text + "\n")
    curves = [
        (curves_plot(read_log(Path(c.run.out) / "log.jsonl"), out / f"loss_{_slug(name)}")[0], f"loss terms of {name}")
        for name, c in settings.items()
        if c.run.out
    ]
    sections = [
        Section("Closed-set and zero-shot accuracy (%)", text=EXPLANATION, table=table),
        Section("Specialisation against generalisation", pictures=[(pictures[0], "trade-off plane")]),
        Section("Training", pictures=curves),
        Section("Again", commands=[" ".join(["mote", *sys.argv[1:]])], facts=facts),
    ]
    write_page(out / "index.html", "mote demo", sections)
    print(f"\n{text}\n\n{out}/index.html, results.json, tradeoff.png ({seconds:.0f} s)")


EXPLANATION = (
    "Closed-set: new clips of the object-motion pairs the model was tuned on. Zero-shot: pairs never tuned on, objects "
    "never tuned on, and objects named without a motion; the column is the harmonic mean of the three. Brackets are "
    "95 % intervals. Gate: temporal feature modulation, which trusts the temporal branch less on unfamiliar names."
)

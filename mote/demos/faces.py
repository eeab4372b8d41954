"""The verb `mote demo faces`: unequal expressions in clips, on two CPU cores without a download.

Drawn faces whose expression comes up over the clip, 240 clips of the most frequent class and 12 of the rarest; the
built-in tiny CLIP with a small temporal head. Three runs that differ in `imbalance.method` alone: cross-entropy, MEK
(re-balanced attention consistency and labels) and logit adjustment, each scored on clips that nothing was chosen on.
The result is overall and mean accuracy (WAR, UAR), recall per class, the confusions, and how much probability clips of
the major classes give to the minor ones before (cross-entropy) and after (MEK): a table, figures and a page.
"""

import io
import json
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mote.config import Config
from mote.config import load as load_config
from mote.datasets.synthetic.faces import EXPRESSIONS, Faces, make_faces, render_face
from mote.demos.faces_page import verdict, write_faces_page
from mote.demos.workers import in_processes
from mote.evaluation.videos import evaluate
from mote.experiments.train import train
from mote.files.provenance import versions
from mote.files.writing import refuse_filled, write_together
from mote.inference.loading import load_video
from mote.metrics.imbalance import mined_table
from mote.parallel.accelerator import make_accelerator
from mote.reporting.page import percent, text_table

Summary = dict[str, Any]
COMMON = ["data.split=train", "data.workers=0", "data.crop_scale=[0.8,1]", "data.max_bad_fraction=0"]
COMMON += ["model.layers=1", "model.experts=2", "optim.lr=3e-4", "optim.backbone_lr_scale=1", "optim.weight_decay=0.05"]
COMMON += ["data.frames=4", "optim.batch_size=32", "optim.epochs=10", "optim.warmup_epochs=1"]
# The strength acts on cosines: 100 makes the consistency a tenth of the cross-entropy at the start. It was not tuned.
METHODS = {
    "cross-entropy": ["imbalance.method=ce"],
    "MEK": ["imbalance.method=mek", "imbalance.strength=100", "imbalance.epsilon=0.1"],
    "logit adjustment": ["imbalance.method=logit_adjustment"],
}


class Scored(NamedTuple):
    """One method: seconds of processor time, and what `mote.evaluation.videos.evaluate` returned for it."""

    method: str
    seconds: float
    summary: Summary


def faces_demo(
    out: Path, seed: int = 0, *, counts: Mapping[str, Sequence[int]] | None = None, settings: Sequence[str] = ()
) -> list[Scored]:
    """Make the clips, train, evaluate, and write `out`/results.json, table.txt, figures and index.html.

    Args:
        out: folder.
        seed: of the trainings.
        counts: clips of each class by part, instead of `mote.datasets.synthetic.faces.COUNTS`.
        settings: overrides of every run.

    Returns:
        An entry for each method.
    """
    start = time.monotonic()
    print("1/2 synthetic faces", flush=True)
    earlier = (out / "faces" / "faces.json").is_file()
    if not earlier:
        refuse_filled(out / f"seed{seed}")  # it would be removed below, but no demo made it
    files = make_faces(out / "faces", counts=counts)
    print("2/2 training and evaluation, one process a method", flush=True)
    runs = {name: out / f"seed{seed}" / name.replace(" ", "_").lower() for name in METHODS}
    if earlier:  # `out` is a demo's own, so what an earlier one left can go
        shutil.rmtree(out / f"seed{seed}", ignore_errors=True)
    calls = {name: (name, files, run, seed, list(settings)) for name, run in runs.items()}
    scored = list(in_processes(_method, calls, unit="method").values())
    _report(scored, runs, out, seed, time.monotonic() - start)
    return scored


def _method(name: str, files: Faces, out: Path, seed: int, settings: Sequence[str]) -> Scored:
    """Train one method and score it on the test part."""
    warnings.filterwarnings("ignore", "tiny CLIP has no token")  # no name of an expression is among its words
    start = time.process_time()
    paths = {"data.train": files.manifest, "data.classes": files.classes, "run.out": out}
    where = [f"{key}={json.dumps(str(value))}" for key, value in paths.items()]
    config = load_config([], [*COMMON, *METHODS[name], *settings, *where, f"seed={seed}"])
    with redirect_stdout(io.StringIO()):
        run = train(config)
        tested = _tested(config, files)
        summary = evaluate(load_video(str(run)), tested, make_accelerator(cpu=True), run / "evaluations")
    return Scored(name, time.process_time() - start, summary)


def _tested(config: Config, files: Faces) -> Config:
    settings = {"manifest": str(files.manifest), "split": "test", "batch_size": 64, "name": "test"}
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update=settings)})


def _report(scored: Sequence[Scored], runs: Mapping[str, Path], out: Path, seed: int, seconds: float) -> None:
    of = {one.method: one.summary for one in scored}
    tables, said = (_table(scored), _recalls(of)), verdict(of)
    text = f"{text_table(tables[0])}\n\n{text_table(tables[1])}\n\n{said}"
    facts = {"seed": seed, "versions": versions(), "runs": {name: str(run) for name, run in runs.items()}}
    facts = {"seconds": round(seconds, 1), **facts}
    results = {"rows": [one._asdict() for one in scored], "verdict": said, **facts}
    write_together({out / "results.json": json.dumps(results, indent=1), out / "table.txt": text + "\n"})
    (out / "faces.png").write_bytes(_examples())
    write_faces_page(out, of, runs, tables, _pairs(of), facts)
    print(f"\n{text}\n\n{out}/index.html, results.json, table.txt ({seconds:.0f} s)")


def _table(scored: Sequence[Scored]) -> list[dict[str, object]]:
    table = []
    for method, seconds, part in scored:
        mined, tail = part["extra_knowledge"]["probability"]["mined"], part["groups"]["tail"]
        table.append(
            {
                "method": method,
                "WAR": percent(part["top1"], part["top1_interval"]),
                "UAR": percent(part["mean_class_recall"], part["mean_class_recall_interval"]),
                "macro-F1": percent(part["macro_f1"]),
                "recall of the tail": percent(tail["mean_recall"]),
                "head to tail": percent(mined["given"]),
                "CPU s": round(seconds),
            }
        )
    return table


def _recalls(of: Mapping[str, Summary]) -> list[dict[str, object]]:
    """A row per class: clips of training and test, recall by each method."""
    first = next(iter(of.values()))
    table: list[dict[str, object]] = []
    for place, entry in enumerate(first["per_class"]):
        counts = {"class": entry["class"], "training": first["training_counts"][entry["class"]]}
        recall = {name: percent(part["per_class"][place]["recall"]) for name, part in of.items()}
        table.append({**counts, "test": entry["listed"], **recall})
    return table


def _pairs(of: Mapping[str, Summary]) -> list[dict[str, str | float]]:
    """Probability that clips of each head class give to each tail class, before (cross-entropy) and after (MEK)."""
    before, after = (
        np.array(of[name]["extra_knowledge"]["probability"]["given"], dtype=float) for name in ("cross-entropy", "MEK")
    )
    names = {group: part["classes"] for group, part in of["MEK"]["groups"].items()}
    groups = {group: [EXPRESSIONS.index(name) for name in classes] for group, classes in names.items()}
    return mined_table(before, after, EXPRESSIONS, groups)


def _examples() -> bytes:
    """PNG: a row per expression with its name, every second frame of one clip at full strength, twice enlarged."""
    rows = [render_face(np.random.default_rng((7, k)), name, strength=1.0)[::2] for k, name in enumerate(EXPRESSIONS)]
    sheet = Image.fromarray(np.concatenate([np.concatenate(list(clip), axis=1) for clip in rows]))
    file = io.BytesIO()
    large = sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.BICUBIC)
    named = Image.new("RGB", (large.width + NAMES, large.height), "white")
    named.paste(large, (NAMES, 0))
    for k, name in enumerate(EXPRESSIONS):
        middle = (2 * k + 1) * large.height // (2 * len(EXPRESSIONS))
        ImageDraw.Draw(named).text((NAMES - 8, middle), name, fill="black", anchor="rm", font_size=18)
    named.save(file, "PNG")
    return file.getvalue()


NAMES = 110  # pixels for the names beside the clips

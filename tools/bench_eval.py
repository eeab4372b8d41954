"""How long does an evaluation on cached features take, and how much memory? Kinetics' test list in size; random data.

A list of `--entries` videos is read and evaluated: look-up of files, cached features, temporal head, classes, metrics,
JSON and CSV. The model is a ViT-B/16 with 4 temporal layers of 4 experts (folded), all weights random; the features are
random; the files hold a few bytes each, their hashes are remembered as after an earlier evaluation. Nothing is decoded.
Each precision runs in a process of its own; seconds and peak memory are those of the whole process, imports included;
on a busy machine the processor time, over all threads, says more than the seconds. Then the two precisions are compared
on the first `--compare` videos, by logits, and on all, by predictions.

    python tools/bench_eval.py --out bench_eval.json
"""

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mote.config import Config
from mote.config import load as load_config
from mote.datasets.cache.cached_video import record_keys
from mote.datasets.lists.reading import Listing
from mote.evaluation.videos import evaluate
from mote.evaluation.views import evaluation_dataset
from mote.inference.features import indices_rule, open_cache
from mote.inference.loading import load
from mote.models import folders
from mote.models.checkpoints import save_model
from mote.models.temporal import TemporalHead
from mote.models.video_clip import VideoCLIP
from mote.parallel.accelerator import make_accelerator
from mote.parallel.precision import resolve_precision

CLASSES = [f"class {i}" for i in range(400)]


def make_model(folder: Path) -> None:
    """ViT-B/16 and a temporal head with random weights, tuned on 400 classes with random text features."""
    torch.manual_seed(0)
    towers = folders.towers("ViT-B-16-quickgelu", "random", 0)
    head = TemporalHead(towers.embed_dim, num_layers=4, num_heads=8, num_experts=4)
    statistics = {"mean": towers.mean, "std": towers.std}
    model = VideoCLIP(towers.visual, towers.logit_scale, head, embed_dim=towers.embed_dim, **statistics)
    text = torch.nn.functional.normalize(torch.randn(len(CLASSES), towers.embed_dim), dim=-1)
    meta = {"backbone": "ViT-B-16-quickgelu", "pretrained": "random", "seed": 0, "templates": ["a video of {}."]}
    save_model(folder / "model", model, {**meta, "classes": CLASSES, "frames": 8, "size": 224}, {"tuned_text": text})


def make_list(folder: Path, entries: int) -> None:
    """Files of a few bytes, older than a moment, so that their hashes are remembered; the list of them."""
    (folder / "videos").mkdir()
    for i in range(entries):
        path = folder / "videos" / f"{i:06d}.mp4"
        path.write_text(f"{i}")
        os.utime(path, (1e9, 1e9))
    lines = (f"videos/{i:06d}.mp4 {i % len(CLASSES)}\n" for i in range(entries))
    (folder / "list.txt").write_text("".join(lines))


def settings(folder: Path, precision: str) -> Config:
    """Three crops of eight frames."""
    values = {"manifest": folder / "list.txt", "crops": 3, "precision": precision, "cache": folder / "cache"}
    values["name"] = precision
    overrides = [f"evaluation.{key}={json.dumps(str(v)) if key != 'crops' else v}" for key, v in values.items()]
    return load_config([], [*overrides, "evaluation.page=false", "run.cpu=true"])


def fill(folder: Path, precision: str) -> None:
    """Random features of every video, as this precision keeps them."""
    config = settings(folder, precision)
    classifier = load(str(folder / "model"), device="cpu").in_precision(precision)  # type: ignore[arg-type]
    records = Listing(folder / "list.txt").records(CLASSES)
    dataset = evaluation_dataset(records, config.evaluation, config.data, frames=8, size=224, difference=0)
    rng = np.random.default_rng(0)
    with open_cache(folder / "cache", classifier, dataset) as cache:
        for key in record_keys(cache, records, indices_rule(dataset)):
            assert key is not None
            cache.put(key, rng.standard_normal((3, 8, 512), dtype=np.float32))


def compare(folder: Path, count: int) -> dict[str, float]:
    """Largest and median difference of logits between fp32 and bf16, and the spread of the logits themselves."""
    exact = load(str(folder / "model"), device="cpu")
    rough = exact.in_precision("bf16")
    score = {"fp32": exact.scorer(CLASSES), "bf16": rough.scorer(CLASSES)}
    rng, differences, spread = np.random.default_rng(0), [], []
    for _ in range(0, count, 21):
        features = torch.from_numpy(rng.standard_normal((21, 3, 8, 512), dtype=np.float32))
        logits = {name: scorer({"features": features}) for name, scorer in score.items()}
        differences.append((logits["fp32"] - logits["bf16"]).abs().flatten())
        spread.append(logits["fp32"].std().item())
    found = torch.cat(differences)
    return {"largest": found.max().item(), "median": found.median().item(), "spread": float(np.mean(spread))}


def agreement(folder: Path, a: str, b: str) -> float:
    """Fraction of videos with the same best class in two results."""
    best = []
    for name in (a, b):
        with (folder / "out" / f"{name}.csv").open() as file:
            best.append([row["predicted"] for row in csv.DictReader(file)])
    return float(np.mean([x == y for x, y in zip(*best, strict=True)]))


def child(task: str, folder: Path, options: argparse.Namespace) -> None:
    """One task in this process."""
    if task == "prepare":
        make_model(folder)
        make_list(folder, options.entries)
        for precision in ("fp32", "bf16"):
            fill(folder, precision)
    elif task == "compare":
        print(json.dumps(compare(folder, options.compare)))
    else:
        config, accelerator = settings(folder, task), make_accelerator(cpu=True)
        classifier = load(str(folder / "model"), device=accelerator.device)
        start = time.perf_counter()
        summary = evaluate(classifier, config, accelerator, folder / "out")
        seconds = time.perf_counter() - start
        assert summary["scored"] == options.entries
        used = resource.getrusage(resource.RUSAGE_SELF)
        figures = {"evaluate": seconds, "peak_mb": used.ru_maxrss / 1024, "processor": used.ru_utime + used.ru_stime}
        print(json.dumps(figures))


def start(task: str, options: argparse.Namespace, folder: Path) -> dict:
    """Run a task in a process of its own; what it printed, and its seconds from start to end."""
    sizes = [f"--entries={options.entries}", f"--compare={options.compare}"]
    command = [sys.executable, __file__, *sizes, f"--task={task}", f"--folder={folder}"]
    begin = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {**(json.loads(done.stdout) if done.stdout else {}), "seconds": time.perf_counter() - begin}


def main() -> None:
    """Parse the command line, prepare, run every precision, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=38_676)
    parser.add_argument("--compare", type=int, default=1050, help="videos whose logits are compared")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made (4 GB)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        child(options.task, options.folder, options)
        return
    auto = resolve_precision("auto", torch.device("cpu"))
    print(
        f"{options.entries} videos, 3 views x 8 frames, 400 classes, {torch.get_num_threads()} threads; auto = {auto}"
    )
    figures = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        start("prepare", options, folder)
        for precision in ("auto", "fp32"):
            figures[precision] = found = start(precision, options, folder)
            print(
                f"{precision}: {found['seconds']:.1f} s, of it evaluation {found['evaluate']:.1f} s;"
                f" processor time {found['processor']:.1f} s; peak {found['peak_mb']:.0f} MB",
                flush=True,
            )
        figures["agreement"] = agreement(folder, "auto", "fp32")
        figures["logits"] = logits = start("compare", options, folder)
        print(
            f"same top-1 in {100 * figures['agreement']:.2f} % of videos; logits of fp32 and bf16 differ by at most"
            f" {logits['largest']:.3f} (median {logits['median']:.4f}; standard deviation of logits"
            f" {logits['spread']:.2f})"
        )
    if options.out:
        machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "auto": auto}
        versions = {"numpy": np.__version__, "torch": torch.__version__, "python": platform.python_version()}
        report = {"entries": options.entries, "machine": machine, "versions": versions, "figures": figures}
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

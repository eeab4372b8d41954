"""Time and memory against size: frames, views, batch, classes, names with 28 templates, and length of the list.

Each point is measured in a process of its own, forked once all is imported: processor seconds of the work, and the
memory by which the process grew. The figure (`--out FILE.json` draws FILE.png) has both on logarithmic axes; the
exponent is that of the best power law through the three largest sizes of a curve, so 1 is linear. Nothing should be
above 1.1, that is linear and a tenth for noise.

- frames, views, batch: pixels through ViT-B/32 (random weights, auto precision), the folded head and 400 classes, the
  median of three times;
- classes: 64 videos of 3 views of cached features against up to 20,000 classes: logits, fusion and metrics;
- names: class features of up to 20,000 names x 28 templates by the built-in tiny text tower, batch by batch;
- list: up to 1e6 lines read and sampled: records, shards' order of an epoch, batches of process 0 of 64.

    python tools/bench_scaling.py --out scaling.json
"""

import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from measuring import Goal, finish, memory_mb, options
from torch.nn import functional as F

SIZES = {
    "frames": (8, 16, 32),
    "views": (1, 2, 4, 8),
    "batch": (1, 2, 4, 8),
    "classes": (400, 1600, 6400, 20_000),
    "names": (200, 2000, 20_000),
    "list": (1000, 10_000, 100_000, 1_000_000),
}
QUICK = {"names": (50, 100, 200), "list": (1000, 10_000, 30_000), "classes": (400, 800, 1600)}
WIDTH = 512


def forward(frames: int = 8, views: int = 1, batch: int = 1) -> float:
    """Seconds of `batch` clips of so many views and frames from pixels to logits."""
    from bench_end_to_end import CLASSES, make_model

    from mote.inference.features import encode_once

    classifier = make_model()[1].in_precision("auto").for_encoding()
    score = classifier.scorer(CLASSES)

    def run(clips: int) -> None:
        pixels = torch.randint(0, 256, (clips, views, frames, 3, 224, 224), dtype=torch.uint8)
        score({"features": torch.cat([encode_once(classifier, clip[None]) for clip in pixels])})  # as `mote eval` does

    run(1)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        run(batch)
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def classify(classes: int) -> float:
    """Seconds of 64 videos from features to metrics."""
    from bench_end_to_end import make_model

    from mote.metrics.scores import summarize
    from mote.metrics.scoring import score

    model = make_model()[1].model
    labels = [f"class {i}" for i in range(classes)]
    text = F.normalize(torch.randn(classes, WIDTH), dim=-1)
    features = torch.randn(64, 3, 8, WIDTH)
    start = time.process_time()
    with torch.inference_mode():
        logits = model.classify(model.head(features.flatten(0, 1)), text).unflatten(0, (64, 3))
    batch = {"logits": logits, "index": torch.arange(64), "label": torch.arange(64), "valid": torch.ones(64).bool()}
    how = {"total": 64, "num_classes": classes, "fusion": "mean_softmax", "logit_scale": 100.0}
    summarize(score([batch], lambda tensors: tensors, **how), labels)
    return time.process_time() - start


def name(names: int) -> float:
    """Seconds of the class features of so many names x 28 templates; the second time they come from the cache."""
    import mote
    from mote.inference.features import keep_class_features

    labels = [f"action number {i}" for i in range(names)]
    torch.set_num_threads(os.cpu_count() or 1)  # a batch of prompts a thread: as much processor time, but sooner
    classifier = mote.load("tiny", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        keep_class_features(Path(folder), classifier, labels)
        seconds = time.process_time() - start
        expected = classifier.class_features.popitem()[1]
        start = time.process_time()
        keep_class_features(Path(folder), classifier, labels)
        again = time.process_time() - start
        if not torch.equal(classifier.class_features.popitem()[1], expected) or again > seconds / 2:
            raise AssertionError(f"expected the same class features from the cache, sooner: {again:.2f} s")
    return seconds


def read_list(entries: int) -> float:
    """Seconds of a list from its file to the batches of one process of 64."""
    from mote.datasets.decoding.tar_shards import shard_numbers
    from mote.datasets.lists.manifest import read_manifest
    from mote.datasets.loader import EpochSampler
    from mote.training.batches import StepBatches

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.csv"
        lines = (f"{i // 1000:05d}.tar/@{i % 1000}+1000/k/{i}.mp4,{i % 400}\n" for i in range(entries))
        path.write_text("path,label\n" + "".join(lines))
        start = time.process_time()
        records = read_manifest(path)
        numbers = shard_numbers([record.path for record in records])
        sampler = EpochSampler(len(records), groups=numbers, window=64)
        batches = StepBatches(sampler, batch_size=640, accumulation=1, processes=64, rank=0)
        if sum(1 for _ in batches) != entries // 640:
            raise AssertionError("expected a batch for every step")
        return time.process_time() - start


POINTS = {
    "frames": lambda size: forward(frames=size),
    "views": lambda size: forward(views=size),
    "batch": lambda size: forward(batch=size),
    "classes": classify,
    "names": name,
    "list": read_list,
}


def point(curve: str, size: int) -> dict[str, float]:
    """Seconds and MB of one point, in this process."""
    before = memory_mb("VmRSS")
    seconds = POINTS[curve](size)
    return {"size": size, "seconds": seconds, "mb": max(memory_mb() - before, 0.1), "peak_mb": memory_mb()}


def forked(curve: str, size: int) -> dict[str, float]:
    """`point` in a process of its own, which begins with what is imported here and nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return pool.submit(point, curve, size).result()


def exponent(points: list[dict[str, float]], key: str) -> float:
    """Slope of the line through the logarithms of the three largest sizes: further down fixed costs hide what grows."""
    sizes, values = (np.log([max(p[name], 1e-6) for p in points[-3:]]) for name in ("size", key))
    return float(np.polyfit(sizes, values, 1)[0])


def draw(figures: dict[str, dict], path: Path) -> None:
    """All curves: seconds above, memory below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, len(figures), figsize=(3 * len(figures), 5.5), layout="constrained", squeeze=False)
    for column, (curve, found) in enumerate(figures.items()):
        for row, (key, unit) in enumerate((("seconds", "s"), ("mb", "MB"))):
            panel = axes[row][column]
            sizes, values = ([p[k] for p in found["points"]] for k in ("size", key))
            panel.loglog(sizes, values, "o-", label=f"exponent {found['exponents'][key]:.2f}")
            panel.loglog(sizes, [values[0] * s / sizes[0] for s in sizes], ":", color="grey", label="linear")
            panel.set_xticks(sizes, [f"{size:g}" if size < 10_000 else f"{size:.0e}" for size in sizes])
            panel.minorticks_off()
            panel.set(title=curve if row == 0 else "", xlabel=curve, ylabel=f"{key} ({unit})")
            panel.legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Measure every curve, print the exponents, draw, write the JSON."""
    parser = options(__doc__)
    parser.add_argument("--curves", default=",".join(SIZES), help="comma-separated")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller points")
    given = parser.parse_args()
    torch.set_num_threads(1)
    import bench_end_to_end  # noqa: F401  # what is imported is no growth

    figures, goals = {}, []
    for curve in given.curves.split(","):
        sizes = QUICK.get(curve, SIZES[curve][:3]) if given.quick else SIZES[curve]
        points = []
        for size in sizes:
            points.append(forked(curve, size))
            print(f"{curve:8s} {size:8d} {points[-1]['seconds']:9.3f} s {points[-1]['mb']:8.1f} MB", flush=True)
        figures[curve] = {"points": points, "exponents": {key: exponent(points, key) for key in ("seconds", "mb")}}
        for key, value in figures[curve]["exponents"].items():
            goals.append(Goal(f"exponent of {key} against {curve}", value, 1.1))
        if curve == "names":
            goals.append(Goal(f"peak MB, {sizes[-1]} names x 28 templates", points[-1]["peak_mb"], 1000))
    if given.out:
        draw(figures, given.out.with_suffix(".png"))
    finish(figures, goals, given)


if __name__ == "__main__":
    main()

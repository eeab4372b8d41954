"""`mote predict` beside `mote eval` on the same videos: clips per second by the clock, in interleaved runs.

`python tools/bench_predict.py VIDEOS` (a folder of real clips) prints both and their ratio for 1 and 2 workers. Goal:
at least 0.95. Neither writes files; class features are made before; nothing is cached.
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path

import torch

from mote.config.sections import DataConfig, EvaluationConfig
from mote.datasets.lists.folders import find_clips
from mote.datasets.lists.manifest import Record
from mote.evaluation.video_scores import score_videos
from mote.inference.classifier import VideoClassifier
from mote.inference.features import Load
from mote.inference.loading import load_video
from mote.models.temporal import TemporalHead
from mote.parallel.accelerator import make_accelerator

NAMES = [f"class {number}" for number in range(100)]


def main() -> None:
    """Print a line of figures for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("videos", help="folder of clips")
    parser.add_argument("--model", default="tiny", help="see `mote predict` (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=200, help="how many; files are taken again where there are fewer")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    model = load_video(options.model)
    if model.model.temporal is None:
        width = model.model.embed_dim
        model.model.temporal = TemporalHead(width, 4, max(1, width // 64), 1).eval().requires_grad_(False)
    text = torch.randn(len(NAMES), model.model.embed_dim)  # encoding names is no part of this
    model.class_features[tuple(NAMES), tuple(model.templates)] = torch.nn.functional.normalize(text, dim=-1)
    files = list(itertools.islice(itertools.cycle(find_clips(Path(options.videos))), options.clips))
    for workers in options.workers:
        runs: dict[str, list[float]] = {"eval": [], "predict": []}
        for turn in range(options.runs + 1):  # the first of each is not counted
            for name, way in (("eval", evaluate), ("predict", predict)):
                start = time.perf_counter()
                way(model, files, workers)
                if turn:
                    runs[name].append(len(files) / (time.perf_counter() - start))
        ratios = [b / a for a, b in zip(runs["eval"], runs["predict"], strict=True)]
        print(
            f"{options.model}, {len(files)} clips, {workers} workers, {torch.get_num_threads()} threads: "
            f"eval {statistics.median(runs['eval']):.1f}, predict {statistics.median(runs['predict']):.1f} clips/s, "
            f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}; goal: at least 0.95)",
            flush=True,
        )


def evaluate(model: VideoClassifier, files: list[Path], workers: int) -> None:
    """As `mote eval` scores them."""
    settings = EvaluationConfig(cache=None, bad_videos="count_wrong")
    records = [Record(file, 0) for file in files]
    score_videos(model, records, NAMES, settings, DataConfig(workers=workers), make_accelerator(cpu=True))


def predict(model: VideoClassifier, files: list[Path], workers: int) -> None:
    """As `mote predict` names them."""
    for _ in model.outcomes(files, NAMES, load=Load(8, workers), timeout=60.0):
        pass


if __name__ == "__main__":
    main()

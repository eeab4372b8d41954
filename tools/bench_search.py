"""Seconds of `mote search` over a million features of 512 numbers, once they are loaded: goal 1 s.

`python tools/bench_search.py` draws them; with `--disk FOLDER` it also writes them as `mote encode` does (2 GB), and
times opening and reading them. Real folders are searched as they are read, a part at a time.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measuring import Goal

from mote.prediction.arrow import pa
from mote.prediction.encodings import FeaturePlan, vectors
from mote.prediction.folder import open_folder, record_inputs
from mote.prediction.nearest import Block, nearest, open_index
from mote.prediction.parts import write_hashed

PART = 16_384  # rows


def main() -> None:
    """Print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1)
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--disk", help="folder for a copy on disk, removed at the end")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    features = np.empty((arguments.rows, arguments.dim), np.float32)
    for start in range(0, len(features), PART):
        part = features[start : start + PART]
        part[:] = rng.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    queries = features[rng.integers(0, len(features), arguments.queries)]
    block = Block(features, np.arange(len(features)))
    wall, processor = [], []
    for number in range(arguments.rounds + 1):  # the first is not counted
        start, used = time.perf_counter(), time.process_time()
        best = nearest([block], queries, arguments.top)
        if number:
            wall.append(time.perf_counter() - start)
            processor.append(time.process_time() - used)
    assert all(abs(one.scores[0] - 1) < 1e-6 for one in best)  # each query is a row
    what = f"{arguments.queries} queries over {arguments.rows:,} x {arguments.dim}"
    print(f"{what}: {min(wall):.3f} to {max(wall):.3f} s by the clock, median {statistics.median(wall):.3f}")
    print(f"processor time {statistics.median(processor):.3f} s, {torch.get_num_threads()} threads")
    print(Goal("seconds of a search after loading", statistics.median(wall), 1.0))
    if arguments.disk:
        _disk(Path(arguments.disk), features, queries, arguments.top)


def _disk(place: Path, features: np.ndarray, queries: np.ndarray, top: int) -> None:
    """Write the features as a folder, open and search it."""
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        out, plan = Path(folder) / "out", FeaturePlan({}, dim=features.shape[1])
        open_folder(out, plan)
        names = [f"/videos/{i:07d}.mp4" for i in range(len(features))]
        record_inputs(out, names, pa.array(names))
        for number, start in enumerate(range(0, len(features), PART)):
            part, some = features[start : start + PART], names[start : start + PART]
            empty = [pa.nulls(len(some), plan.schema.field(name).type) for name in ("start", "end", "frame", "error")]
            column = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), type=vectors(features.shape[1]))
            columns = [pa.array(some), *empty[:3], column, empty[3], pa.repeat(plan.provenance, len(some))]
            write_hashed(out, f"part-20260101T{number:012d}", pa.table(columns, schema=plan.schema))
        start = time.perf_counter()
        index = open_index(out, plan)
        opened = time.perf_counter()
        nearest(index.blocks(), queries, top)
        read = time.perf_counter()
        size = sum(file.stat().st_size for file in out.iterdir()) / 1e9
        print(
            f"from disk ({size:.2f} GB): opened in {opened - start:.2f} s, read and searched in {read - opened:.2f} s"
        )


if __name__ == "__main__":
    main()

"""From files to a device-ready batch: the share of bare decoding throughput that is left, for 0, 1 and 2 workers.

Clips of 8 frames of H.264 (short and long groups of pictures) and MPEG-4, at three sizes, go through the loader of an
evaluation (uint8, `--batch` at a time), with and without the bound on decoding time that is the default. Beside it the
same frames are decoded by PyAV alone, told where they are (see `bench_decode.py`). The share is processor time of bare
decoding over processor time of everything the loader starts, so it holds for any number of cores; clips per second are
by the clock. `--memory N`: load N clips one after another instead, and print how much memory is in use, and resident
once the allocator has handed back what it keeps free for later.

    python tools/bench_loader.py --rounds 5 --out bench_loader.json
"""

import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from bench_decode import KINDS, SIZES, Plan, bare, make_clip, pil
from measuring import Goal, finish, interleaved, median_ratio, options, settled_mb, stopwatch
from tqdm import trange

from mote.datasets.lists.manifest import Record
from mote.datasets.video import VideoDataset
from mote.evaluation.views import evaluation_loader

SHARE = 0.85


def make_files(folder: Path, width: int, height: int, length: int) -> list[Path]:
    """One file of each kind that is common in data sets."""
    paths = []
    for kind in ("H.264 mp4, groups of 12", "H.264 mp4, groups of 250", "MPEG-4 avi"):
        codec, suffix, settings = KINDS[kind]
        paths.append(folder / f"{width}x{height} {kind}.{suffix}")
        make_clip(paths[-1], codec, width, height, length, settings)
    return paths


def loading(paths: list[Path], clips: int, batch: int, workers: int, timeout: float | None) -> Callable[[], None]:
    """A function that loads `clips` clips; its workers live on between calls, as they do between epochs."""
    records = [Record(paths[i % len(paths)], 0) for i in range(clips)]
    dataset = VideoDataset(records, num_frames=8, size=224, train=False, on_error="mark", timeout=timeout)
    loader = evaluation_loader(dataset, batch, workers)

    def run() -> None:
        for found in loader:
            if found["frames"].dtype != torch.uint8 or not found["valid"].all():
                raise AssertionError("expected readable clips of uint8")

    return run


def measure(paths: list[Path], given: Namespace, plain: bool) -> dict[str, dict[str, float]]:
    """{name: share of bare throughput, clips per second} of every way to load."""
    plans = [(path, Plan(path)) for path in paths]
    times = given.clips // len(paths)
    calls: dict[str, Callable[[], object]] = {"bare": lambda: [bare(*p) for _ in range(times) for p in plans]}
    for workers in (0, 1, 2):
        for timeout in (None, 60.0):
            name = f"{workers} workers, {'unbounded' if timeout is None else 'bounded'}"
            calls[name] = loading(paths, times * len(paths), given.batch, workers, timeout)
    if plain:
        calls["naive, no workers"] = lambda: [pil(*p) for _ in range(times) for p in plans]
    walls: dict[str, list[float]] = {name: [] for name in calls}

    def timed(name: str) -> None:
        start = time.perf_counter()
        calls[name]()
        walls[name].append(time.perf_counter() - start)

    seconds = interleaved({name: partial(timed, name) for name in calls}, given.rounds, stopwatch())
    rate = {name: times * len(paths) / statistics.median(wall[1:]) for name, wall in walls.items()}
    return {name: {"share": median_ratio(seconds, "bare", name), "clips_per_second": rate[name]} for name in calls}


def keep_loading(paths: list[Path], clips: int) -> list[dict[str, float]]:
    """`settled_mb` after each tenth of the clips, loaded one by one in this process."""
    dataset = VideoDataset([Record(path, 0) for path in paths], num_frames=8, size=224, train=True)
    found = []
    for i in trange(1, clips + 1, unit="clip", disable=None):
        dataset[i // len(paths), i % len(paths)]
        if i % (clips // 10) == 0:
            found.append({"clips": i, **settled_mb()})
    return found


def main() -> None:
    """Make the files, measure, print the table, write the JSON."""
    parser = options(__doc__, rounds=5, clips=24, batch=8, frames=270, memory=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures, goals = {}, []
    with tempfile.TemporaryDirectory() as folder:
        if given.memory:
            paths = make_files(Path(folder), 320, 240, 30)
            rows = keep_loading(paths, given.memory)
            for row in rows:
                print(
                    "{clips:6.0f} clips: {in_use:.2f} MB in use, {trimmed:.1f} resident, {resident:.1f} with what "
                    "the allocator keeps free".format_map(row)
                )
            first, last = rows[0], rows[-1]
            title = f"MB more {{}} in the last nine tenths of {given.memory} clips"
            goals.append(Goal(title.format("in use"), last["in_use"] - first["in_use"], 2))
            goals.append(Goal(title.format("resident"), max(row["trimmed"] for row in rows) - first["trimmed"], 16))
            figures["memory"] = rows
        else:
            for width, height in SIZES:
                paths = make_files(Path(folder), width, height, given.frames)
                figures[f"{width}x{height}"] = found = measure(paths, given, given.against == "naive")
                for name, row in found.items():
                    rate = f"{row['clips_per_second']:7.1f} clips/s"
                    print(f"{width}x{height}  {name:22s} {rate}, {100 * row['share']:6.1f} % of bare", flush=True)
                    if "bounded" in name:
                        title = f"{width}x{height}: share of bare decoding throughput, {name}"
                        goals.append(Goal(title, row["share"], SHARE, least=True))
    finish(figures, goals, given)


if __name__ == "__main__":
    main()

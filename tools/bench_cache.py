"""How fast is the feature cache, and how much memory does reading take? Random features; one process per task.

Tasks, in this order, on a cache in a temporary folder that is removed afterwards:

- write: `put` of every entry (the time to draw the features is left out);
- open: reading the index;
- check: `missing` of all keys, which reads and verifies every entry;
- list: all entries in the order of a list, as an evaluation reads them;
- shuffled: all entries in random order.

Peak memory is that of the whole process; `import` is what it takes before it does anything. Entries that fit into the
memory of the machine are read from the page cache, not from the disk.

    python tools/bench_cache.py --entries 38676 --views 3 --frames 8 --width 512 --out bench_cache.json
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mote.datasets.cache.feature_cache import FeatureCache, entry_key, namespace_key

TASKS = ("import", "write", "open", "check", "list", "shuffled")
SPACE = namespace_key(bench="random features")


def write(folder: Path, keys: list[str], shape: tuple[int, int, int]) -> float:
    """Seconds spent in `put`."""
    rng, seconds = np.random.default_rng(0), 0.0
    with FeatureCache(folder, SPACE) as cache:
        for key in keys:
            features = rng.random(shape, dtype=np.float32)
            start = time.perf_counter()
            cache.put(key, features)
            seconds += time.perf_counter() - start
    return seconds


def measure(task: str, folder: Path, options: argparse.Namespace) -> float:
    """Seconds of one task."""
    keys = [entry_key(f"file {i}", "bench") for i in range(options.entries)]
    shape = (options.views, options.frames, options.width)
    if task == "import":
        return 0.0
    if task == "write":
        return write(folder, keys, shape)
    start = time.perf_counter()
    cache = FeatureCache(folder, SPACE)
    if task != "open":
        start = time.perf_counter()
    if task == "check" and (missing := cache.missing(keys)):
        raise AssertionError(f"{len(missing)} entries are missing")
    if task in ("list", "shuffled"):
        order = range(len(keys)) if task == "list" else np.random.default_rng(1).permutation(len(keys))
        found = sum(cache.read(keys[i]) is not None for i in order)
        if found != len(keys):
            raise AssertionError(f"expected {len(keys)} entries, got {found}")
    return time.perf_counter() - start


def peak_memory() -> float | None:
    """Peak resident memory of this process in MB; None where it cannot be told."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Parse the command line, run every task in a process of its own, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=38_676)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        seconds = measure(options.task, options.folder, options)
        print(json.dumps({"seconds": seconds, "peak_mb": peak_memory()}))
        return
    sizes = {name: getattr(options, name) for name in ("entries", "views", "frames", "width")}
    megabytes = 4e-6 * options.entries * options.views * options.frames * options.width
    print(f"{sizes}: {megabytes:.0f} MB of features\n{'task':10s} {'s':>8s} {'MB/s':>8s} {'peak MB':>8s}")
    figures = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for task in TASKS:
            arguments = [f"--{name}={value}" for name, value in {**sizes, "folder": folder, "task": task}.items()]
            done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
            figures[task] = found = json.loads(done.stdout)
            speed = f"{megabytes / found['seconds']:8.0f}" if task not in ("import", "open") else f"{'-':>8s}"
            print(f"{task:10s} {found['seconds']:8.2f} {speed} {found['peak_mb'] or 0:8.0f}", flush=True)
    if options.out:
        machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        versions = {"numpy": np.__version__, "torch": torch.__version__, "python": platform.python_version()}
        report = {"sizes": sizes, "megabytes": megabytes, "machine": machine, "versions": versions, "tasks": figures}
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""What the benchmarks share: interleaved runs, the processor time of a process and all it started, memory, the machine.

On a machine that others use too, the processor time says more than the clock on the wall, and a ratio of neighbouring
runs more than a ratio of medians: both slow down together.
"""

import argparse
import ctypes
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mote.files.provenance import versions

Clock = Callable[[], float]
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


class Goal(NamedTuple):
    """A figure with what it should be; `least`: whether `bound` is the least it should be, else the most."""

    name: str
    value: float
    bound: float
    least: bool = False

    @property
    def reached(self) -> bool:
        """Whether the value is on the right side of the bound."""
        return self.value >= self.bound if self.least else self.value <= self.bound

    def __str__(self) -> str:
        side = "at least" if self.least else "at most"
        return f"{self.name:72s} {self.value:9.3f}  {side} {self.bound:g}: {'reached' if self.reached else 'MISSED'}"


def interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int, clock: Clock, say: bool = False
) -> dict[str, list[float]]:
    """Seconds of each call in each round; they take turns, in rotating order, after one round to warm up.

    `say`: print each at once, so that a run of minutes that is ended early leaves something.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = clock()
            calls[name]()
            times[name].append(clock() - start)
            if say:
                print(f"{f'round {turn}' if turn else 'warm-up'}: {name:16s} {times[name][-1]:8.2f} s", flush=True)
    return {name: seconds[1:] for name, seconds in times.items()}


def median_ratio(times: Mapping[str, Sequence[float]], above: str, below: str) -> float:
    """Median over the rounds of one call's time over another's."""
    return statistics.median(a / b for a, b in zip(times[above], times[below], strict=True))


def tree_seconds() -> float:
    """Processor seconds that the threads of this process and of all its living descendants have used (Linux)."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
        children.setdefault(parent, []).append(int(status.parent.name))
    total, left = 0, [os.getpid()]
    while left:
        process = left.pop()
        left += children.get(process, [])
        for file in Path(f"/proc/{process}/task").glob("*/schedstat"):
            try:
                total += int(file.read_text().split()[0])
            except OSError:
                continue
    return total / 1e9


def memory_mb(field: str = "VmHWM") -> float:
    """A field of /proc/self/status in MB: "VmHWM", the peak so far, or "VmRSS"; not a number where there is none."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), float("nan"))


class _Heap(ctypes.Structure):
    """What glibc's `mallinfo2` returns; 4: bytes in mappings of their own, 7: given out of the heap."""

    _fields_ = [("values", ctypes.c_size_t * 10)]


def settled_mb() -> dict[str, float]:
    """MB of this process: resident, as it is and after the allocator handed back what it keeps free, and in use.

    What an allocator keeps for later comes and goes by tens of MB; only what is in use can leak. Not a number without
    glibc.
    """
    gc.collect()
    before, library = memory_mb("VmRSS"), ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return {"resident": before, "trimmed": float("nan"), "in_use": float("nan")}
    library.malloc_trim(0)
    library.mallinfo2.restype = _Heap
    heap = library.mallinfo2().values
    return {"resident": before, "trimmed": memory_mb("VmRSS"), "in_use": (heap[4] + heap[7]) / 2**20}


def machine() -> dict[str, Any]:
    """Processor, its cores and matrix units, threads of torch, GPU."""
    info = Path("/proc/cpuinfo")
    pairs = [line.split(":", 1) for line in info.read_text().splitlines() if ":" in line] if info.exists() else []
    facts = {key.strip(): value.strip() for key, value in pairs}
    found: dict[str, Any] = {
        "cpu": facts.get("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in facts.get("flags", "").split()],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    return found | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def options(description: str | None, **defaults: int) -> argparse.ArgumentParser:
    """A parser with `--out`, `--against` and an option for each of `defaults`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--against", choices=("naive",), help="run the field's usual way beside it")
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    return parser


def finish(figures: Mapping[str, Any], goals: Sequence[Goal], given: argparse.Namespace) -> None:
    """Print the goals; write figures, goals, settings, machine and versions to `--out`."""
    for goal in goals:
        print(goal, flush=True)
    if given.out:
        settings = {name: value for name, value in vars(given).items() if name != "out"}
        named = [{**goal._asdict(), "reached": goal.reached} for goal in goals]
        report = {
            "settings": settings,
            "machine": machine(),
            "versions": versions(),
            "figures": figures,
            "goals": named,
        }
        given.out.write_text(json.dumps(report, indent=1, default=str) + "\n")


def stopwatch() -> Clock:
    """The clock of a table: processor time of this process and its descendants on Linux, else of this process."""
    return tree_seconds if Path("/proc/self/task").exists() else time.process_time

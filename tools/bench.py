"""All figures of speed and memory by one command: a table of goals, and JSON with `--out`.

Each section is a script of its own (see `--help` there; its defaults take longer and are more exact) in a process of
its own: one that fails is named in the table and costs the others nothing. All sections take about 20 minutes
on two slow cores. Ratios are medians of interleaved runs. `--against naive` runs our own plain implementation of the
field's usual way beside ours where a section has one: per-frame PIL loading, float32, experts merged in every pass, a
head run twice, every view decoded and encoded anew; in training fp16 autocast (on a CPU bf16 where it has the units,
else fp32), every block recomputed.

    python tools/bench.py --out bench.json --against naive
    python tools/bench.py --only decode,eval,train,scaling,startup --quick
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECTIONS = {  # name: (script, its settings, its settings with --quick, whether it has a naive way)
    "decode": ("bench_decode.py", ["--rounds=5", "--frames=150"], ["--rounds=2", "--frames=60"], False),
    "loader": (
        "bench_loader.py",
        ["--rounds=5", "--clips=12", "--frames=150", "--batch=6"],
        ["--rounds=1", "--clips=3", "--frames=60", "--batch=3"],
        True,
    ),
    "memory": ("bench_loader.py", ["--memory=1500"], ["--memory=100"], False),
    "keyframes": ("bench_keyframes.py", ["--clips=5", "--rounds=2"], ["--clips=2", "--rounds=1"], False),
    "eval": ("bench_end_to_end.py", ["--rounds=2", "--videos=3"], ["--rounds=1", "--videos=2", "--length=30"], True),
    "cached": ("bench_eval.py", ["--entries=4000"], ["--entries=500", "--compare=105"], False),
    "cache": ("bench_cache.py", ["--entries=4000"], ["--entries=500"], False),
    "head": ("bench_head.py", ["--repeats=5", "--clips=16"], ["--repeats=1", "--clips=8"], False),
    "mixing": (
        "bench_mixing.py",
        ["--clips=1", "--frames=2", "--repeats=2", "--clock=cpu"],
        ["--clips=1", "--frames=1", "--repeats=1", "--clock=cpu"],
        False,
    ),
    "train": (
        "bench_train.py",
        ["--rounds=2"],
        ["--rounds=1", "--clips=1", "--frames=1", "--model=ViT-B-32-quickgelu"],
        True,
    ),
    "scaling": ("bench_scaling.py", [], ["--quick"], False),
    "startup": ("bench_startup.py", ["--rounds=5"], ["--rounds=2"], False),
}
LIMIT = 900  # seconds of a section by the clock; longer, and it is ended


def run(section: str, given: argparse.Namespace, folder: Path) -> dict:
    """One section in a process of its own; what it wrote, its exit code (None: ended after LIMIT), and its seconds."""
    script, usual, quick, naive = SECTIONS[section]
    out = folder / f"{section}.json"
    settings = quick if given.quick else usual
    settings = [*settings, "--against=naive"] if naive and given.against else settings
    print(f"\n== {section}: {script} {' '.join(settings)}", flush=True)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(Path(__file__).parent / script), *settings, f"--out={out}"]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code = process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        if process.poll() is None:  # with all that it started
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = {
        "seconds": time.perf_counter() - start,
        "processor_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }
    return {**(json.loads(out.read_text()) if code == 0 and out.exists() else {}), "exit_code": code, **used}


def summary(found: dict[str, dict]) -> None:
    """Every goal, every section that failed, and what each section took."""
    print(f"\n{'section':9s} {'figure':72s} {'value':>9s}  goal")
    for section, result in found.items():
        for goal in result.get("goals", []):
            side = "at least" if goal["least"] else "at most"
            verdict = "reached" if goal["reached"] else "MISSED"
            print(f"{section:9s} {goal['name']:72s} {goal['value']:9.3f}  {side} {goal['bound']:g}: {verdict}")
        if result["exit_code"] != 0:
            cause = f"exit code {result['exit_code']}" if result["exit_code"] else f"ended after {LIMIT} s"
            print(f"{section:9s} FAILED: {cause}")
    times = [(section, result["seconds"], result["processor_seconds"]) for section, result in found.items()]
    parts = ", ".join(f"{section} {wall:.0f} ({used:.0f})" for section, wall, used in times)
    wall, used = (sum(column) for column in list(zip(*times, strict=True))[1:])
    print(f"\nseconds by the clock (of the processor): {parts}; all {wall:.0f} ({used:.0f})")


def main() -> None:
    """Run the sections, print every goal, write the JSON; exit code 1 where a section failed or a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"comma-separated sections of {', '.join(SECTIONS)}")
    parser.add_argument("--against", choices=("naive",))
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that everything runs, not how fast")
    parser.add_argument("--out", type=Path, help="JSON file")
    given = parser.parse_args()
    chosen = given.only.split(",") if given.only else list(SECTIONS)
    if unknown := [name for name in chosen if name not in SECTIONS]:
        parser.error(f"unknown sections {unknown}; choose from {', '.join(SECTIONS)}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for section in chosen:
            found[section] = run(section, given, Path(folder))
            if given.out:  # after each: what comes later may fail
                given.out.write_text(json.dumps(found, indent=1) + "\n")
    summary(found)
    goals = [goal["reached"] for result in found.values() for goal in result.get("goals", [])]
    sys.exit(int(not all(goals) or any(result["exit_code"] != 0 for result in found.values())))


if __name__ == "__main__":
    main()

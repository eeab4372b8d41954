"""All figures of speed and memory by one command: a table of goals, and JSON with `--out`.

Each section is a script of its own (`tools/bench_SECTION.py`, see `--help` there for its settings) and runs in a
process of its own; ratios are medians of interleaved runs. `--against naive` runs our own plain implementation of the
field's usual way beside ours where a section has one: per-frame PIL loading, float32, experts merged in every pass, a
head run twice, every view decoded and encoded anew; in training fp16 autocast (bf16 on a CPU), every block recomputed.

    python tools/bench.py --out bench.json --against naive
    python tools/bench.py --only decode,eval,train,scaling,startup --quick
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECTIONS = {  # name: (script, its settings, its settings with --quick, whether it has a naive way)
    "decode": ("bench_decode.py", [], ["--rounds=3", "--frames=90"], False),
    "loader": ("bench_loader.py", [], ["--rounds=2", "--clips=6", "--frames=90", "--batch=3"], True),
    "memory": ("bench_loader.py", ["--memory=10000"], ["--memory=500"], False),
    "eval": ("bench_end_to_end.py", [], ["--rounds=1", "--videos=6"], True),
    "cached": ("bench_eval.py", [], ["--entries=500", "--compare=105"], False),
    "cache": ("bench_cache.py", [], ["--entries=500"], False),
    "head": ("bench_head.py", [], ["--repeats=3", "--clips=16"], False),
    "mixing": ("bench_mixing.py", [], ["--clips=1", "--frames=2", "--repeats=1"], False),
    "train": ("bench_train.py", [], ["--rounds=1"], True),
    "scaling": ("bench_scaling.py", [], ["--quick"], False),
    "startup": ("bench_startup.py", [], ["--rounds=3"], False),
}


def run(section: str, given: argparse.Namespace, folder: Path) -> dict:
    """One section in a process of its own; what it wrote, or that it failed."""
    script, usual, quick, naive = SECTIONS[section]
    out = folder / f"{section}.json"
    settings = quick if given.quick else usual
    settings = [*settings, "--against=naive"] if naive and given.against else settings
    print(f"\n== {section}: {script} {' '.join(settings)}", flush=True)
    start = time.perf_counter()
    here = Path(__file__).parent
    done = subprocess.run([sys.executable, str(here / script), *settings, f"--out={out}"])
    found = json.loads(out.read_text()) if out.exists() else {}
    return {**found, "exit_code": done.returncode, "seconds": time.perf_counter() - start}


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
    with tempfile.TemporaryDirectory() as folder:
        found = {section: run(section, given, Path(folder)) for section in chosen}
    print(f"\n{'section':9s} {'figure':72s} {'value':>9s}  goal")
    for section, result in found.items():
        for goal in result.get("goals", []):
            side = "at least" if goal["least"] else "at most"
            verdict = "reached" if goal["reached"] else "MISSED"
            print(f"{section:9s} {goal['name']:72s} {goal['value']:9.3f}  {side} {goal['bound']:g}: {verdict}")
        if result["exit_code"]:
            print(f"{section:9s} failed with exit code {result['exit_code']}")
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")
    goals = [goal["reached"] for result in found.values() for goal in result.get("goals", [])]
    sys.exit(int(not all(goals) or any(result["exit_code"] for result in found.values())))


if __name__ == "__main__":
    main()

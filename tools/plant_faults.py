"""Would the tests notice? Small faults are planted in the core modules one at a time, and each module's tests run.

A fault is one change of the syntax tree: a comparison, an operator or a constant exchanged, a condition turned round, a
statement or a raised error left out, an argument dropped or exchanged with its neighbour, a method such as `detach` not
called. Docstrings, annotations and the words of errors are left alone. Each fault is written into a copy of the tree in
a temporary folder, never into the tree itself; a fault is noticed when a test fails, cannot be collected, or takes too
long. Shapes and types are not checked as in the suite, which takes half of the time, so the count errs on the low side.
What survives is printed. Some faults change nothing that anybody could see: those are named in
`planted_faults.json` (module, line as it was, line as it became, reason) and not counted; so are the tests of a module.

    python tools/plant_faults.py --faults 8 --seed 0 --out faults.json            # all modules
    python tools/plant_faults.py --modules routing,experts --faults 20
    python tools/plant_faults.py --settings --out settings.json    # every setting that could be dropped on its way
    python tools/plant_faults.py --out faults.json --again         # survivors, after new tests were written

What stands in `--out` is not tried again, so that a run which was broken off goes on. Tests are collected once; each
fault has a fork of that process, in which the code of the changed functions is exchanged, and runs the tests of its
module, quick ones first, until one fails: 1 to 3 s of processor time. A fault outside functions (a default, a constant
of a module) is imported anew, which takes some seconds more. Linux only, as it forks.
"""

import argparse
import ast
import importlib
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from faults import DROPPED, Fault, faults
from faults_in_forks import Planter, Row, fork_of_pytest, waited

ROOT = Path(__file__).resolve().parents[1]
KNOWN = json.loads(Path(__file__).with_name("planted_faults.json").read_text())
TESTS: dict[str, list[str]] = KNOWN["tests"]  # module -> its tests below tests/, quick ones first
SETTINGS: dict[str, list[str]] = KNOWN["settings"]  # the same for modules that hand settings on
SLOW_IMPORTS = ("torch", "open_clip", "timm", "accelerate", "scipy.stats", "peft", "PIL.Image")
GOAL = 0.95
SECTIONS = [
    ast.parse((ROOT / "mote" / "config" / f"{name}.py").read_text()) for name in ("sections", "image_sections", "tree")
]
FIELDS = [node.target for tree in SECTIONS for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)]
SETTING_NAMES = {field.id for field in FIELDS if isinstance(field, ast.Name)}  # of the configuration, not imported here
TIMES = itertools.count()


def copied_tree(folder: Path, modules: Sequence[str]) -> Path:
    """The package and its tests, copied, `modules` printed from their syntax trees; what tests write stays there."""
    tree = folder / "tree"
    left = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("mote", "tests", "data", "configs", "docs", "tools"):
        shutil.copytree(ROOT / name, tree / name, ignore=left)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy2(ROOT / name, tree / name)
    for module in modules:  # lines keep their numbers when one of them changes
        path = tree / "mote" / f"{module}.py"
        path.write_text(ast.unparse(ast.parse(path.read_text())))
    real = Path(os.environ.get("MOTE_REAL_DATA", ROOT.parent / "shared" / "data"))
    os.environ["MOTE_REAL_DATA"] = str(real.resolve())
    return tree


def tried(folder: Path, work: Sequence[tuple[str, list[str], list[Fault]]]) -> Iterator[Row]:
    """Plant faults one after the other; a row for each, as it comes."""
    tree, log, rows = copied_tree(folder, [module for module, *_ in work]), folder / "log.txt", folder / "rows.jsonl"
    rows.touch()
    tests_of = {module: tests for module, tests, _ in work}
    names = dict.fromkeys(name for tests in tests_of.values() for name in tests)
    server, known, running = fork_of_pytest(tree, list(names), log, [Planter(tree, work, rows)]), 0, True
    while running:
        time.sleep(0.2)
        done, status = os.waitpid(server, os.WNOHANG)
        running = not done
        lines = rows.read_text().splitlines()
        for row in map(json.loads, lines[known:]):
            yield _anew(tree, row, tests_of[row["module"]]) if row["result"] == "elsewhere" else row
        known = len(lines)
    if status:
        raise SystemExit(f"broken off:\n{log.read_text()[-3000:]}")


def _anew(tree: Path, row: Row, tests: list[str]) -> Row:
    """A fault that is not in a function: in a copy of the tree whose modules are imported anew."""
    other = tree.with_name("other")
    if not other.exists():
        shutil.copytree(tree, other / "tree", ignore=shutil.ignore_patterns("__pycache__"))
    path = other / "tree" / "mote" / f"{row['module']}.py"
    plain = path.read_text()
    path.write_text(row["source"])
    os.utime(path, (next(TIMES),) * 2)  # never the time of a compiled file
    result, used = waited(fork_of_pytest(other / "tree", tests, other / "log.txt"), 1200)
    path.write_text(plain)
    by = [line.split()[1] for line in (other / "log.txt").read_text().splitlines() if line.startswith("FAILED ")]
    return {**row, "result": result, "by": by[0] if by else "", "seconds": round(used, 1)}


def table(rows: list[Row]) -> str:
    """Counts by module, then every fault that survived."""
    lines = []
    for module in dict.fromkeys(row["module"] for row in rows):
        results = [row["result"] for row in rows if row["module"] == module]
        counted = [result for result in results if result != "equivalent"]
        noticed = len(counted) - counted.count("passed")
        lines.append(f"{module:32s} {noticed} of {len(counted)} noticed, {results.count('equivalent')} equivalent")
    for row in rows:
        if row["result"] == "passed":
            lines += [f"{row['module']}:{row['line']} {row['kind']}", f"  - {row['before']}", f"  + {row['after']}"]
    return "\n".join(lines)


def chosen(module: str, count: int, seed: int, only_settings: bool) -> list[Fault]:
    """Some faults of a module, which the seed decides; or all settings that it could drop."""
    source = (ROOT / "mote" / f"{module}.py").read_text()
    if only_settings:
        return [fault for fault in faults(module, source, kinds=[DROPPED]) if is_setting(fault)]
    return list(itertools.islice(faults(module, source, random.Random(f"{seed} {module}")), count))


def is_setting(fault: Fault) -> bool:
    """Whether what a fault leaves out names a setting of the configuration."""
    return not SETTING_NAMES.isdisjoint(fault.lost)


def judged(row: Row) -> Row:
    """A row as it is kept, "equivalent" with the reason where it survived and changes nothing that could be seen."""
    known = {(one["module"], one["before"], one["after"]): one["reason"] for one in KNOWN["equivalent"]}
    reason = known.get((row["module"], row["before"], row["after"]), "")
    kept = {key: value for key, value in row.items() if key != "source"}
    return {**kept, "result": "equivalent" if reason and row["result"] == "passed" else row["result"], "reason": reason}


def main() -> None:
    """Plant, run, print; exit code 1 below the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", default="", help="names or parts of names, separated by commas; all by default")
    parser.add_argument("--faults", type=int, default=8, help="of each module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", action="store_true", help="instead: all settings that could be dropped")
    parser.add_argument("--out", type=Path, help="keep every fault and its result as JSON; those there are not tried")
    parser.add_argument("--again", action="store_true", help="try survivors of --out once more")
    given = parser.parse_args()
    tests = SETTINGS if given.settings else TESTS
    wanted = [module for module in tests if any(part in module for part in given.modules.split(","))]
    if not wanted:
        parser.error(f"--modules {given.modules}: matches none of {', '.join(tests)}")
    rows: list[Row] = json.loads(given.out.read_text()) if given.out and given.out.exists() else []
    rows = [row for row in map(judged, rows) if not (given.again and row["result"] == "passed")]
    there = {tuple(row[key] for key in ("module", "line", "before", "after")) for row in rows}
    work = []
    for module in wanted:
        planted = chosen(module, given.faults, given.seed, given.settings)
        planted = [one for one in planted if (one.module, one.line, one.before, one.after) not in there]
        if planted:
            work.append((module, [name for name in tests[module] if (ROOT / "tests" / name).exists()], planted))
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in SLOW_IMPORTS if work else ():
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        for row in tried(Path(folder), work) if work else ():
            rows.append(judged(row))
            print(f"{row['module']}:{row['line']} {row['kind']}: {rows[-1]['result']} {row['by']}", flush=True)
            if given.out:
                given.out.write_text(json.dumps(rows, indent=1) + "\n")
    rows = [row for row in rows if row["module"] in wanted]
    counted = [row for row in rows if row["result"] != "equivalent"]
    share = sum(row["result"] != "passed" for row in counted) / max(1, len(counted))
    print(table(rows))
    print(f"{100 * share:.1f} % of {len(counted)} faults noticed (goal: {100 * GOAL:g} %)")
    sys.exit(share < GOAL)


if __name__ == "__main__":
    main()

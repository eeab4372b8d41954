"""Would the tests notice? Small faults are planted in the core modules one at a time, and each module's tests run.

A fault is one change of the syntax tree: a comparison, an operator or a constant exchanged, a condition turned round, a
statement or a raised error left out, an argument dropped or exchanged with its neighbour, a method such as `detach` not
called. Docstrings, annotations and the words of errors are left alone. Each fault is written into a copy of the tree in
a temporary folder, never into the tree itself; a fault is noticed when a test fails, cannot be collected, or takes too
long. Shapes and types are not checked as in the suite, which takes half of the time, so the count errs on the low side.
What survives is printed. Some faults change nothing that anybody could see: those are named in
`planted_faults.json` (module, line as it was, line as it became, reason) and not counted; so are the tests of a module.

    python tools/plant_faults.py --faults 8 --seed 0 --out faults.json            # all modules: about an hour
    python tools/plant_faults.py --modules routing,experts --faults 20

Tests run in forks of one process that has the slow imports done. Linux only, as it forks.
"""

import argparse
import ast
import copy
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
KNOWN = json.loads(Path(__file__).with_name("planted_faults.json").read_text())
TESTS: dict[str, list[str]] = KNOWN["tests"]  # module -> its tests below tests/, quick ones first
SLOW_IMPORTS = ("torch", "open_clip", "timm", "accelerate", "scipy.stats", "peft", "PIL.Image")
GOAL = 0.95
OPTIONS = ["-xq", "-m", "not slow", "-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "--tb=short"]
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what is imported already

COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
            ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}  # fmt: skip
COMBINED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
            ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}  # fmt: skip
SKIPPED_CALLS = {"detach", "clone", "clamp", "clamp_min", "float", "double", "flip", "sort", "to", "expand", "sqrt"}
LOSSLESS = {"cast", "ValueError", "super", "TypeVar", "register_buffer"}  # arguments of these are names or words


class Fault(NamedTuple):
    """A planted fault: where it is and how the line reads before and after."""

    module: str
    line: int
    kind: str
    before: str
    after: str
    source: str  # of the whole module with the fault in it


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST | None]]:
    """(kind, replacement) of every fault that this node can have; None: leave the statement out."""
    twin: Any = copy.deepcopy(node)
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        twin.ops[0] = COMPARED[type(node.ops[0])]()
        yield "comparison", twin
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in COMBINED:
        twin.op = COMBINED[type(node.op)]()
        yield "operator", twin
    elif isinstance(node, ast.BoolOp):
        twin.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "condition", twin
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield "operator", twin.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        value = node.value
        other = (
            not value if isinstance(value, bool) else value + 1 if isinstance(value, int) or not value else value / 2
        )
        yield "constant", ast.Constant(other)
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        twin.test = ast.UnaryOp(ast.Not(), copy.deepcopy(node.test))
        yield "condition", twin
    if isinstance(node, ast.Raise | ast.AugAssign | ast.Break | ast.Continue) or _effect(node):
        yield "statement", None
    if isinstance(node, ast.Call) and _name(node.func) not in LOSSLESS:
        for number in range(len(node.keywords)):
            less: Any = copy.deepcopy(node)
            del less.keywords[number]
            yield "argument dropped", less
        if len(node.args) > 1 and not any(isinstance(one, ast.Starred) for one in node.args):
            less = copy.deepcopy(node)
            del less.args[-1]
            yield "argument dropped", less
            swapped: Any = copy.deepcopy(node)
            swapped.args[:2] = swapped.args[1::-1]
            yield "arguments exchanged", swapped
        moved = any("device" in ast.unparse(one) for one in node.args)  # nothing moves where all is on one device
        if isinstance(node.func, ast.Attribute) and node.func.attr in SKIPPED_CALLS and not moved:
            yield "call left out", twin.func.value


def _effect(node: ast.AST) -> bool:
    """Whether a statement has an effect only: a call, or a value stored in an attribute or an item."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    kept = ast.Attribute | ast.Subscript
    return isinstance(node, ast.Assign) and all(isinstance(target, kept) for target in node.targets)


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


class _Places(ast.NodeVisitor):
    """The nodes of a module that may get a fault, in order, with the statement that they stand in."""

    def __init__(self) -> None:
        self.found: list[tuple[ast.AST, ast.stmt]] = []
        self._statement: ast.stmt | None = None

    def visit(self, node: ast.AST) -> None:
        outer = self._statement
        if isinstance(node, ast.stmt):
            self._statement = node
        if self._statement is not None and not isinstance(node, ast.expr_context):
            self.found.append((node, self._statement))
        if isinstance(node, ast.FunctionDef):  # not its annotations and decorators
            for part in (*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body):
                self.visit(part)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.visit(node.value)
        elif not isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
            self.generic_visit(node)
        self._statement = outer


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST | None):
        self.old, self.new = old, ast.Pass() if new is None else new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def faults(module: str, source: str) -> list[Fault]:
    """Every fault that can be planted in a module, in the order of its lines."""
    tree = ast.parse(source)
    places = _Places()
    places.visit(tree)
    plain, found = ast.unparse(tree), []
    for node, statement in places.found:
        for kind, new in changes(node):
            text = ast.unparse(ast.fix_missing_locations(_Replace(node, new).visit(copy_of(tree, node))))
            before, after = _difference(plain, text)
            if text != plain:
                found.append(Fault(module, statement.lineno, kind, before, after, text))
    return found


def copy_of(tree: ast.AST, node: ast.AST) -> ast.AST:
    """A deep copy of the tree in which `node` itself stands, so that it is found by identity."""
    return copy.deepcopy(tree, {id(node): node})


def _difference(a: str, b: str) -> tuple[str, str]:
    """The first line that differs, before and after."""
    pairs = zip(a.splitlines(), b.splitlines(), strict=False)
    return next(((x.strip(), y.strip()) for x, y in pairs if x != y), ("", ""))


def run_tests(tree: Path, tests: list[str], limit: float, log: Path) -> tuple[str, float]:
    """("passed", "failed" or "too long"; seconds) of the tests of a tree, in a fork."""
    start, child = time.monotonic(), os.fork()
    if not child:
        os.setsid()
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
        os.dup2(1, 2)
        os.chdir(tree)
        sys.path[0] = str(tree)
        import pytest

        code = 3
        try:
            code = pytest.main([*OPTIONS, *(f"tests/{name}" for name in tests)])
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(int(code))
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        seconds = time.monotonic() - start
        if done:
            return ("failed" if status else "passed"), seconds
        if seconds > limit:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "too long", seconds
        time.sleep(0.05)


def copied_tree(folder: Path) -> Path:
    """The package and its tests, copied; what tests write stays there."""
    tree = folder / "tree"
    left = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("mote", "tests", "data", "configs", "docs", "tools"):
        shutil.copytree(ROOT / name, tree / name, ignore=left)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy2(ROOT / name, tree / name)
    real = Path(os.environ.get("MOTE_REAL_DATA", ROOT.parent / "shared" / "data"))
    os.environ["MOTE_REAL_DATA"] = str(real.resolve())
    return tree


def tried(tree: Path, module: str, count: int, seed: int, known: dict[tuple[str, ...], str]) -> list[dict[str, Any]]:
    """Plant `count` faults of a module one after the other; a row for each."""
    path, log = tree / "mote" / f"{module}.py", tree.parent / "log.txt"
    source, tests = path.read_text(), [name for name in TESTS[module] if (tree / "tests" / name).exists()]
    result, seconds = run_tests(tree, tests, 600, log)
    if result != "passed":
        raise SystemExit(f"{module}: its tests do not pass without any fault:\n{log.read_text()[-2000:]}")
    sys.dont_write_bytecode, rows = True, []  # from here on, so that the copy's compiled modules stay those of no fault
    chosen = faults(module, source)
    for number, fault in enumerate(random.Random(f"{seed} {module}").sample(chosen, min(count, len(chosen)))):
        path.write_text(fault.source)
        os.utime(path, (number, number))  # never the time of a compiled file
        result, taken = run_tests(tree, tests, 60 + 4 * seconds, log)
        reason = known.get((module, fault.before, fault.after), "")
        row = {**fault._asdict(), "result": "equivalent" if reason and result == "passed" else result}
        del row["source"]
        rows.append({**row, "reason": reason, "seconds": round(taken, 1)})
        print(f"{module}:{fault.line} {fault.kind}: {rows[-1]['result']}", flush=True)
    path.write_text(source)
    sys.dont_write_bytecode = False
    return rows


def table(rows: list[dict[str, Any]]) -> str:
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


def main() -> None:
    """Plant, run, print; exit code 1 below the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", default="", help="names or parts of names, separated by commas; all by default")
    parser.add_argument("--faults", type=int, default=8, help="of each module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write every fault and its result as JSON")
    given = parser.parse_args()
    wanted = [module for module in TESTS if any(part in module for part in given.modules.split(","))]
    if not wanted:
        parser.error(f"--modules {given.modules}: matches none of {', '.join(TESTS)}")
    known = {(one["module"], one["before"], one["after"]): one["reason"] for one in KNOWN["equivalent"]}
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        tree = copied_tree(Path(folder))
        for module in wanted:
            rows += tried(tree, module, given.faults, given.seed, known)
            if given.out:
                given.out.write_text(json.dumps(rows, indent=1) + "\n")
    counted = [row for row in rows if row["result"] != "equivalent"]
    share = sum(row["result"] != "passed" for row in counted) / max(1, len(counted))
    print(table(rows))
    print(f"{100 * share:.1f} % of {len(counted)} faults noticed (goal: {100 * GOAL:g} %)")
    sys.exit(share < GOAL)


if __name__ == "__main__":
    main()

"""Tests for `plant_faults`: collected once, and run in forks in which the code of a few functions is another."""

import gc
import json
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from faults import Fault

OPTIONS = ["-xq", "-m", "not slow", "-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "--tb=short"]
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what is imported already
ELSEWHERE = 77  # exit code of a fork: the fault is not in a function, the module must be imported anew
Row = dict[str, Any]


def codes(source: str, path: Path) -> list[CodeType]:
    """The code of a module and of all that is in it, in order."""
    found = [compile(source, str(path), "exec")]
    for code in found:  # which grows
        found += [part for part in code.co_consts if isinstance(part, CodeType)]
    return found


def exchanged(path: Path, before: str, after: str) -> bool:
    """Whether all that differs between two texts of a module are functions, whose code is then exchanged here."""
    old, new = codes(before, path), codes(after, path)
    if [code.co_qualname for code in old] != [code.co_qualname for code in new]:
        return False
    changed = {}
    for a, b in zip(old, new, strict=True):
        if a.co_flags & 1:  # of a function; else of a module or a class
            changed |= {a: b} if a != b else {}
        elif _own(a) != _own(b):
            return False
    alive = [one for one in gc.get_objects() if type(one) is FunctionType and one.__code__.co_filename == str(path)]
    alive = [one for one in alive if one.__code__ in changed]
    if any(one.__code__.co_freevars != changed[one.__code__].co_freevars for one in alive):
        return False
    for function in alive:
        function.__code__ = changed[function.__code__]
    return bool(alive)


def _own(code: CodeType) -> tuple[Any, ...]:
    """What a module or a class does itself, without the code of its functions."""
    return code.co_code, code.co_names, [repr(part) for part in code.co_consts if not isinstance(part, CodeType)]


class Planter:
    """A plugin of pytest that, instead of running what was collected, plants faults in forks which run it.

    tree: the copy. work: (module, its tests, faults). rows: where a line of JSON is written for every fault.
    """

    def __init__(self, tree: Path, work: Sequence[tuple[str, list[str], list[Fault]]], rows: Path):
        self.tree, self.work, self.rows, self.ended = tree, work, rows, tree.parent / "ended.json"
        self.times: dict[str, float] = {}
        self.first, self.forked = "", False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Every fault in a fork; None in a fork, where pytest then runs the tests."""
        collected = list(session.items)
        if session.testsfailed:
            return None
        for module, tests, planted in self.work:
            path, chosen = self.tree / "mote" / f"{module}.py", self._items(collected, tests)
            plain, limit = path.read_text(), (600, 3600.0)
            for number, fault in enumerate([None, *planted]):
                if fault is not None:
                    path.write_text(fault.source)
                    os.utime(path, (number, number))  # never the time of a compiled file
                self.ended.unlink(missing_ok=True)
                child, start = os.fork(), time.monotonic()
                if not child:
                    self._begin(limit[0])
                    if fault is not None and not exchanged(path, plain, fault.source):
                        os._exit(ELSEWHERE)
                    session.items[:] = sorted(chosen, key=self._cost(tests, fault))
                    return None
                result, used = waited(child, limit[1])
                found = json.loads(self.ended.read_text()) if self.ended.exists() else {"by": "", "times": {}}
                if fault is None:
                    if result != "passed":
                        raise SystemExit(f"{module}: its tests do not pass without any fault: {found['by']}")
                    self.times |= found["times"]
                    limit = (30 + int(4 * used), 300 + 10 * (time.monotonic() - start))
                    continue
                path.write_text(plain)
                if result == "failed" and not found["by"]:
                    raise SystemExit(f"{module}: pytest broke off without a test that failed")
                self._write({**fault._asdict(), "result": result, "by": found["by"], "seconds": round(used, 1)})
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Times of the tests, and the first that failed."""
        self.times[report.nodeid] = self.times.get(report.nodeid, 0) * (report.when != "setup") + report.duration
        if report.failed and not self.first:
            self.first = report.nodeid

    def pytest_sessionfinish(self) -> None:
        """What a fork has to say."""
        if self.forked:
            self.ended.write_text(json.dumps({"by": self.first, "times": self.times}))

    def _begin(self, limit: int) -> None:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        self.forked, sys.dont_write_bytecode = True, True

    def _items(self, collected: list[pytest.Item], tests: list[str]) -> list[pytest.Item]:
        files = {self.tree / "tests" / name for name in tests}
        return [item for item in collected if item.path in files]

    def _cost(self, tests: list[str], fault: Fault | None) -> Any:
        """First the tests named after a setting that the fault lost ("[loss.anchor in RUN]"); then the files in their
        order, so that what their tests share is made once; in each file quick tests first.
        """
        place = {self.tree / "tests" / name: number for number, name in enumerate(tests)}
        lost = () if fault is None else fault.lost

        def cost(item: pytest.Item) -> tuple[bool, int, float]:
            setting = re.search(r"\[(?:\w+\.)?(\w+) in ", item.name)
            elsewhere = setting is None or setting[1] not in lost
            return elsewhere, place[item.path], self.times.get(item.nodeid, 0.0)

        return cost

    def _write(self, row: Row) -> None:
        with self.rows.open("a") as file:
            file.write(json.dumps(row) + "\n")


def waited(child: int, limit: float) -> tuple[str, float]:
    """(How a fork ended, seconds of the processor that it used); it is killed after `limit` seconds.

    How: "passed", "failed", "too long", "crashed", or "elsewhere" for a fault that the fork could not have.
    """
    start = time.monotonic()
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - start > limit:
            os.killpg(child, signal.SIGKILL)
            return "too long", os.wait4(child, 0)[2].ru_utime
        time.sleep(0.05)
    used, code = usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status)
    slow = {-signal.SIGXCPU, -signal.SIGKILL}
    if code < 0:
        return "too long" if code in slow else "crashed", used
    return {0: "passed", ELSEWHERE: "elsewhere"}.get(code, "failed"), used


def fork_of_pytest(tree: Path, tests: Sequence[str], log: Path, plugins: Sequence[object] = ()) -> int:
    """Number of a new process that runs pytest on files of a tree."""
    if child := os.fork():
        return child
    os.setsid()
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
    os.dup2(1, 2)
    os.chdir(tree)
    sys.path[0] = os.environ["PYTHONPATH"] = str(tree)
    code = 3
    try:
        where = f"--basetemp={tree.parent / 'temporary'}"
        code = pytest.main([*OPTIONS, where, *(f"tests/{name}" for name in tests)], plugins=list(plugins))
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(int(code))

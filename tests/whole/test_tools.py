"""The benchmarks' own arithmetic, and that the small ones run."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mote.datasets.synthetic.habits import make_habits

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))


@pytest.mark.parametrize(("made", "workers", "expected"), [(1.0, 2, 0.5), (1.0, 5, 0.3), (0.2, 1, 0.3)])
def test_a_simulated_epoch_goes_at_the_pace_of_its_bottleneck(made, workers, expected):
    """A worker that takes m seconds for a batch, w of them: m / w seconds a step, or those of the compute."""
    from simulate_epoch import epoch

    seconds, waited = epoch(np.full((600, 3), made), workers, 2, 0.3)
    assert seconds / 600 == pytest.approx(expected, rel=0.02)
    assert waited / 600 == pytest.approx(max(0.0, expected - 0.3), abs=0.01)


def test_the_slowest_process_sets_the_pace_of_all():
    from simulate_epoch import epoch

    made = np.full((600, 3), 0.2)
    made[:, 1] = 0.9
    assert epoch(made, 1, 2, 0.3)[0] / 600 == pytest.approx(0.9, rel=0.02)


def test_the_exponent_of_a_power_law():
    from bench_scaling import exponent

    points = [{"seconds": 0.5 * size**1.5, "size": size} for size in (10, 30, 100)]
    assert exponent(points, "seconds") == pytest.approx(1.5)


def test_ratios_are_of_neighbouring_runs():
    from measuring import Goal, interleaved, median_ratio

    ticks = iter(np.cumsum([0, 9, 0, 9, 0, 2, 0, 4, 0, 30, 0, 10]).tolist())  # two calls, three rounds, one to warm up
    times = interleaved({"a": lambda: None, "b": lambda: None}, 2, lambda: next(ticks))
    assert times == {"a": [4, 30], "b": [2, 10]}  # the order rotates
    assert median_ratio(times, "a", "b") == 2.5
    assert Goal("x", 1.0, 2.0).reached and not Goal("x", 1.0, 2.0, least=True).reached


def test_processor_time_of_descendants_counts():
    from measuring import tree_seconds

    if sys.platform != "linux":
        pytest.skip("reads /proc")
    code = "import time; s = time.process_time()\nwhile time.process_time() < s + 0.3: pass\nprint(flush=True); input()"
    before = tree_seconds()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert tree_seconds() - before >= 0.3
        child.communicate(b"\n")


def test_a_benchmark_that_fails_costs_the_others_nothing(tmp_path, monkeypatch, capsys):
    import bench

    goal = {"name": "a goal", "value": 1.0, "bound": 2.0, "least": False, "reached": True}
    write = f"import sys; open(sys.argv[-1].removeprefix('--out='), 'w').write({json.dumps({'goals': [goal]})!r})"
    sections = {
        "before": write,
        "broken": write + "; sys.exit(3)",
        "stuck": "import time; time.sleep(60)",
        "after": write,
    }
    for name, code in sections.items():
        (tmp_path / f"{name}.py").write_text(code)
    scripts = {name: (str(tmp_path / f"{name}.py"), [], [], False) for name in sections}
    monkeypatch.setattr(bench, "SECTIONS", scripts)
    monkeypatch.setattr(bench, "LIMIT", 1)
    monkeypatch.setattr(sys, "argv", ["bench.py", "--out", str(tmp_path / "out.json")])
    with pytest.raises(SystemExit, match="1"):
        bench.main()
    found = json.loads((tmp_path / "out.json").read_text())
    assert {name: part["exit_code"] for name, part in found.items()} == {
        "before": 0,
        "broken": 3,
        "stuck": None,
        "after": 0,
    }
    assert found["before"]["goals"] == found["after"]["goals"] == [goal]
    out = capsys.readouterr().out
    assert (
        out.count("a goal") == 2
        and "broken    FAILED: exit code 3" in out
        and "stuck     FAILED: ended after 1 s" in out
    )


PLANTED = '''
"""Words: 1 + 1."""
def f(x: "1 + 1", y: int = 3) -> "x < 2":
    """Words: 2 < 3."""
    if x < y:
        raise ValueError(f"{x} < {y + 1}")
    total = x.detach() * 2.0
    total += g(x, y, scale=4)
    return not total
'''


def test_faults_are_planted_in_what_runs_one_at_a_time_and_not_in_words():
    from faults import faults

    found = list(faults("m", PLANTED))
    assert {(fault.kind, fault.after) for fault in found} == {
        ("constant", "def f(x: '1 + 1', y: int=4) -> 'x < 2':"),
        ("condition", "if not x < y:"),
        ("comparison", "if x <= y:"),
        ("statement", "pass"),  # the error, and the sum
        ("operator", "total = x.detach() / 2.0"),
        ("call left out", "total = x * 2.0"),
        ("constant", "total = x.detach() * 1.0"),
        ("operator", "total -= g(x, y, scale=4)"),
        ("argument dropped", "total += g(x, y)"),
        ("argument dropped", "total += g(x, scale=4)"),
        ("arguments exchanged", "total += g(y, x, scale=4)"),
        ("constant", "total += g(x, y, scale=5)"),
        ("operator", "return total"),
    }
    assert len(found) == 14 and {fault.line for fault in found} == {3, 5, 6, 7, 8, 9}
    assert len({fault.source for fault in found}) == 14
    for fault in found:
        compile(fault.source, "m", "exec")
        assert ("2 < 3" in fault.source and "{y + 1}" in fault.source) or fault.after == "pass"


def test_a_setting_that_is_dropped_is_one_that_is_named_in_what_is_no_longer_handed_on():
    from faults import DROPPED, faults
    from plant_faults import is_setting

    source = """
def f(config, other):
    sizes = {'seed': config.seed, 'fixed': 3}
    return g(config.name, rows=other.rows, depth=4, betas=config.optim.betas, **sizes)
"""
    found = [fault for fault in faults("m", source, kinds=[DROPPED]) if is_setting(fault)]
    assert [fault.after for fault in found] == [
        "sizes = {'fixed': 3}",
        "return g(config.name, rows=other.rows, depth=4, **sizes)",
    ]


EXCHANGED = """
LIMIT = 3


def small(x, y=2):
    return x < LIMIT


class Counter:
    step = 1

    def count(self, values):
        return sum(self.step * one for one in values if small(one))
"""


@pytest.mark.parametrize(
    ("old", "new", "in_functions"),
    [
        ("x < LIMIT", "x <= LIMIT", True),
        ("self.step *", "self.step -", True),
        ("LIMIT = 3", "LIMIT = 4", False),
        ("step = 1", "step = 2", False),
        ("y=2", "y=3", False),
    ],
)
def test_a_fault_in_a_function_acts_where_the_function_is_known_by_now(old, new, in_functions, tmp_path, monkeypatch):
    from faults_in_forks import exchanged

    path = tmp_path / f"module_{abs(hash(old))}.py"
    path.write_text(EXCHANGED)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module(path.stem)
    small, counter = module.small, module.Counter()
    assert counter.count([1, 2, 3]) == 3
    assert exchanged(path, EXCHANGED, EXCHANGED.replace(old, new)) == in_functions
    assert small(3) == (new == "x <= LIMIT")
    assert counter.count([1, 2, 3]) == {"x <= LIMIT": 6, "self.step -": -1}.get(new, 3)


def test_every_module_with_planted_faults_and_its_tests_are_there_and_reasons_are_given():
    from plant_faults import KNOWN, ROOT, SETTINGS, TESTS, table

    assert all((ROOT / "mote" / f"{module}.py").is_file() for module in {**TESTS, **SETTINGS})
    tests = {name for names in (*TESTS.values(), *SETTINGS.values()) for name in names}
    assert [name for name in tests if not (ROOT / "tests" / name).is_file()] == []
    for one in KNOWN["equivalent"]:
        assert (
            set(one) == {"module", "before", "after", "reason"}
            and one["module"] in {**TESTS, **SETTINGS}
            and one["reason"]
        )
        source = ast.unparse(ast.parse((ROOT / "mote" / f"{one['module']}.py").read_text()))
        assert one["before"] in map(str.strip, source.splitlines()), (
            f"{one['module']} has no longer the line {one['before']}"
        )
    row = {"module": "m", "line": 3, "kind": "constant", "before": "x = 1", "after": "x = 2"}
    text = table([{**row, "result": result} for result in ("failed", "too long", "passed", "equivalent")])
    assert "2 of 3 noticed, 1 equivalent" in text and text.count("x = 2") == 1


@pytest.mark.slow
@pytest.mark.parametrize("section", ["decode", "loader", "keyframes", "eval", "train", "scaling", "startup"])
def test_the_benchmarks_run(section, tmp_path):
    command = [sys.executable, TOOLS / "bench.py", f"--only={section}", "--quick", "--out", tmp_path / "out.json"]
    subprocess.run(command, check=False)  # goals may be missed on a busy machine
    found = json.loads((tmp_path / "out.json").read_text())[section]
    assert found["exit_code"] == 0 and found["figures"]


@pytest.mark.slow
def test_heads_of_the_comparison_are_those_that_training_gives(tmp_path, monkeypatch):
    """Its loop on shared features against `mote train` and `mote eval`; averages and intervals against plain sums."""
    import compare_experts as tool
    import experts_report as report

    import mote
    from mote.evaluation.videos import evaluate
    from mote.experiments.train import train
    from mote.parallel.accelerator import make_accelerator

    counts = {"train": 6, "closed_choice": 1, "closed_test": 2, "choice": 1, "unseen": 2}
    monkeypatch.setattr(tool, "make_habits", lambda folder: make_habits(folder, clips_per_class=counts, workers=0))
    monkeypatch.setitem(tool.ARMS, "MoTE", ["optim.epochs=10", "model.layers=1", "optim.warmup_epochs=1"])
    monkeypatch.setitem(tool.ARMS, "plain", [*tool.ARMS["MoTE"], "model.experts=1"])
    for arm in ("plain", "MoTE"):
        tool.run("habits", arm, 3, tmp_path)
    splits = tool.world_of("habits", tmp_path)
    config = tool.settings(tmp_path / "run", splits, tool.ARMS["MoTE"], 3)
    model = mote.load(str(train(config)))
    result = json.loads((tmp_path / "MoTE" / "3.json").read_text())
    assert set(result["points"]) == {"10"} and result["points"]["10"] == result["last"]
    for name, gate in (("closed_test", None), ("unseen", None), ("unseen_objects", None), ("unseen", 0.05)):
        asked = {"manifest": str(splits[name].manifest), "classes": str(splits[name].classes), "cache": None}
        asked |= {"modulation": gate is not None, "name": name}
        evaluation = config.evaluation.model_copy(update=asked)
        scored = evaluate(model, config.model_copy(update={"evaluation": evaluation}), make_accelerator(cpu=True), None)
        way = "gate 1" if gate is None else "gamma 0.05"
        assert result["last"][name][way] == pytest.approx(scored["top1"], abs=1e-9), (name, way)
    clip = result["last"]["unseen"]["gate 0"]
    assert clip == json.loads((tmp_path / "plain" / "3.json").read_text())["last"]["unseen"]["gate 0"]
    labels = {name: part.labels.numpy() for name, part in tool.sets_of("habits", tmp_path).items()}
    files = {arm: [tmp_path / arm / f"{seed}.json" for seed in (3, 4)] for arm in ("plain", "MoTE")}
    text = report.write_report(tmp_path, "habits", files, labels)
    a, b = (json.loads(files[arm][0].read_text())["said"]["unseen"] for arm in ("plain", "MoTE"))
    gain = 100 * np.mean((np.array(b) == labels["unseen"]) * 1.0 - (np.array(a) == labels["unseen"]))
    assert "| MoTE - plain | " in text and f"{gain:+.1f} [" in text
    assert {"results.json", "tables.md", "trade.svg", "trade.png"} <= {file.name for file in tmp_path.iterdir()}


def test_figures_of_the_documentation_are_those_that_are_drawn(tmp_path):
    from docs_figures import FIGURES, draw

    assert {file.stem for file in (TOOLS.parent / "docs" / "figures").glob("*.svg")} == set(FIGURES)
    draw("mek", tmp_path / "mek.svg")
    text = (tmp_path / "mek.svg").read_text()
    assert "class of the sample" in text and "surprise" in text

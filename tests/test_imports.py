"""The import table of the house: who may import whom, and what stays out of start-up."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mote"
GROUND = {"files", "config", "regularizers", "metrics", "parallel", "reporting"}
INFERENCE = GROUND | {"datasets", "models"}
EVALUATION = INFERENCE | {"inference"}
MEASURED = EVALUATION | {"evaluation"}
EXPERIMENTS = MEASURED | {"tasks", "training", "sparsity"}
EVERYTHING = EXPERIMENTS | {"protocols", "diagnostics", "experiments", "demos"}
ALLOWED = {  # room -> rooms it may import
    **{room: set() for room in GROUND},
    "reporting": {"files"},
    "datasets": {"files"},
    "models": {"files", "parallel"},
    "training": {"files", "parallel"},
    "tasks": {"models", "regularizers"},
    "sparsity": {"files", "models", "reporting"},
    "inference": INFERENCE,
    "evaluation": EVALUATION,
    "protocols": MEASURED,
    "diagnostics": MEASURED,
    "experiments": EXPERIMENTS,
    "demos": EXPERIMENTS | {"experiments"},
    "commands": EVERYTHING,
    "cli": {"commands"},
    "__init__": {"inference"},
    "__main__": {"cli"},
}
FILES = {".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts): file for file in PACKAGE.rglob("*.py")}


def imports(file: Path) -> set[str]:
    """Full names of everything imported anywhere in `file`."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_files(file: Path) -> set[str]:
    """Modules of the package that `file` imports: `from mote.a import b` is the file b of a, or a itself."""
    found = set()
    for name in imports(file):
        while name.startswith("mote"):
            if module := next((m for m in (name, f"{name}.__init__") if m in FILES), None):
                found.add(module)
                break
            name = name.rpartition(".")[0]
    return found


def room(module: str) -> str:
    return module.split(".")[1]


GRAPH = {module: imported_files(file) - {module} for module, file in FILES.items()}


def test_every_import_is_in_the_table():
    for module, others in GRAPH.items():
        for other in others:
            name = room(other)
            allowed = name in ALLOWED[room(module)] | {room(module)} or name == "__init__"
            assert allowed, f"{module} imports {other}, which the table does not allow"


def test_no_room_and_no_file_imports_itself_through_others():
    list(TopologicalSorter(GRAPH).static_order())  # raises CycleError, which names the circle
    rooms: dict[str, set[str]] = {}
    for module, others in GRAPH.items():
        rooms.setdefault(room(module), set()).update({room(other) for other in others} - {room(module), "__init__"})
    list(TopologicalSorter(rooms).static_order())


def test_the_root_holds_entry_points_only():
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py", "cli.py"}


def test_tasks_do_not_import_one_another():
    for module, others in GRAPH.items():
        if room(module) == "tasks":
            assert {other for other in others if room(other) == "tasks"} <= {"mote.tasks.long_tail"}, module


def test_accelerate_is_imported_by_two_rooms():
    users = {room(m) for m, file in FILES.items() if any(name.split(".")[0] == "accelerate" for name in imports(file))}
    assert users == {"parallel", "training"}


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("mote, mote.cli, mote.config", "torch, numpy"),
        ("mote.cli", "pydantic, yaml"),
    ],  # `mote --help` reads no settings
)
def test_start_up_imports_only_what_it_needs(modules, heavy):
    code = f"import sys, {modules}; print([name for name in '{heavy}'.split(', ') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""The import table of the house: who may import whom, and what stays out of start-up."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mote"
ALLOWED = {
    "config": {"settings"},
    "settings": set(),
    "datasets": set(),
    "models": set(),
    "regularizers": set(),
    "sparsity": {"models"},
    "evaluation": set(),
    "mixing": set(),
    "diagnostics": set(),
    "reporting": set(),
    "tasks": {"models", "regularizers"},
    "training": {"evaluation", "models"},
}


def imports(file: Path) -> set[str]:
    """Full names of everything imported anywhere in `file`."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_rooms_import_only_what_the_table_allows():
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        rooms = {name.split(".")[1] for name in imports(file) if name.startswith("mote.")}
        if room in ALLOWED:
            assert rooms - {room} <= ALLOWED[room], f"{file} imports {rooms - {room} - ALLOWED[room]}"


def test_only_training_imports_accelerate():
    users = {
        file.relative_to(PACKAGE).parts[0]
        for file in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == "accelerate" for name in imports(file))
    }
    assert users == {"training"}


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

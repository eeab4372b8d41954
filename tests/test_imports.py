"""The import table of the house: who may import whom, and what stays out of start-up."""

import ast
import functools
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
EVERYTHING = EXPERIMENTS | {"protocols", "diagnostics", "experiments", "demos", "prediction"}
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
    "prediction": MEASURED,
    "protocols": MEASURED,
    "diagnostics": MEASURED,
    "experiments": EXPERIMENTS,
    "demos": EXPERIMENTS | {"experiments", "prediction"},
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


@functools.cache
def graph() -> dict[str, set[str]]:
    """What each module imports of the package; made by the process that runs these tests, not by all that collect."""
    return {module: imported_files(file) - {module} for module, file in FILES.items()}


def test_every_import_is_in_the_table():
    for module, others in graph().items():
        for other in others:
            name = room(other)
            allowed = name in ALLOWED[room(module)] | {room(module)} or name == "__init__"
            assert allowed, f"{module} imports {other}, which the table does not allow"


def test_no_room_and_no_file_imports_itself_through_others():
    list(TopologicalSorter(graph()).static_order())  # raises CycleError, which names the circle
    rooms: dict[str, set[str]] = {}
    for module, others in graph().items():
        rooms.setdefault(room(module), set()).update({room(other) for other in others} - {room(module), "__init__"})
    list(TopologicalSorter(rooms).static_order())


def test_the_root_holds_entry_points_only():
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py", "cli.py"}


def test_tasks_do_not_import_one_another():
    for module, others in graph().items():
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


def test_the_document_lists_every_file():
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text().split("## Every file")[1]
    found, folder = set(), ""
    for line in text.splitlines():
        name = line.split()[0] if line.split() else ""
        if name.endswith("/"):
            folder = "" if line.startswith("mote") else name
        elif name.endswith(".py"):
            found.add(f"{folder if line.startswith('    ') else ''}{name}")
    real = {file.relative_to(PACKAGE).as_posix() for file in FILES.values() if len(file.read_text().splitlines()) > 3}
    assert found == real


COVERED = {  # by the test file of another module
    "__init__.py": "inference/test_model.py",
    "cli.py": "commands/test_cli.py",
    "commands/collect.py": "prediction/test_collect.py",
    "commands/compare.py": "metrics/test_compare.py",
    "commands/data.py": "datasets/lists/test_subsets.py",
    "commands/diagnose.py": "diagnostics/test_report.py",
    "commands/evaluate.py": "commands/test_cli.py",
    "commands/export.py": "inference/test_export.py",
    "commands/frontier.py": "protocols/test_frontier.py",
    "commands/meant.py": "commands/test_parsing.py",
    "commands/predict.py": "commands/test_cli.py",
    "commands/train.py": "commands/test_cli.py",
    "commands/verbs.py": "commands/test_cli.py",
    "config/kinds.py": "config/test_sections.py",
    "config/image_sections.py": "config/test_sections.py",
    "config/sections.py": "config/test_sections.py",
    "config/tree.py": "config/test_loading.py",
    "datasets/decoding/addresses.py": "datasets/decoding/test_remote.py",
    "datasets/decoding/errors.py": "datasets/decoding/test_decode.py",
    "datasets/decoding/network_errors.py": "datasets/decoding/test_remote.py",
    "datasets/decoding/pyav_video.py": "datasets/decoding/test_decode.py",
    "datasets/decoding/reading.py": "datasets/decoding/test_decode.py",
    "datasets/decoding/streams.py": "datasets/decoding/test_decode.py",
    "datasets/cache/file_hashes.py": "datasets/cache/test_feature_cache.py",
    "datasets/cache/shards.py": "datasets/cache/test_feature_cache.py",
    "datasets/lists/agreement.py": "protocols/test_carry_out.py",
    "datasets/lists/images.py": "datasets/test_images.py",
    "datasets/prepare/expressions.py": "datasets/prepare/test_expression_lists.py",
    "datasets/prepare/face_clips.py": "datasets/prepare/test_expression_lists.py",
    "datasets/prepare/face_splits.py": "datasets/prepare/test_expression_lists.py",
    "datasets/prepare/faces.py": "datasets/prepare/test_expression_lists.py",
    "datasets/prepare/fer2013.py": "datasets/prepare/test_expression_lists.py",
    "datasets/prepare/official.py": "datasets/prepare/test_videos.py",
    "datasets/prepare/report.py": "datasets/prepare/test_expression_lists.py",
    "datasets/synthetic/drawing.py": "datasets/synthetic/test_clips.py",
    "datasets/synthetic/world.py": "datasets/synthetic/test_clips.py",
    "demos/answers.py": "reporting/test_all_pages.py",
    "demos/faces_page.py": "reporting/test_all_pages.py",
    "demos/videos.py": "whole/test_tools.py",
    "demos/videos_page.py": "reporting/test_all_pages.py",
    "evaluation/autoencoder_sheets.py": "experiments/test_autoencoder.py",
    "diagnostics/compare.py": "diagnostics/test_report.py",
    "diagnostics/measure.py": "diagnostics/test_report.py",
    "diagnostics/mixing_report.py": "diagnostics/test_report.py",
    "diagnostics/quantities/lanczos.py": "diagnostics/quantities/test_sharpness.py",
    "diagnostics/quantities/network.py": "diagnostics/quantities/test_sharpness.py",
    "diagnostics/subject.py": "diagnostics/test_report.py",
    "evaluation/image_page.py": "experiments/test_expressions.py",
    "inference/features.py": "evaluation/test_video_scores.py",
    "evaluation/images.py": "experiments/test_images.py",
    "evaluation/videos.py": "commands/test_cli.py",
    "evaluation/listings.py": "evaluation/test_video_scores.py",
    "evaluation/views.py": "evaluation/test_video_scores.py",
    "evaluation/vocabulary.py": "protocols/test_carry_out.py",
    "experiments/early.py": "test_start_up.py",
    "experiments/fingerprint.py": "experiments/test_images.py",
    "experiments/assemble.py": "experiments/test_tuning.py",
    "experiments/loaders.py": "experiments/test_components.py",
    "experiments/parts.py": "whole/test_settings_arrive.py",
    "experiments/video.py": "experiments/test_tuning.py",
    "files/provenance.py": "inference/test_sharing.py",
    "files/run_directory.py": "models/test_checkpoints.py",
    "inference/classifier.py": "commands/test_cli.py",
    "inference/describe.py": "inference/test_model.py",
    "inference/images.py": "experiments/test_expressions.py",
    "inference/latent.py": "experiments/test_autoencoder.py",
    "inference/loading.py": "commands/test_cli.py",
    "inference/finding.py": "test_start_up.py",
    "inference/model.py": "commands/test_cli.py",
    "inference/threshold.py": "evaluation/test_unknown.py",
    "commands/encode.py": "prediction/test_encode.py",
    "prediction/asked.py": "test_start_up.py",
    "prediction/labels.py": "prediction/test_fit.py",
    "prediction/pieces.py": "prediction/test_encode.py",
    "prediction/predict.py": "commands/test_cli.py",
    "models/clip_weights.py": "models/test_clip.py",
    "metrics/scoring.py": "metrics/test_scores.py",
    "models/export.py": "inference/test_export.py",
    "models/folders.py": "models/test_description.py",
    "models/image_checkpoints.py": "models/test_image_nets.py",
    "models/narrow.py": "sparsity/test_compact.py",
    "models/reference.py": "models/test_checkpoints.py",
    "models/sites.py": "sparsity/test_groups.py",
    "models/tensor_files.py": "models/test_description.py",
    "models/visual.py": "models/test_checkpoints.py",
    "protocols/joining.py": "protocols/test_carry_out.py",
    "protocols/lists.py": "protocols/test_carry_out.py",
    "protocols/verification.py": "protocols/test_carry_out.py",
    "reporting/autoencoder_page.py": "reporting/test_all_pages.py",
    "reporting/clip_cards.py": "reporting/test_all_pages.py",
    "reporting/compare_page.py": "reporting/test_all_pages.py",
    "reporting/diagnose_page.py": "reporting/test_all_pages.py",
    "reporting/diagnose_plot.py": "diagnostics/test_report.py",
    "reporting/evaluation_head.py": "reporting/test_all_pages.py",
    "reporting/frontier_page.py": "reporting/test_all_pages.py",
    "reporting/image_grid.py": "metrics/test_latent.py",
    "reporting/inline_svg.py": "reporting/test_page.py",
    "reporting/evaluation_numbers.py": "reporting/test_evaluation_page.py",
    "reporting/evaluation_plots.py": "reporting/test_evaluation_page.py",
    "protocols/targets.py": "protocols/test_frontier.py",
    "reporting/frontier_plot.py": "protocols/test_frontier.py",
    "reporting/imbalance_plots.py": "reporting/test_evaluation_page.py",
    "reporting/imbalance_sections.py": "experiments/test_expressions.py",
    "reporting/model_card.py": "inference/test_sharing.py",
    "training/layout/__init__.py": "training/test_layout.py",
    "training/layout/sharded.py": "training/test_layout.py",
    "training/run.py": "training/test_loop.py",
    "training/step.py": "training/test_loop.py",
}


def test_every_module_has_its_tests():
    """`tests/ROOM/test_FILE.py`, or the test that COVERED names, for every module of 60 lines or more."""
    tests = PACKAGE.parent / "tests"
    for file in FILES.values():
        name = file.relative_to(PACKAGE).as_posix()
        if name in COVERED:
            assert (tests / COVERED[name]).is_file(), f"{name}: {COVERED[name]} is not there"
        elif len(file.read_text().splitlines()) >= 60:
            own = tests / file.relative_to(PACKAGE).parent / f"test_{file.name}"
            assert own.is_file(), f"{name}: has no tests/{own.relative_to(tests)}; write it, or name what covers it"
    assert not [name for name in COVERED if not (PACKAGE / name).is_file()]

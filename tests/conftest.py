"""What all tests share: where the real data lies, one thread, compiled modules."""

import gc
import os
import sys
from pathlib import Path

gc.disable()  # until all is imported, of which nothing is garbage; see `imported_once`

ROOT = Path(__file__).resolve().parents[1]
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):  # then every process would compile all of torch again: 10 s
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(ROOT / ".pytest_cache" / "bytecode")
    sys.dont_write_bytecode = False

import pytest  # noqa: E402

# One thread here and in the processes that tests start: sums in another order differ in the last bit, and several
# test processes with a thread for every core each get in one another's way. torch is not imported here: the process
# that hands out the tests does without it, and the others start 4 s earlier.
os.environ["OMP_NUM_THREADS"] = "1"

# By the sum of their times in `pytest --durations=0`, longest first; measure again when a slow test comes or goes.
LONGEST = (
    "protocols/test_carry_out.py",
    "inference/test_export.py",
    "experiments/test_expressions.py",
    "evaluation/test_video_scores.py",
    "commands/test_cli.py",
    "whole/test_settings_arrive.py",
    "reporting/test_evaluation_page.py",
    "whole/test_recipes.py",
    "whole/test_processes.py",
    "sparsity/test_compacting.py",
    "reporting/test_browser.py",
    "synthetic/test_clips.py",
    "training/test_loop.py",
    "decoding/test_decode.py",
    "protocols/test_frontier.py",
    "experiments/test_autoencoder.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that no process is left alone with one at the end."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get("/".join(item.path.parts[-2:]), len(LONGEST)))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real clips and images that are not part of the project; skips where absent."""
    folder = Path(os.environ.get("MOTE_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set MOTE_REAL_DATA to its folder")
    return folder


@pytest.fixture(autouse=True, scope="session")
def cache_home(tmp_path_factory):
    """Tests leave nothing in the user's cache folder, nor do the processes they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache home")))
        yield


@pytest.fixture(autouse=True, scope="session")
def imported_once():
    """What was imported stays: every training ends with a collection, which need not go through torch each time."""
    import torch

    torch.set_num_threads(1)
    gc.freeze()
    gc.enable()
    yield
    gc.unfreeze()

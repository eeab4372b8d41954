"""Shared fixtures: where the real data lies, and small video files written with PyAV."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real clips and images that are not part of the project; skips where absent."""
    folder = Path(os.environ.get("MOTE_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set MOTE_REAL_DATA to its folder")
    return folder

"""Files of features are read without us: the lines of docs/features.md, carried out."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mote.prediction.encodings import Encoded, FeaturePlan
from mote.prediction.parts import Pace
from mote.prediction.write import write_parts

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "features.md"
READERS = ("pyarrow", "pandas", "faiss", "ray")
VECTORS = np.eye(4, 8, dtype=np.float32)  # of a.mp4 and its like; z.mp4 has none
NAMES = [f"{letter}.mp4" for letter in "abcd"]


def rows(inputs: list[str]) -> Iterator[Encoded]:
    for name in inputs:
        yield Encoded(name, VECTORS[NAMES.index(name)]) if name in NAMES else Encoded(name, None, f"{name}: gone")


def documented(reader: str) -> SimpleNamespace:
    """What the names in the document stand for after its lines, without those for other readers than pyarrow."""
    [block] = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    others = "|".join(name for name in READERS if name not in (reader, "pyarrow"))
    lines = [line for line in block.splitlines() if not re.search(rf"\b({others})\b", line)]
    assert any(reader in line for line in lines)
    modules = {name: importlib.import_module(name) for name in {"glob", "pyarrow", reader}}
    importlib.import_module("pyarrow.parquet")
    if reader == "ray":
        importlib.import_module("ray.data")
    names: dict[str, Any] = dict(modules)
    exec("\n".join(lines), names)
    return SimpleNamespace(**names)


@pytest.fixture(autouse=True)
def features(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = FeaturePlan({"made": True}, dim=8)
    write_parts(rows, ["z.mp4", *NAMES], "features", plan, pace=Pace(rows=2))  # a part for two videos


def test_pyarrow():
    found = documented("pyarrow")
    assert found.table["path"].to_pylist() == NAMES and np.array_equal(found.rows, VECTORS)


def test_pandas():
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = documented("pandas").frame
    assert frame["path"].tolist() == NAMES and np.array_equal(np.stack(frame["features"]), VECTORS)


def test_faiss():
    pytest.importorskip("faiss", reason="faiss is not installed")
    scores, places = documented("faiss").index.search(VECTORS, 1)
    assert places.ravel().tolist() == [0, 1, 2, 3] and np.allclose(scores, 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray warns of its own settings
def test_ray(monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ray.init(num_cpus=2, log_to_driver=False, logging_level=50)
    try:
        table = documented("ray").data.to_pandas().dropna(subset="features")
    finally:
        ray.shutdown()
    assert sorted(table["path"]) == NAMES

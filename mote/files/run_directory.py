"""The names of the files in a run directory and in a model folder, and where each is found.

A run directory holds `config.yaml`, `log.jsonl`, `metrics.json`, `last/` (checkpoints) and `best/` (a model folder); a
model folder holds `model.json` and `model.safetensors`, and `text.safetensors` where the text tower was tuned.
"""

import json
from pathlib import Path
from typing import Any

from mote.files.writing import complete

CONFIG, BEST, LAST = "config.yaml", "best", "last"
DESCRIPTION, WEIGHTS, TEXT = "model.json", "model.safetensors", "text.safetensors"
OLD_KEYS = {"clip": "backbone", "clip_file": "backbone_file"}  # of model.json, written before these were renamed


def model_folder(path: str | Path) -> Path:
    """Model folder of `path`: `best/` of a run directory that has one, else `path` itself."""
    path = Path(path)
    complete(path.parent if path.name == BEST else path)  # where a kill came while its files were replaced
    folder = path / BEST if (path / BEST).is_dir() else path
    complete(folder)
    return folder


def config_file(path: str | Path) -> Path | None:
    """Configuration of a run directory; None where `path` is none."""
    file = Path(path) / CONFIG
    return file if file.is_file() else None


def settings_file(path: str | Path) -> Path | None:
    """Configuration that belongs to a model: that of a run directory, also where `path` is its `best/`; else None."""
    if (file := config_file(path)) is not None:
        return file
    place = Path(path).resolve()
    return config_file(place.parent) if place.name == BEST else None


def parse_description(text: str) -> dict[str, Any]:
    """Content of a `model.json`, with today's names of its keys; raises ValueError where it is no JSON object."""
    try:
        meta: object = json.loads(text)
    except RecursionError:
        raise ValueError("expected a JSON object, got lists within lists without end") from None
    if not isinstance(meta, dict):
        raise ValueError(f"expected a JSON object, got {type(meta).__name__}")
    return {OLD_KEYS.get(str(key), str(key)): value for key, value in meta.items()}


def read_description(folder: Path) -> dict[str, Any]:
    """Content of the `model.json` in a model folder, see `parse_description`; raises OSError, ValueError."""
    return parse_description((folder / DESCRIPTION).read_text(encoding="utf-8"))


def task_of(folder: Path) -> object:
    """`task` in the `model.json` of a folder; None where there is no such file, or a video model."""
    try:
        return read_description(folder).get("task")
    except (OSError, ValueError):
        return None


def model_files(folder: Path | str) -> tuple[Path, Path | None]:
    """Weights and description of a model folder; of a single file (.safetensors) that file, which says both itself."""
    folder = Path(folder)
    return (folder, None) if folder.suffix == ".safetensors" else (folder / WEIGHTS, folder / DESCRIPTION)


def check_model_files(folder: Path | str) -> None:
    """Raise FileNotFoundError where the weights or the description of a model are not there."""
    weights, description = model_files(folder)
    for path in (description, weights):
        if path is not None and not path.is_file():
            hint = f"; a model folder holds {DESCRIPTION} and {WEIGHTS}" if description is not None else ""
            raise FileNotFoundError(f"{path}: not found{hint}")


def check_has_model(path: Path) -> None:
    """Raise ValueError for a run directory in which no model was saved yet."""
    if config_file(path) and model_folder(path) == path and not (path / DESCRIPTION).is_file():
        raise ValueError(f"{path}: this run has no model yet; let it finish (mote train {path} --resume)")

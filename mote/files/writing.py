"""Files that are whole or not there."""

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def to_json(document: Mapping) -> str:
    """Return indented JSON with each list of numbers on one line (a 400 x 400 confusion matrix stays readable)."""
    text = json.dumps(_plain(document, "result"), indent=2, allow_nan=False)
    # A raw line break cannot stand inside a JSON string, so this pattern matches only lists.
    return re.sub(r"\[\n\s+([-+\d.eE,\s]+?)\n\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text) + "\n"


def _plain(value: object, where: str) -> object:
    """Return `value` made of JSON's types; errors name the entry."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError(f"{where} is NaN; a result file holds only numbers that mean something")
        return float(value) if math.isfinite(value) else str(float(value))
    if value is None or isinstance(value, str | int):
        return value
    raise ValueError(f"{where} is a {type(value).__name__}, which JSON cannot hold; pass plain numbers and strings")


def write_atomic(path: Path, text: str) -> None:
    """Write all of `text` or nothing: beside `path`, whose folders are made, then renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(text.encode("utf-8", "surrogateescape"))  # paths may hold bytes that are not UTF-8
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say which file it was
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write`` with a temporary path beside ``path``, then rename, so that readers never see half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # what the user's umask gives; safetensors makes files private
        write(temporary)
        temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

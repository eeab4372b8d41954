"""The threshold of "none of these" that an evaluation measured."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SAME_HASHES = {"weights": "weights", "classes": "names to choose among", "templates": "prompt templates"}


def read_threshold(text: str, hashes: Callable[[], Mapping[str, str]], *, clips: int, crops: int) -> float:
    """The threshold that `--threshold` means: a probability, or the one stored in a result file.

    hashes: of what will be predicted with: weights, classes, templates; asked for where there is a result to compare
    them with. clips, crops: the views.
    Raises ValueError when it is neither, or when the result is of other weights, names, prompts or views.
    """
    try:
        value = float(text)
    except ValueError:
        return _stored_threshold(Path(text), hashes, clips, crops)
    _check_range(text, value)
    return value


def check_threshold(text: str) -> None:
    """Raise ValueError where `text` is neither a probability nor a result file with one; see `read_threshold`."""
    try:
        value = float(text)
    except ValueError:
        _stored(Path(text))
        return
    _check_range(text, value)


def _check_range(text: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"--threshold {text}: expected a probability in 0..1, or a result file of `mote eval`")


def _stored(path: Path) -> tuple[float, Mapping[str, Any], Mapping[str, str]]:
    """The threshold in a result, the settings of its evaluation, and its hashes."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        origin, known = document["provenance"], document["open_set"]
        settings, theirs = origin["config"]["evaluation"], origin["hashes"]
        return float(known["threshold"]), settings, theirs
    except FileNotFoundError:
        raise ValueError(f"--threshold {path}: not a number, and there is no such result file") from None
    except (OSError, ValueError, TypeError, KeyError):
        raise ValueError(
            f"{path}: no threshold in it; expected a result of `mote eval ... evaluation.unknown=CLIPS`"
        ) from None


def _stored_threshold(path: Path, hashes: Callable[[], Mapping[str, str]], clips: int, crops: int) -> float:
    value, settings, theirs = _stored(path)
    ours = hashes()
    for key, words in SAME_HASHES.items():
        if theirs.get(key) != ours[key]:
            raise ValueError(f"{path}: its threshold was set with other {words}; use the same, or give a number")
    for key, value_here in (("clips", clips), ("crops", crops), ("fusion", "mean_softmax"), ("modulation", None)):
        if settings[key] != value_here:
            raise ValueError(
                f"{path}: its threshold was set with evaluation.{key}={settings[key]}, this is {value_here};"
                " use the same, or give a number"
            )
    return value

"""Versions of packages, the block that every result carries, and values without the places of this machine."""

import importlib.metadata
import platform
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = {  # name in the result file -> name of the distribution
    "torch": "torch",
    "open_clip": "open-clip-torch",
    "accelerate": "accelerate",
    "decord": "decord2",
    "av": "av",
    "numpy": "numpy",
    "scikit_learn": "scikit-learn",
}
REQUIRED_PROVENANCE = ("config", "hashes", "seed", "versions", "date")


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that can change a number; None where not installed."""
    own = sys.modules["mote"].__version__  # of a checkout too, whatever is installed
    found: dict[str, str | None] = {"python": platform.python_version(), "mote": own}
    return found | {name: _version(distribution) for name, distribution in PACKAGES.items()}


@cache
def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def provenance(*, config: Mapping[str, object], hashes: Mapping[str, str], seed: int) -> dict:
    """Record of how a result came about; `hashes` names what was hashed: manifest, classes, weights."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"config": config, "hashes": dict(hashes), "seed": seed, "versions": versions(), "date": date}


# Keys of lists of class names, labels or prompts, and of one class name: "/m/09x" is a name there, and no place.
NAMES = {"classes", "tuned_classes", "labels", "absent_classes", "templates", "tuned_templates"}
NAME = {"class", "name"}
PLACE = re.compile(r"(?<![\w.~/-])/(?!/)(?:[^\s/:;,'\"()\[\]{}]+/)+[^\s:;,'\"()\[\]{}]*")  # within a text


def without_places(value: Any, key: str | None = None) -> Any:
    """Plain values in which absolute paths are relative to the working folder, or below elsewhere their last part.

    Names of classes and prompts stay as they are; `key` is what the value stands under.
    """
    if isinstance(value, Mapping):
        return {name: without_places(item, name) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return list(value) if key in NAMES else [without_places(item) for item in value]
    if not isinstance(value, str) or key in NAME:
        return value
    kind, separator, path = value.rpartition(":")
    if Path(path).is_absolute() and not path.startswith("//") and re.fullmatch(r"[\w.-]*", kind):
        return kind + separator + _short(path)
    if Path(value).is_absolute():  # with a colon in it
        return _short(value)
    return PLACE.sub(lambda found: _short(found[0]), value.replace(f"{Path.home()}/", "~/"))


def _short(path: str) -> str:
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else Path(path).name

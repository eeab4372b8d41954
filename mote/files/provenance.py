"""Versions of packages, and the block that every result carries."""

import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import UTC, datetime

PACKAGES = {  # name in the result file -> name of the distribution
    "mote": "mote",
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
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name, distribution in PACKAGES.items():
        try:
            found[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def provenance(*, config: Mapping[str, object], hashes: Mapping[str, str], seed: int) -> dict:
    """Record of how a result came about; `hashes` names what was hashed: manifest, classes, weights."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"config": config, "hashes": dict(hashes), "seed": seed, "versions": versions(), "date": date}

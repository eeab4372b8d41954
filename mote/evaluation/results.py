"""Result files: a JSON file that says what was measured on what, and a CSV file with every prediction.

`provenance` collects what a reader needs to measure the same number again: the resolved configuration, SHA-256 of the
manifest, class list and weights, versions, seed and date. Files are written under a temporary name and renamed, so an
interrupted run leaves the old result or the new one.
"""

import csv
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor

from mote.evaluation.closed_set import Scores
from mote.evaluation.metrics import rank_classes

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


def sha256_file(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_lines(lines: Sequence[str]) -> str:
    """Return the SHA-256 of a text file holding these lines: for lists (of classes, of clips) that have no file."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")).hexdigest()


def sha256_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 over names, types, shapes and values of a state dict, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.as_strided((tensor.numel(),), (1,))  # the stride of a single number may be anything
        digest.update(flat.view(torch.uint8).numpy().data)  # as bytes: numpy has no bfloat16
    return digest.hexdigest()


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that can change a number; None where not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name, distribution in PACKAGES.items():
        try:
            found[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def provenance(*, config: Mapping, hashes: Mapping[str, str], seed: int) -> dict:
    """Return the record of how a result came about; `hashes` names what was hashed: manifest, classes, weights."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"config": config, "hashes": dict(hashes), "seed": seed, "versions": versions(), "date": date}


def write_results(
    folder: Path | str,
    name: str,
    summary: Mapping,
    *,
    records: Sequence[tuple[Path | str, int]],
    classes: Sequence[str],
    scores: Scores,
    provenance: Mapping,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Path, Path]:
    """Write `folder/name.json` (task, summary, undecodable files, provenance) and `folder/name.csv` (predictions).

    records: the (path, label) of every clip, in the order of `scores`. columns: more cells of the .csv, one per clip.
    Infinities (a temperature, say) are written as the strings "inf" and "-inf"; NaN is refused. The hash of the .csv is
    added to those of the provenance, as `predictions`. Returns the two paths.
    Raises ValueError when the parts do not fit together or provenance lacks an entry.
    """
    folder = Path(folder)
    missing = [key for key in REQUIRED_PROVENANCE if key not in provenance]
    if missing:
        raise ValueError(f"provenance lacks {', '.join(missing)}; build it with results.provenance(...)")
    if Path(name).name != name:
        raise ValueError(f"result name {name!r} must be a plain file name without folders")
    if [int(label) for _, label in records] != scores.label.tolist():
        raise ValueError("labels of records and scores differ; both must list the same clips in the same order")
    undecodable = [str(path) for (path, _), valid in zip(records, scores.valid, strict=True) if not valid]
    json_path, csv_path = folder / f"{name}.json", folder / f"{name}.csv"
    table = _predictions(records, classes, scores, columns or {})
    content = hashlib.sha256(table.encode("utf-8", "surrogateescape")).hexdigest()
    origin = {**provenance, "hashes": {**provenance["hashes"], "predictions": content}}
    document = {"task": name, **summary, "undecodable": undecodable, "provenance": origin}
    text = to_json(document)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(csv_path, table)
    write_atomic(json_path, text)
    return json_path, csv_path


def _predictions(
    records: Sequence[tuple[Path | str, int]],
    classes: Sequence[str],
    scores: Scores,
    columns: Mapping[str, Sequence[str]],
) -> str:
    """Return one CSV line per clip; the cells of a clip that was not decoded are empty after `valid`."""
    ranked = rank_classes(scores.probabilities, min(5, len(classes)))
    places = range(1, ranked.shape[1] + 1)
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    top = [column for place in places for column in (f"top{place}", f"top{place}_probability")]
    writer.writerow(["path", "label", "predicted", "correct", "valid", "probability", *top, *columns])
    for row, (path, label) in enumerate(records):
        more = [cells[row] for cells in columns.values()]
        if not scores.valid[row]:
            writer.writerow([path, classes[label], "", 0, 0, "", *[""] * len(top), *more])
            continue
        best, probability = ranked[row], scores.probabilities[row]
        cells = [cell for i in best for cell in (classes[i], f"{probability[i]:.9g}")]
        first = [classes[best[0]], int(best[0] == label), 1, f"{probability[best[0]]:.9g}"]
        writer.writerow([path, classes[label], *first, *cells, *more])
    return text.getvalue()


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

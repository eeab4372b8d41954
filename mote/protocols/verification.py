"""`mote eval --verify`: is a result still what its files say? Hashes of everything it came from, and its numbers.

A result (NAME.json) holds SHA-256 of its list, class names, templates, weights and table of predictions, and the digest
of its protocol. Here each is made again from where the result says it came from; the numbers are computed again
from the table; the joint result of a protocol is made again from the results of its lists.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mote.config import Config, validate, with_todays_names
from mote.datasets.lists.manifest import Record
from mote.datasets.lists.reading import Listing, templates
from mote.evaluation.unknown import unknown_records
from mote.evaluation.views import evaluation_listing
from mote.evaluation.vocabulary import added_classes, own_classes
from mote.files.hashes import sha256_file, sha256_lines, sha256_tensors
from mote.inference.classifier import VideoClassifier
from mote.inference.loading import load_video
from mote.metrics.from_table import differences
from mote.protocols.carry_out import Rules, Summary, joined
from mote.protocols.table import PROTOCOLS, Protocol

PLACES = ("manifest", "root", "classes", "templates", "unknown")  # files and folders of an evaluation


class ResultError(ValueError):
    """A file that is not a result of `mote eval`."""


class Check(NamedTuple):
    """One thing that was looked at, and what is wrong with it ("" if nothing)."""

    what: str
    difference: str


def verify_result(path: Path, model: str | None = None) -> list[Check]:
    """Everything that can be checked of a result; of a protocol's joint result, also the results of its lists.

    Args:
        path: NAME.json.
        model: where the model is now, if it is no longer where the result says.

    Raises:
        ResultError: the file is no result.
    """
    result = _read(path)
    if "provenance" in result:
        return _verify_list(path, result, model)
    checks = [Check(f"{path.name}: protocol", _attempt(lambda: _protocol(result["protocol"])))]
    summaries = {}
    for name, part in result["lists"].items():
        file = path.with_name(part["file"])
        found = sha256_file(file) if file.is_file() else None
        gone = f"{file}: there is no such file" if found is None else _same(found, part["sha256"])
        checks.append(Check(f"{path.name}: {file.name}", gone))
        if found is not None:
            summaries[name] = _read(file)
            checks += _verify_list(file, summaries[name], model)
    if len(summaries) == len(result["lists"]):
        again = joined(summaries)
        wrong = [key for key in again if key not in ("lists", "warnings") and again[key] != result.get(key)]
        lines = (f"{key} is {result.get(key)}, its lists give {again[key]}" for key in wrong)
        checks.append(Check(f"{path.name}: numbers", "; ".join(lines)))
    return checks


def _verify_list(path: Path, result: Summary, model: str | None) -> list[Check]:
    """Checks of the result of one list: each hash, the protocol, and the numbers."""
    origin = result["provenance"]
    hashes, inputs = origin["hashes"], origin.get("inputs", {})
    folder, table = Path(inputs.get("folder", ".")), path.with_suffix(".csv")
    config = _placed(validate(with_todays_names({"evaluation": origin["config"]["evaluation"]})), folder)
    settings, listing = config.evaluation, evaluation_listing(config.evaluation)
    checks = {"predictions": lambda: _same(sha256_file(table), hashes.get("predictions", ""))}
    if "protocol" in result:
        checks["protocol"] = lambda: _protocol(result["protocol"])
    try:
        classifier = _model(model or inputs.get("model"), inputs.get("backbone", inputs.get("clip")), config)
    except (ValueError, OSError, RuntimeError) as error:
        found = [_check(path, what, check) for what, check in checks.items()]
        return [*found, Check(f"{path.name}: model", str(error))]

    def own() -> list[str]:
        return own_classes(classifier, listing, new="protocol" in result)

    def classes() -> list[str]:
        return [*own(), *added_classes(own(), inputs["union"] and str(folder / inputs["union"]))]

    def listed() -> list[Record]:
        return listing.records(own())

    def numbers() -> str:
        with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.DictReader(file))
        names = classes()
        same = sha256_lines(names) == hashes["classes"]
        return "; ".join(differences(result, rows, names if same else None))

    if (unknown := settings.unknown) is not None:
        checks["unknown"] = lambda: _same(
            Listing(unknown).sha256(unknown_records(unknown, listed(), classes())), hashes["unknown"]
        )
    checks |= {
        "manifest": lambda: _same(listing.sha256(listed()), hashes["manifest"]),
        "classes": lambda: _same(sha256_lines(classes()), hashes["classes"]),
        "templates": lambda: _same(sha256_lines(classifier.templates), hashes["templates"]),
        "weights": lambda: _same(sha256_tensors(classifier.model.state_dict()), hashes["weights"]),
        "numbers": numbers,
    }
    return [_check(path, what, check) for what, check in checks.items()]


def _model(model: str | None, backbone: str | None, config: Config) -> VideoClassifier:
    """The model of a result, with the templates and the interpolation it was evaluated with."""
    if model is None:
        raise ValueError("the result does not say which model it is about; give the model before --verify")
    classifier = load_video(model, backbone=backbone, device="cpu")
    if config.evaluation.templates is not None:
        classifier = classifier.with_templates(templates(config.evaluation.templates))
    return classifier if config.evaluation.alpha == 1 else classifier.interpolated(config.evaluation.alpha)


def _placed(config: Config, folder: Path) -> Config:
    """The configuration with relative paths of the evaluation based on `folder`, in which it was run."""
    settings = config.evaluation
    files = {key: getattr(settings, key) for key in PLACES}
    placed = {key: str(folder / file) for key, file in files.items() if file is not None}
    return config.model_copy(update={"evaluation": settings.model_copy(update=placed)})


def _protocol(block: Rules) -> str:
    """What is wrong with the protocol of a result, "" if nothing."""
    fields: dict[str, Any] = {key: _tuples(value) for key, value in block["fields"].items()}
    protocol = Protocol(**fields)
    if protocol.name not in PROTOCOLS or PROTOCOLS[protocol.name].identifier != block["identifier"]:
        return f"there is no protocol {block['identifier']} in this version of mote"
    if hidden := [line for line in protocol.differences() if line not in block["departures"]]:
        return f"not that of {block['identifier']}: {'; '.join(hidden)}"
    return _same(protocol.digest(), block["digest"])


def _tuples(value: object) -> object:
    """The value with tuples in the place of lists, which JSON made of them."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _check(path: Path, what: str, check: Callable[[], str]) -> Check:
    return Check(f"{path.name}: {what}", _attempt(check))


def _attempt(check: Callable[[], str]) -> str:
    """What `check` says; a file that is gone or cannot be read is a difference as well."""
    try:
        return check()
    except (ValueError, OSError, KeyError, TypeError) as error:
        return f"cannot be checked: {error}"


def _same(found: str, stated: str) -> str:
    """Both hashes where they differ, else ""."""
    return "" if found == stated else f"sha256 {found[:12]}..., {stated[:12]}... in the result"


def _read(path: Path) -> Summary:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResultError(f"{path}: not a result file: {error}") from None
    origin = result.get("provenance", {}) if isinstance(result, dict) else None
    if not isinstance(origin, dict) or not ({"config", "hashes"} <= origin.keys() or "lists" in result):
        raise ResultError(f"{path}: not a result file; give a NAME.json that mote eval wrote")
    return result

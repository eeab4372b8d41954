"""`mote eval --verify`: is a result still what its files say? Hashes of everything it came from, and its numbers.

A result (NAME.json) holds SHA-256 of its list, class names, templates, weights and table of predictions, and the digest
of its protocol. Here each is made again from where the result says it came from; the numbers are computed again
from the table, and those that it does not determine are named; the joint result of a protocol is made again from the
results of its lists. Whatever a changed file holds, a difference is said, never a traceback.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mote.config import Config, validate, with_todays_names
from mote.config.sections import EvaluationConfig
from mote.datasets.lists.manifest import Record
from mote.datasets.lists.reading import Listing, templates
from mote.evaluation.listings import evaluation_list, evaluation_listing
from mote.evaluation.unknown import unknown_records
from mote.evaluation.vocabulary import added_classes, own_classes
from mote.files.hashes import sha256_file, sha256_lines
from mote.files.writing import complete
from mote.inference.finding import is_plain_model
from mote.metrics.from_table import recount, stated_names
from mote.metrics.result_files import ResultError, Summary, read_document, read_table, table_path
from mote.metrics.segment_table import segment_differences
from mote.metrics.table_parts import MALFORMED, short
from mote.models.plain_import import import_plain
from mote.protocols.joining import Rules, joined
from mote.protocols.table import PROTOCOLS, Protocol

PLACES = ("manifest", "root", "classes", "templates", "unknown")  # files and folders of an evaluation


class Check(NamedTuple):
    """One thing that was looked at, what is wrong with it ("" if nothing), and what of it could not be looked at."""

    what: str
    difference: str
    unchecked: str = ""


class Scored(NamedTuple):
    """What a result was measured with, found again: the hashes of the model, class names by label, the records."""

    hashes: Callable[[], Mapping[str, str]]
    names: Callable[[], list[str]]
    records: Callable[[], Sequence[Record]]
    listing: Listing
    settings: EvaluationConfig


def verify_result(path: Path, model: str | None = None) -> list[Check]:
    """Everything that can be checked of a result; of a protocol's joint result, also the results of its lists.

    Args:
        path: NAME.json, or metrics.json of a run directory.
        model: where the model is now, if it is no longer where the result says.

    Raises:
        ResultError: the file is no result.
    """
    complete(path.parent)
    result = _read(path)
    if "provenance" in result:
        return _verify_list(path, result, model)
    checks = [_check(path, "protocol", lambda: _protocol(result["protocol"]))]
    summaries = {}
    for name, part in result["lists"].items():
        try:
            file = path.with_name(part["file"])
            summaries[name] = _read(file)
        except (ResultError, *MALFORMED) as error:
            checks.append(Check(f"{path.name}: lists.{name}", f"cannot be checked: {_reason(error)}"))
            continue
        checks.append(_check(path, file.name, lambda file=file, part=part: _same(sha256_file(file), part["sha256"])))
        checks.append(_check(path, f"lists.{name}", lambda name=name, part=part: _copied(part, summaries[name])))
        checks += _verify_list(file, summaries[name], model)
    if len(summaries) == len(result["lists"]):
        checks.append(_check(path, "numbers", lambda: _joint(result, summaries)))
    return checks


def _copied(part: Mapping[str, object], summary: Summary) -> str:
    """Which numbers of a list the joint result states otherwise than the list's own."""
    wrong = [key for key in part if key not in ("file", "sha256") and part[key] != summary.get(key)]
    return "; ".join(f"{key} is {short(part[key])}, its own result says {short(summary.get(key))}" for key in wrong)


def _joint(result: Summary, summaries: Mapping[str, Summary]) -> str:
    """Which numbers of a joint result those of its lists contradict."""
    again = joined(summaries)
    wrong = [key for key in again if key not in ("lists", "warnings") and again[key] != result.get(key)]
    return "; ".join(f"{key} is {short(result.get(key))}, its lists give {short(again[key])}" for key in wrong)


def _verify_list(path: Path, result: Summary, model: str | None) -> list[Check]:
    """Checks of the result of one list: each hash, the protocol, and the numbers."""
    origin = result["provenance"]
    hashes, table = origin["hashes"], table_path(path, result)
    checks: dict[str, Callable[[], str]] = {}
    if "listed" in result and "reconstruction" not in result:  # an autoencoder's has no predictions
        checks["predictions"] = lambda: _same(sha256_file(table), hashes.get("predictions"))
    if "protocol" in result:
        checks["protocol"] = lambda: _protocol(result["protocol"])
    found, names = [_check(path, what, check) for what, check in checks.items()], None
    try:
        scored = _scored(origin, model, new="protocol" in result)
    except Exception as error:  # settings, files and a model of which the result says whatever it says
        found.append(Check(f"{path.name}: model", f"cannot be checked: {_reason(error)}"))
    else:
        known = {"manifest": lambda: scored.listing.sha256(scored.records())}
        if "timeline" in result:
            known["manifest"] = lambda: sha256_file(scored.listing.manifest)
        known["classes"] = lambda: sha256_lines(scored.names())
        own = cache(scored.hashes)  # of a video model's templates too
        known |= {what: lambda what=what: own()[what] for what in own() if what != "classes"}
        if (file := scored.settings.unknown) is not None:
            unknown = cache(lambda: unknown_records(file, scored.records(), scored.names()))
            known["unknown"] = lambda: Listing(file).sha256(unknown())
        for what, again in known.items():
            found.append(_check(path, what, lambda what=what, again=again: _same(again(), hashes.get(what))))
        with suppress(Exception):  # said above, as that of the classes
            names = scored.names()
    return found + _numbers(path, result, names) if "predictions" in checks else found


def _numbers(path: Path, result: Summary, names: list[str] | None) -> list[Check]:
    """The numbers against the table of predictions, and which of them it says nothing of."""
    if "timeline" in result:
        seed = result["provenance"]["seed"]
        return [_check(path, "numbers", lambda: "; ".join(segment_differences(result, table_path(path, result), seed)))]
    stated = result["provenance"]["hashes"].get("classes")
    candidates = [names, stated_names(result)]
    classes = next((one for one in candidates if one is not None and sha256_lines(one) == stated), None)
    try:
        rows = read_table(table_path(path, result))
        wrong, left = recount(result, rows, classes)
    except (ResultError, *MALFORMED) as error:
        return [Check(f"{path.name}: numbers", f"cannot be checked: {_reason(error)}")]
    why = "" if classes is not None or not left else " (the order of the classes is not known)"
    return [Check(f"{path.name}: numbers", "; ".join(wrong), ", ".join(left) + why)]


def _scored(origin: Mapping[str, Any], model: str | None, *, new: bool) -> Scored:
    """What a result was measured with, see `own_classes`; raises whatever stands in the way of finding it."""
    inputs = origin.get("inputs", {})
    folder = Path(inputs.get("folder", "."))
    config = _placed(validate(with_todays_names({"evaluation": origin["config"]["evaluation"]})), folder)
    settings, listing = config.evaluation, evaluation_listing(config.evaluation)
    place, backbone = model or inputs.get("model"), inputs.get("backbone", inputs.get("clip"))
    if place is None:
        raise ValueError("the result does not say which model it is about; give the model before --verify")
    if is_plain_model(str(place), backbone):
        import_plain()
    from mote.inference.images import ImageClassifier  # here, as what else is checked needs no torch
    from mote.inference.latent import LatentModel
    from mote.inference.loading import load

    found = load(place, backbone=backbone, device="cpu")
    if isinstance(found, LatentModel):
        raise ValueError(f"{place}: an autoencoder, whose results are numbers without a table")
    if isinstance(found, ImageClassifier):
        images = cache(lambda: evaluation_list(config, found.classes).records)
        return Scored(lambda: found.hashes([]), lambda: found.classes, images, listing, settings)
    if settings.templates is not None:
        found = found.with_templates(templates(settings.templates))
    classifier = found if settings.alpha == 1 else found.interpolated(settings.alpha)
    own = cache(lambda: own_classes(classifier, listing, new=new))
    union = inputs.get("union")
    names = cache(lambda: [*own(), *added_classes(own(), union and str(folder / union))])
    return Scored(lambda: classifier.hashes([]), names, cache(lambda: listing.records(own())), listing, settings)


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
    """What `check` says; a file that is gone or cannot be read, or a value of another kind, is a difference as well."""
    try:
        difference = check()
    except (OSError, *MALFORMED) as error:
        difference = f"cannot be checked: {_reason(error)}"
    return Check(f"{path.name}: {what}", difference)


def _reason(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, (ValueError, OSError)) and text else f"{type(error).__name__} {text}"


def _same(found: str, stated: object) -> str:
    """Both hashes where they differ, else ""."""
    named = f"{stated[:12]}..." if isinstance(stated, str) else short(stated)
    return "" if found == stated else f"sha256 {found[:12]}..., {named} in the result"


def _read(path: Path) -> Summary:
    """A result, with what the checks rely on: an object of hashes and one of settings, or one of lists."""
    result = read_document(path)
    origin = result.get("provenance")
    listed = isinstance(origin, dict) and all(isinstance(origin.get(key), dict) for key in ("config", "hashes"))
    inputs = not isinstance(origin, dict) or not listed or isinstance(origin.get("inputs", {}), dict)
    if not inputs or not (listed or ("provenance" not in result and isinstance(result.get("lists"), dict))):
        raise ResultError(f"{path}: not a result file; give a NAME.json that mote eval wrote")
    return result

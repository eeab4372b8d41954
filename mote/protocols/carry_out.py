"""A protocol carried out: its lists found and checked, each scored by the protocol's rules, the numbers joined.

`run_protocol` leaves one result per list (NAME-test1.json and .csv, as `scoring.evaluate` writes them) and NAME.json,
the number of the protocol: mean and population standard deviation over its lists, or over ten halves of the classes.
Everything about the lists is checked before the first video is decoded. What makes a run differ from its protocol
without making it meaningless (other numbers of videos, a union of vocabularies) is in `departures` of the result.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mote.config import Config
from mote.datasets.lists.reading import Listing
from mote.evaluation.videos import evaluate
from mote.files.hashes import sha256_file
from mote.files.shipped import data_file
from mote.files.writing import to_json, write_atomic
from mote.inference.classifier import Classifier
from mote.inference.loading import load
from mote.metrics.statistics import mean_and_std
from mote.parallel.accelerator import Accelerator, make_accelerator, on_main
from mote.parallel.precision import resolve_precision
from mote.protocols.lists import ProtocolList, find_lists
from mote.protocols.table import Protocol
from mote.reporting.headline import headline, protocol_headline, report


def digest(protocol: Protocol) -> str:
    """The protocol's hash, over the class and template files that are installed."""
    return protocol.digest({name: data_file(name) for name in protocol.files()})


def evaluate_protocol(
    model: str,
    protocol: Protocol,
    lists: str,
    root: str | None,
    config: Config,
    out: Path,
    *,
    backbone: str | None = None,
    union: str | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """Run a protocol on any model (see `mote.load`), print and write what came out."""
    accelerator = make_accelerator("fp32", cpu=config.run.cpu)
    if accelerator.is_main_process:
        print(f"{protocol.identifier}{f' ({protocol.subset} videos)' if protocol.subset else ''} {digest(protocol)}")
    found = find_lists(protocol, lists, root)
    classifier = load(model, backbone=backbone, device=accelerator.device)
    source = {"model": model, "backbone": backbone}
    result = run_protocol(classifier, protocol, found, config, accelerator, out, source=source, union=union, name=name)
    if accelerator.is_main_process:
        for one, part in result["lists"].items():
            print(f"{one}: {headline(part)}")
            report({**part, "warnings": []})
        print(f"{out / result['task']}.json: {protocol_headline(result)}")
        report(result)
    return result


def run_protocol(
    classifier: Classifier,
    protocol: Protocol,
    lists: list[ProtocolList],
    config: Config,
    accelerator: Accelerator,
    out: Path | None = None,
    *,
    source: Mapping[str, str | None] | None = None,
    union: str | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """Score `classifier` on the lists of a protocol (see `find_lists`); returns the joint result.

    What the protocol fixes replaces what `config` says. A study may pass `dataclasses.replace(protocol, alpha=0.5)`:
    its departures then name the change, and its digest is another one. `name` is the stem of the result files, by
    default the protocol's name; without `out` nothing is written.

    Returns:
        top1, top5, mean_class_recall, and where they apply top1_without_tuned_names and fell_on_other: means over the
        lists, each with `_std` (population; None for a single list). For a protocol of halves top1 and top5 over the
        halves. `lists`: what `scoring.evaluate` returned for each; listed, scored; protocol (identifier, subset,
        digest, departures, fields); warnings.

    Raises:
        ValueError: lists that do not fit the classes.
        DecodeError: an undecodable video, unless `evaluation.bad_videos=count_wrong`.
    """
    name = name or protocol.name
    given = {"source": source, "union": union, "name": name}
    summaries, block = score_lists(classifier, protocol, lists, config, accelerator, out, **given)
    return concluded(name, summaries, block, accelerator, out)


def score_lists(
    classifier: Classifier,
    protocol: Protocol,
    lists: Sequence[ProtocolList],
    config: Config,
    accelerator: Accelerator,
    out: Path | None,
    *,
    source: Mapping[str, str | None] | None,
    union: str | None,
    name: str,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The summaries of a model on lists, and what they say about the protocol."""
    if protocol.frames is not None:
        classifier = replace(classifier, frames=protocol.frames)
    block: dict[str, Any] = {"identifier": protocol.identifier, "subset": protocol.subset, "digest": digest(protocol)}
    block["departures"] = _departures(classifier, protocol, lists, config, union)
    block["fields"] = asdict(protocol)
    halves = protocol.subsets == "halves"
    rules = protocol if classifier.can_gate else replace(protocol, modulation=False)
    summaries = {}
    for one in lists:
        settings = settled(config, rules, one, f"{name}-{one.name}", classifier.frames)
        summaries[one.name] = evaluate(
            classifier,
            settings,
            accelerator,
            out,
            source=source,
            union=union,
            protocol={**block, "list": one.name},
            halves=halves,
        )
    return summaries, block


def concluded(
    name: str,
    summaries: Mapping[str, Mapping[str, Any]],
    block: Mapping[str, Any],
    accelerator: Accelerator,
    out: Path | None,
) -> dict[str, Any]:
    """The joint result, written where there is a place for it."""
    result = {"task": name, **joined(summaries), "protocol": block}
    result["warnings"] = [*block["departures"], *result["warnings"]]
    if out is not None:
        on_main(accelerator, lambda: _write(out, result))
    return result


def joined(summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers of a protocol from those of its lists: see `run_protocol`."""
    parts = list(summaries.values())
    joint = _over_halves(parts) if "halves" in parts[0] else _over_lists(parts)
    joint |= {key: sum(part[key] for part in parts) for key in ("listed", "scored")}
    joint["warnings"] = list(dict.fromkeys(line for part in parts for line in part["warnings"]))
    joint["lists"] = dict(summaries)
    return joint


def _over_halves(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    (halves,) = (part["halves"] for part in parts)
    top1, top5 = (halves["mean"], halves["std"]), (halves["top5_mean"], halves["top5_std"])
    joint = {"top1": top1[0], "top1_std": top1[1], "top5": top5[0], "top5_std": top5[1]}
    return {**joint, "over": f"{len(halves['per_subset'])} halves of the classes"}


def _over_lists(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means and, for several lists, population standard deviations."""
    values = {key: [part[key] for part in parts] for key in ("top1", "top5", "mean_class_recall")}
    unseen = [part["overlap"]["without"]["top1"] for part in parts if (part.get("overlap") or {}).get("without")]
    if len(unseen) == len(parts):
        values["top1_without_tuned_names"] = unseen
    if all("union" in part for part in parts):
        values["fell_on_other"] = [part["union"]["fell_on_other"] for part in parts]
    joint: dict[str, Any] = {"over": f"{len(parts)} lists" if len(parts) > 1 else "one list"}
    for key, numbers in values.items():
        joint[key], deviation = mean_and_std(numbers)
        joint[f"{key}_std"] = deviation if len(parts) > 1 else None
    if parts[0].get("protocol", {}).get("fields", {}).get("subsets") == "folds":
        joint["pooled"] = _pooled(parts)
    return joint


def _pooled(parts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """top1 and mean_class_recall of the clips of all lists together: counts are added, then divided."""
    correct, listed = Counter(), Counter()
    for entry in (entry for part in parts for entry in part["per_class"]):
        correct[entry["class"]] += entry["correct"]
        listed[entry["class"]] += entry["listed"]
    recalls = [correct[name] / number for name, number in listed.items()]
    top1 = sum(correct.values()) / sum(listed.values())
    return {"top1": top1, "mean_class_recall": sum(recalls) / len(recalls)}


def settled(config: Config, protocol: Protocol, one: ProtocolList, name: str, frames: int) -> Config:
    """The configuration under which a list is scored: the protocol's settings and files in place of the run's."""
    sections: dict[str, dict[str, Any]] = {"evaluation": {}, "data": {"frames": frames}}
    for key, value in protocol.settings().items():
        section, _, setting = key.partition(".")
        sections[section][setting] = value
    files = {"manifest": one.manifest, "root": one.root, "classes": one.classes}
    sections["evaluation"]["split"] = protocol.split
    sections["evaluation"] |= {key: None if value is None else str(value) for key, value in files.items()}
    sections["evaluation"] |= {"templates": str(data_file(protocol.templates)), "name": name}
    return config.model_copy(
        update={section: getattr(config, section).model_copy(update=new) for section, new in sections.items()}
    )


def _departures(
    classifier: Classifier, protocol: Protocol, lists: Sequence[ProtocolList], config: Config, union: str | None
) -> list[str]:
    """Everything in which this run is not the protocol to the letter."""
    lines = [*protocol.differences(), *(line for one in lists for line in one.departures)]
    if resolve_precision(config.evaluation.precision, classifier.device) != "fp32":
        lines.append(f"evaluation.precision={config.evaluation.precision}: matrix products are not in fp32")
    if union is not None:
        lines.append(f"the classes of {union} compete as well")
    tuned = {*(classifier.classes or ())}
    same = all({*Listing(one.manifest, classes=one.classes).names()} == tuned for one in lists)
    if same != (protocol.task == "closed_set"):
        lines.append(f"the model was {'tuned on these very classes' if same else 'not tuned on these classes'}")
    if protocol.modulation and not classifier.can_gate:
        lines.append("the model has no features of its tuning classes: temporal feature modulation is off")
    return lines


def _write(out: Path, result: Mapping[str, Any]) -> None:
    """The joint result; its lists are named with their files and hashes, their numbers are there."""
    lists = {}
    for name, part in result["lists"].items():
        file = out / f"{result['task']}-{name}.json"
        keys = ("top1", "top1_interval", "top5", "mean_class_recall", "listed", "scored")
        lists[name] = {"file": file.name, "sha256": sha256_file(file), **{key: part[key] for key in keys}}
    write_atomic(out / f"{result['task']}.json", to_json({**result, "lists": lists}))

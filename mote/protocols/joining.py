"""The number of a protocol from those of its lists, and what its result says of the rules."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TypedDict

from mote.metrics.result_files import Summary
from mote.metrics.statistics import mean_and_std
from mote.protocols.table import Protocol


class Rules(TypedDict):
    """What a result says about the protocol that it obeys."""

    identifier: str
    subset: str
    digest: str
    departures: list[str]
    fields: dict[str, object]


PerClass = TypedDict("PerClass", {"class": str, "listed": int, "correct": int, "recall": float})


def rules_of(protocol: Protocol, departures: list[str]) -> Rules:
    """What the result of a protocol says about it."""
    return {
        "identifier": protocol.identifier,
        "subset": protocol.subset,
        "digest": protocol.digest(),
        "departures": departures,
        "fields": asdict(protocol),
    }


def joined(summaries: Mapping[str, Summary]) -> Summary:
    """The numbers of a protocol from those of its lists: see `run_protocol`."""
    parts = list(summaries.values())
    joint = _over_halves(parts) if "halves" in parts[0] else _over_lists(parts)
    joint |= {key: sum(part[key] for part in parts) for key in ("listed", "scored")}
    joint["warnings"] = list(dict.fromkeys(line for part in parts for line in part["warnings"]))
    joint["lists"] = dict(summaries)
    return joint


def _over_halves(parts: Sequence[Summary]) -> Summary:
    (halves,) = (part["halves"] for part in parts)
    joint = {"top1": halves["mean"], "top1_std": halves["std"]}
    joint |= {"top5": halves["top5_mean"], "top5_std": halves["top5_std"]}
    return {**joint, "over": f"{len(halves['per_subset'])} halves of the classes"}


def _over_lists(parts: Sequence[Summary]) -> Summary:
    """Means and, for several lists, population standard deviations."""
    values = {key: [part[key] for part in parts] for key in ("top1", "top5", "mean_class_recall")}
    unseen = [part["overlap"]["without"]["top1"] for part in parts if (part.get("overlap") or {}).get("without")]
    if len(unseen) == len(parts):
        values["top1_without_tuned_names"] = unseen
    if all("union" in part for part in parts):
        values["fell_on_other"] = [part["union"]["fell_on_other"] for part in parts]
    joint: Summary = {"over": f"{len(parts)} lists" if len(parts) > 1 else "one list"}
    for key, numbers in values.items():
        joint[key], deviation = mean_and_std(numbers)
        joint[f"{key}_std"] = deviation if len(parts) > 1 else None
    if parts[0].get("protocol", {}).get("fields", {}).get("subsets") == "folds":
        joint["pooled"] = _pooled(parts)
    return joint


def _pooled(parts: Sequence[Summary]) -> dict[str, float]:
    """top1 and mean_class_recall of the clips of all lists together: counts are added, then divided."""
    rows = pooled_classes(parts)
    top1 = sum(row["correct"] for row in rows) / sum(row["listed"] for row in rows)
    return {"top1": top1, "mean_class_recall": sum(row["recall"] for row in rows) / len(rows)}


def pooled_classes(parts: Iterable[Summary]) -> list[PerClass]:
    """The classes of all lists together: counts are added, then divided."""
    correct, listed = Counter[str](), Counter[str]()
    for entry in (entry for part in parts for entry in part["per_class"]):
        correct[entry["class"]] += entry["correct"]
        listed[entry["class"]] += entry["listed"]
    return [
        {"class": name, "listed": number, "correct": correct[name], "recall": correct[name] / number}
        for name, number in listed.items()
    ]

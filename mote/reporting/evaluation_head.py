"""What stands at the top of the page of an evaluation: its conclusion in a sentence, key numbers, and their origin."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mote.reporting.evaluation_numbers import samples
from mote.reporting.page import Head, command_line, day, percent, short

NAME = 48  # columns of a class name in the sentence


def evaluation_head(result: Mapping, pairs: Sequence[Mapping]) -> Head:
    """The head of the page of a result; pairs: its confused pairs, most clips first."""
    origin = result.get("provenance") or {}
    return Head(
        conclusion=conclusion(result, pairs),
        cards=cards(result),
        model=model_of(origin),
        data=data_of(result),
        date=day(origin.get("date")),
        command=command_line(),
    )


def conclusion(result: Mapping, pairs: Sequence[Mapping]) -> str:
    """One sentence: how much is right, against chance, and what is confused most."""
    items, (low, high), count = samples(result), result["top1_interval"], result["num_classes"]
    text = (
        f"{percent(result['top1'])} % of {result['listed']} {items} are named correctly (95 % interval {percent(low)}"
        f" to {percent(high)} %), where guessing among {count} classes gives {percent(1 / max(count, 1))} %"
    )
    if not pairs:
        return f"{text}; no class is taken for another."
    worst = pairs[0]
    if worst["clips"] < 2 < len(pairs):
        return f"{text}; no pair of classes is confused twice."
    return (
        f"{text}; the most frequent error is to take “{short(worst['true'], NAME)}” for "
        f"“{short(worst['predicted'], NAME)}” ({worst['clips']} of {worst['of']})."
    )


def cards(result: Mapping) -> list[tuple[str, str]]:
    """(value, what it is) of the key numbers of a result."""
    found = [(f"{percent(result['top1'])} %", f"top-1 {_range(result['top1_interval'])}")]
    if 1 < result["top5_k"] < result["num_classes"]:
        found.append((f"{percent(result['top5'])} %", f"top-{result['top5_k']} {_range(result['top5_interval'])}"))
    mean = f"mean recall of {len(result['per_class'])} classes {_range(result.get('mean_class_recall_interval'))}"
    found.append((f"{percent(result['mean_class_recall'])} %", mean.rstrip()))
    if "groups" in result and (tail := result["groups"].get("tail")) and tail["listed"]:
        found.append((f"{percent(tail['mean_recall'])} %", "mean recall of the rarest classes"))
    if halves := result.get("halves"):
        value = f"{percent(halves['mean'])} ± {percent(halves['std'])} %"
        found.append((value, "top-1 among half the classes, mean and standard deviation"))
    if (known := result.get("open_set")) and "auroc" in known:
        found.append((f"{percent(known['auroc'])} %", "AUROC: known clips against clips of no listed class"))
    if calibration := result.get("calibration"):
        found.append((f"{percent(calibration['ece'])} %", "calibration error: confidence against accuracy"))
    if lost := result["listed"] - result["scored"]:
        found.append((str(lost), f"{samples(result)} could not be decoded; they count as wrong"))
    return found


def model_of(origin: Mapping) -> str:
    """The model that provenance names, and how many frames it sees."""
    config, inputs = origin.get("config") or {}, origin.get("inputs") or {}
    run, frames = config.get("run") or {}, (config.get("data") or {}).get("frames")
    name = inputs.get("model") or run.get("out") or ""
    kind = config.get("task") or "video"
    return f"{name} ({frames} frames)" if name and frames and kind == "video" else str(name)


def data_of(result: Mapping) -> str:
    """What was scored: the list, its size, and the protocol."""
    config = (result.get("provenance") or {}).get("config") or {}
    manifest = (config.get("evaluation") or {}).get("manifest")
    protocol = result.get("protocol")
    if isinstance(protocol, Mapping):
        protocol = protocol.get("identifier") or protocol.get("name")
    where = f"{Path(manifest).name}: " if manifest else ""
    by = f", protocol {protocol}" if protocol else ""
    return f"{where}{result['listed']} {samples(result)} of {result['num_classes']} classes{by}"


def _range(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"[{percent(interval[0])}, {percent(interval[1])}]"

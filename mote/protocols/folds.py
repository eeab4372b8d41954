"""A protocol of folds carried out: a run of its own for each of them, WAR and UAR of every fold and over all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mote.config import Config
from mote.evaluation.videos import training_warning
from mote.files.writing import write_atomic
from mote.inference.loading import load_video
from mote.parallel.accelerator import Accelerator, make_accelerator
from mote.protocols.carry_out import concluded, digest, score_lists
from mote.protocols.lists import ProtocolList, find_lists
from mote.protocols.table import Protocol
from mote.reporting.headline import protocol_headline, report
from mote.reporting.page import percent, text_table


def evaluate_folds(
    models: Sequence[str],
    protocol: Protocol,
    lists: str,
    root: str | None,
    configs: Sequence[Config],
    out: Path,
    *,
    name: str | None = None,
) -> dict[str, Any]:
    """Run a protocol of folds, print and write what came out: NAME.json, and NAME.txt with the table."""
    accelerator = make_accelerator("fp32", cpu=configs[0].run.cpu)
    if accelerator.is_main_process:
        print(f"{protocol.identifier} {digest(protocol)}")
    found = find_lists(protocol, lists, root)
    result = run_folds(models, protocol, found, configs, accelerator, out, name=name)
    if accelerator.is_main_process:
        table = text_table(fold_table(result))
        write_atomic(out / f"{result['task']}.txt", table + "\n")
        print(f"{table}\n{out / result['task']}.json: {protocol_headline(result)}")
        report(result)
    return result


def run_folds(
    models: Sequence[str],
    protocol: Protocol,
    lists: Sequence[ProtocolList],
    configs: Sequence[Config],
    accelerator: Accelerator,
    out: Path | None = None,
    *,
    name: str | None = None,
) -> dict[str, Any]:
    """Score a model for each list of a protocol of folds, in their order; returns the joint result of `run_protocol`.

    It says `pooled` too: top1 and mean_class_recall of the clips of all folds together. `configs`: of each model.

    Raises:
        ValueError: another number of models than of lists, or a model that was trained on clips of its list.
    """
    name, wanted = name or protocol.name, ", ".join(one.name for one in lists)
    if len(models) != len(lists):
        raise ValueError(f"{protocol.identifier} needs a run for each of {wanted}, in this order; got {len(models)}")
    for model, config, one in zip(models, configs, lists, strict=True):
        if seen := training_warning(config, one.records):
            raise ValueError(f"{model}, for {one.name}: {seen[0]}; give the runs in the order {wanted}")
    summaries, blocks = {}, []
    for model, config, one in zip(models, configs, lists, strict=True):
        classifier = load_video(model, device=accelerator.device)
        given = {"union": None, "name": name}
        found, block = score_lists(classifier, protocol, [one], config, accelerator, out, **given)
        summaries |= found
        blocks.append(block)
    departures = list(dict.fromkeys(line for block in blocks for line in block["departures"]))
    return concluded(name, summaries, {**blocks[0], "departures": departures}, accelerator, out)


def fold_table(result: Mapping[str, Any]) -> list[dict[str, object]]:
    """WAR and UAR in percent of every fold, of their mean, and of all clips together."""
    rows: list[dict[str, object]] = [
        {
            "fold": name,
            "clips": part["listed"],
            "WAR": percent(part["top1"], part["top1_interval"]),
            "UAR": percent(part["mean_class_recall"], part["mean_class_recall_interval"]),
        }
        for name, part in result["lists"].items()
    ]
    joint = {"fold": "mean", "clips": result["listed"]}
    for title, key in (("WAR", "top1"), ("UAR", "mean_class_recall")):
        spread = result[f"{key}_std"]
        joint[title] = percent(result[key]) + ("" if spread is None else f" +- {percent(spread)}")
    pooled = {title: percent(result["pooled"][key]) for title, key in (("WAR", "top1"), ("UAR", "mean_class_recall"))}
    return [*rows, joint, {"fold": "all clips", "clips": result["listed"], **pooled}]

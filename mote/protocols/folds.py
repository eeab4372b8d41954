"""Protocols of folds: which run belongs to which list, and the table of WAR and UAR over the folds."""

from collections.abc import Mapping, Sequence
from typing import Any

from mote.config import Config
from mote.evaluation.videos import training_warning
from mote.protocols.lists import ProtocolList
from mote.protocols.table import Protocol
from mote.reporting.page import percent

SCORES = {"WAR": "top1", "UAR": "mean_class_recall"}  # column -> key of the result


def check_folds(
    protocol: Protocol, lists: Sequence[ProtocolList], models: Sequence[str], configs: Sequence[Config]
) -> None:
    """Check that there is a run for each list, in their order, and none was trained on clips of its list.

    Args:
        protocol: named in the message.
        lists: see `find_lists`.
        models, configs: names of the runs, and their configurations.

    Raises:
        ValueError: naming the run and the clips.
    """
    wanted = ", ".join(one.name for one in lists)
    if len(models) != len(lists):
        raise ValueError(f"{protocol.identifier} needs a run for each of {wanted}, in this order; got {len(models)}")
    for model, config, one in zip(models, configs, lists, strict=True):
        if seen := training_warning(config, one.records):
            raise ValueError(f"{model}, for {one.name}: {seen[0]}; give the runs in the order {wanted}")


def fold_table(result: Mapping[str, Any]) -> list[dict[str, object]]:
    """Rows for `text_table`: WAR and UAR in percent of every fold, of their mean, and of all clips together."""
    rows: list[dict[str, object]] = [
        {
            "fold": name,
            "clips": part["listed"],
            **{title: percent(part[key], part[f"{key}_interval"]) for title, key in SCORES.items()},
        }
        for name, part in result["lists"].items()
    ]
    mean, pooled = ({"fold": name, "clips": result["listed"]} for name in ("mean", "all clips"))
    for title, key in SCORES.items():
        spread = result[f"{key}_std"]
        mean[title] = percent(result[key]) + ("" if spread is None else f" +- {percent(spread)}")
        pooled[title] = percent(result["pooled"][key])
    return [*rows, mean, pooled]

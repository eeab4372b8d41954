"""Which parameters of a task are trained, as a table: one row per part, and their sum."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

PARTS = {  # part -> prefix of its names; adapters are told apart by their name
    "visual tower": "model.visual.",
    "temporal head": "model.temporal.",
    "logit scale": "model.logit_scale",
    "text tower": "class_features.",
}


def parameter_table(task: nn.Module, groups: Sequence[Mapping[str, Any]], lr: float) -> list[dict[str, object]]:
    """Rows of part, parameters, trained, frozen and learning rate (largest of the part, None where frozen).

    Args:
        task: whose parameters are counted.
        groups: optimizer groups, see `mote.training.optim.parameter_groups`.
        lr: base learning rate, which a group scales by its `lr_scale`.
    """
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    rows: dict[str, dict[str, Any]] = {}
    for name, parameter in task.named_parameters():
        part = next((part for part, prefix in PARTS.items() if name.startswith(prefix)), "other")
        part += ": adapters" if ".lora_" in name else ""
        row = rows.setdefault(part, {"part": part, "parameters": 0, "trained": 0, "frozen": 0, "learning rate": None})
        trained = id(parameter) in scale
        row["parameters"] += parameter.numel()
        row["trained" if trained else "frozen"] += parameter.numel()
        if trained:
            row["learning rate"] = max(row["learning rate"] or 0.0, lr * scale[id(parameter)])
    total: dict[str, Any] = {
        "part": "all",
        **{key: sum(row[key] for row in rows.values()) for key in ("parameters", "trained", "frozen")},
        "learning rate": None,
    }
    return [*rows.values(), total]

"""Which parameters of a task are trained, as a table: one row per part, and their sum."""

from collections.abc import Mapping, Sequence

from torch import nn

PARTS = {  # part -> prefix of its names; adapters are told apart by their name
    "visual tower": "model.visual.",
    "temporal head": "model.temporal.",
    "logit scale": "model.logit_scale",
    "text tower": "class_features.",
}


def parameter_table(task: nn.Module, groups: Sequence[Mapping], lr: float) -> list[dict[str, object]]:
    """Rows of part, parameters, trained, frozen and learning rate (largest of the part, None where frozen).

    Args:
        task: whose parameters are counted.
        groups: optimizer groups, see `mote.training.optim.parameter_groups`.
        lr: base learning rate, which a group scales by its `lr_scale`.
    """
    rates = {id(p): lr * group["lr_scale"] for group in groups for p in group["params"]}
    parts: dict[str, list[nn.Parameter]] = {}
    for name, parameter in task.named_parameters():
        part = next((part for part, prefix in PARTS.items() if name.startswith(prefix)), "other")
        parts.setdefault(f"{part}: adapters" if ".lora_" in name else part, []).append(parameter)
    parts["all"] = [parameter for group in parts.values() for parameter in group]
    rows: list[dict[str, object]] = []
    for part, parameters in parts.items():
        trained = [p for p in parameters if id(p) in rates]
        counts = [sum(p.numel() for p in chosen) for chosen in (parameters, trained)]
        rate = max((rates[id(p)] for p in trained), default=None) if part != "all" else None
        row = {"part": part, "parameters": counts[0], "trained": counts[1], "frozen": counts[0] - counts[1]}
        rows.append({**row, "learning rate": rate})
    return rows

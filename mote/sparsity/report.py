"""What removal gained: parts, parameters and floating-point operations per layer, and measured time.

Operations are counted by PyTorch's own counter (`torch.utils.flop_counter`: matrix products, convolutions, attention;
a multiplication with its addition counts as two) while the networks run an example; time is the median of interleaved
runs, so that both networks see the same machine.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mote.models.sites import sites

Run = Callable[[nn.Module], Tensor]  # runs an example through a network
Row = dict[str, str | int | float | None]


def layers(dense: nn.Module, small: nn.Module, run: Run) -> list[Row]:
    """One row per layer: its name, and `parts`, `parameters`, `flops` before and after (`..._left`), and a total.

    `parts` are units or heads, None for a layer that has nothing to lose (the last one of a network). Layers without
    parameters are left out.
    """
    before, after = _parts(dense), _parts(small)
    flops, flops_left = count_flops(dense, run), count_flops(small, run)
    rows: list[Row] = []
    for name in _rows(dense, before):
        left = after.get(name, 0) if name in before else None
        numbers = _parameters(dense, name), _parameters(small, name)
        rows.append(_row(name, (before.get(name), left), numbers, (flops.get(name, 0), flops_left.get(name, 0))))
    whole = _parameters(dense, ""), _parameters(small, "")
    return [*rows, _row("total", (None, None), whole, (flops[""], flops_left[""]))]


def _row(name: str, parts: tuple[int | None, ...], numbers: tuple[int, int], flops: tuple[int, int]) -> Row:
    row: Row = {"layer": name}
    for key, (whole, left) in (("parts", parts), ("parameters", numbers), ("flops", flops)):
        row |= {key: whole, f"{key}_left": left}
    return row


def _parts(model: nn.Module) -> dict[str, int]:
    return {site.name: len(site) for site in sites(model)}


def _rows(model: nn.Module, parts: Mapping[str, int]) -> list[str]:
    """Layers with parts, and the modules with parameters of their own that lie in none of them."""
    inside = tuple(f"{name}." for name in parts)
    found = []
    for name, module in model.named_modules():
        own = bool(name) and any(True for _ in module.parameters(recurse=False))
        if name in parts or (own and not name.startswith(inside)):
            found.append(name)
    return found


def _parameters(model: nn.Module, name: str) -> int:
    return sum(p.numel() for p in model.get_submodule(name).parameters())


class _Example(nn.Module):
    """A network under a name of its own: the counter names modules by the way from the first one that is called."""

    def __init__(self, model: nn.Module, run: Run):
        super().__init__()
        self.model, self.run = model, run

    def forward(self) -> Tensor:
        return self.run(self.model)


def count_flops(model: nn.Module, run: Run) -> dict[str, int]:
    """Operations of every module of `model` by name, "" for all of it, while it runs the example."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused attention layer is not counted
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            _Example(model, run)()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    counts = {name: sum(by.values()) for name, by in counter.get_flop_counts().items()}
    inside = "_Example.model."
    own = {name.removeprefix(inside): count for name, count in counts.items() if name.startswith(inside)}
    return {**own, "": counter.get_total_flops()}


def seconds(dense: nn.Module, small: nn.Module, run: Run, repeats: int = 21) -> tuple[float, float]:
    """Median seconds of one run of each network, measured in turn; the first three of each warm up."""
    times: tuple[list[float], list[float]] = ([], [])
    with torch.inference_mode():
        for repeat in range(repeats + 3):
            for model, taken in zip((dense, small), times, strict=True):
                start = time.perf_counter()
                run(model)
                if repeat >= 3:
                    taken.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def table(rows: list[Row]) -> list[dict[str, str]]:
    """The rows for a reader: what is left of what was, and its share in percent."""

    def text(row: Row, key: str) -> str:
        whole, left = row[key], row[f"{key}_left"]
        return "" if whole is None else f"{left} of {whole}"

    def share(row: Row, key: str) -> str:
        whole, left = row[key], row[f"{key}_left"]
        return f"{100 * left / whole:.1f}" if isinstance(whole, int) and isinstance(left, int) and whole else ""

    return [
        {
            "layer": str(row["layer"]),
            "parts": text(row, "parts"),
            "parameters": text(row, "parameters"),
            "parameters %": share(row, "parameters"),
            "FLOPs %": share(row, "flops"),
        }
        for row in rows
    ]

"""What `mote compact` says of two networks: layers, operations and times."""

import itertools

import torch
from torch import nn

from mote.sparsity import report


class Net(nn.Module):
    """A layer within a container, a norm, and a layer at the top."""

    def __init__(self, width: int):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, width, bias=False), nn.LayerNorm(width))
        self.last = nn.Linear(width, 3)

    def forward(self, x):
        return self.last(self.inner(x))


def test_the_rows_are_the_modules_with_parameters_and_the_total():
    x = torch.randn(2, 4)
    rows = report.layers(Net(6), Net(5), lambda net: net(x))
    found = [(row["layer"], row["parameters"], row["parameters_left"], row["flops"], row["flops_left"]) for row in rows]
    assert found == [
        ("inner.0", 24, 20, 2 * 2 * 4 * 6, 2 * 2 * 4 * 5),
        ("inner.1", 12, 10, 0, 0),
        ("last", 21, 18, 2 * 2 * 6 * 3, 2 * 2 * 5 * 3),
        ("total", 57, 48, 2 * 2 * (24 + 18), 2 * 2 * (20 + 15)),
    ]
    assert all(row["parts"] is None and row["parts_left"] is None for row in rows)


def test_times_are_medians_in_turn_without_the_first_three(monkeypatch):
    """The clock stands still but in a run: 2 s dense and 1 s compact, 100 s each while warming up."""
    now, ran = [0.0], []
    monkeypatch.setattr(report.time, "perf_counter", lambda: now[0])

    def run(net):
        ran.append(net)
        now[0] += 100.0 if len(ran) <= 6 else {"dense": 2.0, "small": 1.0}[net]

    assert report.seconds("dense", "small", run, repeats=2) == (2.0, 1.0)
    assert ran == ["dense", "small"] * 5


def test_the_table_says_what_is_left_of_what():
    numbers = itertools.cycle([10, 4])
    row = {"layer": "a"} | {key: next(numbers) for key in ("parts", "parts_left", "parameters", "parameters_left")}
    total = {"layer": "total", "parts": None, "parts_left": None, "parameters": 20, "parameters_left": 5}
    found = report.table([{**row, "flops": 0, "flops_left": 0}, {**total, "flops": 8, "flops_left": 2}])
    assert found == [
        {"layer": "a", "parts": "4 of 10", "parameters": "4 of 10", "parameters %": "40.0", "FLOPs %": ""},
        {"layer": "total", "parts": "", "parameters": "5 of 20", "parameters %": "25.0", "FLOPs %": "25.0"},
    ]

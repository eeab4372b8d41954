"""Updates by SGD with momentum and by Adam, and rates by steps, against loops of torch's own, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_run import Clips, Order, make_task, run

from mote.training.optim import make_optimizer
from mote.training.signals import Stopped

SCRIPT = str(Path(__file__).resolve().parents[1] / "toy_run.py")
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", SCRIPT]
STEPS = {"num_items": 40, "batch_size": 8, "epochs": 10, "lr": 0.05, "experts": 1, "warmup_epochs": 0.0}  # 50 of them
FALLS = {"schedule": "step", "milestones": [4.0, 8.0], "lr_decay": 0.5, "weight_decay": 1e-3}
METHODS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.8, weight_decay=1e-3),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.05, betas=(0.9, 0.999), weight_decay=1e-3),
}


def by_hand(method: str, processes: int) -> dict[str, torch.Tensor]:
    """Weights after 50 updates of two micro steps on `processes`, whose gradients are averaged."""
    task, clips, order = make_task(experts=1), Clips(40), Order(40)
    slow = [*task.model.visual.parameters(), task.model.logit_scale]
    named = [{"params": slow, "scale": 0.1}, {"params": [*task.model.temporal.parameters()], "scale": 1.0}]
    optimizer = METHODS[method](named)
    for epoch in range(10):
        rate = 0.05 * 0.5 ** ((epoch >= 4) + (epoch >= 8))
        order.set_epoch(epoch)
        for step in np.array(list(order)).reshape(5, 2, processes, -1, 2):
            gradients = []
            for rank in range(processes):
                optimizer.zero_grad()
                for keys in step[:, rank]:
                    items = [clips[tuple(map(int, key))] for key in keys]
                    loss, _ = task({key: torch.stack([item[key] for item in items]) for key in items[0]}, None)
                    (loss / 2).backward()
                gradients.append([p.grad for group in named for p in group["params"]])
            for p, *parts in zip((p for group in named for p in group["params"]), *gradients, strict=True):
                p.grad = sum(parts) / processes
            for group in optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            optimizer.step()
    return dict(task.named_parameters())


def same(out: Path, expected: dict[str, torch.Tensor]) -> bool:
    state = json.loads((out / "last" / "state.json").read_text())
    found = load_file(out / "last" / state["weights"])
    return all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("method", METHODS)
def test_accumulated_and_resumed_it_is_the_loop_of_torch_bit_for_bit(tmp_path, method):
    options = {**STEPS, **FALLS, "method": method, "momentum": 0.8, "accumulation": 2}
    with pytest.raises(Stopped):
        run(tmp_path, stop_at=41, **options)  # in the 21st update
    _, progress, records = run(tmp_path, resume=True, **options)
    assert progress.step == 50 and same(tmp_path, by_hand(method, 1))
    rates = [record["lr"] for record in records]
    assert rates == [0.05] * 20 + [0.025] * 20 + [0.0125] * 10


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_on_two_processes_it_is_the_loop_of_torch_bit_for_bit(tmp_path, method):
    options = {**STEPS, **FALLS, "method": method, "momentum": 0.8, "accumulation": 2, "out": str(tmp_path)}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for more in ({"stop_at": 41}, {"resume": True}):
        command = [*LAUNCHER, json.dumps(options | more)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert (done.returncode == 0) == ("resume" in more), done.stderr
    assert same(tmp_path, by_hand(method, 2))


def test_decay_is_apart_from_the_gradient_in_adamw_alone():
    """A gradient of zero: adamw shrinks the weight, adam and sgd move along the decay that was added."""
    found = {}
    for method in ("adamw", "adam", "sgd"):
        weight = torch.nn.Parameter(torch.tensor([2.0]))
        optimizer = make_optimizer([{"params": [weight], "weight_decay": 0.1}], method, momentum=0.5)
        for _ in range(2):
            weight.grad = torch.zeros(1)
            optimizer.param_groups[0]["lr"] = 0.5
            optimizer.step()
        found[method] = weight.item()
    assert found["adamw"] == pytest.approx(2 * 0.95**2)
    assert found["adam"] == pytest.approx(2 - 2 * 0.5, abs=1e-2)  # its steps are of length lr
    first = 2 - 0.5 * 0.2
    assert found["sgd"] == pytest.approx(first - 0.5 * (0.5 * 0.2 + 0.1 * first))

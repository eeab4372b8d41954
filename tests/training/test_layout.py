import pytest
import torch
from accelerate import Accelerator
from torch import nn

from mote.parallel.accelerator import make_accelerator
from mote.training import layout
from mote.training.layout import Layout, layout_of
from mote.training.optim import make_optimizer


def prepared(whole: bool = False) -> Layout:
    torch.manual_seed(0)
    task = nn.Linear(3, 2)
    return layout_of(make_accelerator(cpu=True), task, make_optimizer([{"params": [*task.parameters()]}]), whole=whole)


def test_without_shards_the_whole_task_is_the_task_and_its_state_comes_back():
    first, second = prepared(whole=True), prepared()
    assert first.whole_task() is first.task
    for _ in range(2):
        first.optimizer.zero_grad()
        first.accelerator.backward(first.module(torch.ones(1, 3)).square().sum())
        first.optimizer.step()
    state = first.whole_state()
    second.load_state(state)
    assert set(state["state"]) == {0, 1} and state["state"][0]["step"] == 2
    for i, moments in second.whole_state()["state"].items():
        assert all(torch.equal(value, state["state"][i][key]) for key, value in moments.items())


def test_the_norm_is_that_before_clipping():
    layout = prepared()
    for parameter in layout.task.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    norm = 2 * 8**0.5
    assert layout.gradient_norm(1.0) == pytest.approx(norm)
    assert layout.gradient_norm(float("inf")) == pytest.approx(1.0, rel=1e-4)


def test_what_changes_weights_itself_is_refused_where_they_are_in_shards(monkeypatch):
    monkeypatch.setattr(Accelerator, "is_fsdp2", property(lambda accelerator: True))
    with pytest.raises(ValueError, match="sparsity needs whole parameters"):
        prepared(whole=True)


def test_where_shards_are_asked_for_they_get_the_task_and_its_optimizer(monkeypatch):
    monkeypatch.setattr(Accelerator, "is_fsdp2", property(lambda accelerator: True))
    monkeypatch.setattr(layout, "Sharded", lambda *given: given)
    accelerator, task, optimizer = prepared()
    assert isinstance(accelerator, Accelerator) and isinstance(task, nn.Linear)
    assert optimizer.param_groups[0]["params"] == [*task.parameters()]

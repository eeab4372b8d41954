"""One optimizer step: which process and micro step gets which part of it, and steps of which nothing can be decoded."""

import math

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from toy_run import Clips, Order, make_task, run

from mote.parallel.accelerator import make_accelerator
from mote.training import step as steps
from mote.training.batches import StepBatches
from mote.training.checkpoint import Progress
from mote.training.seeds import mix_seed, mixing_generator, routing_generator, seed_dropout
from mote.training.step import NonFiniteError


@pytest.mark.parametrize(
    ("processes", "accumulation", "parts"),
    [
        (1, 1, {(0, 0): [0, 1, 2, 3, 4, 5, 6, 7]}),
        (2, 1, {(0, 0): [0, 1, 2, 3], (0, 1): [4, 5, 6, 7]}),
        (1, 2, {(0, 0): [0, 1, 2, 3], (1, 0): [4, 5, 6, 7]}),
        (2, 2, {(0, 0): [0, 1], (0, 1): [2, 3], (1, 0): [4, 5], (1, 1): [6, 7]}),
        (4, 2, {(micro, rank): [4 * micro + rank] for micro in range(2) for rank in range(4)}),
        (2, 4, {(micro, rank): [2 * micro + rank] for micro in range(4) for rank in range(2)}),
    ],
)
def test_micro_step_m_of_process_r_gets_part_m_times_the_processes_plus_r(processes, accumulation, parts):
    """{(micro step, process): its samples} of the first step; the second has those 8 further on."""
    for rank in range(processes):
        order = Order(20, shuffle=False)
        own = StepBatches(order, batch_size=8, accumulation=accumulation, processes=processes, rank=rank)
        assert (own.steps, len(own)) == (2, 2 * accumulation)
        expected = [parts[micro, rank] for micro in range(accumulation)]
        expected += [[8 + sample for sample in part] for part in expected]
        assert [[index for _, index in batch] for batch in own] == expected
        own.first_step = 1
        assert [[index for _, index in batch] for batch in own] == expected[accumulation:] and len(own) == accumulation


def recorded(tmp_path, name, **options):
    """What every forward pass of a run was given: indices, seed of the routing, seed of dropout; and its task."""
    task, notes = make_task(), []

    def note(_module, arguments):
        batch, generator = arguments
        notes.append((batch["index"].tolist(), generator.initial_seed(), torch.initial_seed()))

    task.register_forward_pre_hook(note)
    run(tmp_path / name, task=task, epochs=1, num_items=17, batch_size=8, **options)
    return notes


def test_micro_steps_share_a_routing_and_have_dropout_of_their_own(tmp_path):
    """One process: draws are named by (seed, stream, step, micro step, process), routing by (seed, step, process)."""
    notes = recorded(tmp_path, "run", accumulation=2, seed=7)
    order = [index for _, index in Order(17)]
    assert [note[0] for note in notes] == [order[4 * part : 4 * part + 4] for part in range(4)]
    expected = [(mix_seed(7, 0, step, 0), mix_seed(7, 1, step, micro, 0)) for step in range(2) for micro in range(2)]
    assert [note[1:] for note in notes] == expected
    assert len({note[1] for note in notes}) == 2 and len({note[2] for note in notes}) == 4
    assert not {note[1:] for note in recorded(tmp_path, "other", accumulation=2, seed=8)} & set(expected)


@pytest.mark.parametrize("sync", [True, False])
def test_processes_draw_routings_of_their_own_unless_synchronised(tmp_path, monkeypatch, sync):
    """As process 3 sees it: the rank goes into dropout and mixing always, and into routing unless synchronised."""
    monkeypatch.setattr(Accelerator, "process_index", property(lambda self: 3))
    drawn = []
    for name in ("seed_dropout", "routing_generator", "mixing_generator"):
        own = getattr(steps, name)
        monkeypatch.setattr(steps, name, lambda *a, own=own, name=name: (drawn.append((name, a)), own(*a))[1])
    layout, numbers = layout_of(make_task(), 2), []
    stream = iter([stacked(range(4)), stacked(range(4, 8))])
    schedule = steps.Schedule(lr=0.1, epochs=1, accumulation=2, seed=5, sync_routing=sync)
    mix = lambda batch, rng: (numbers.append(rng.random()), batch)[1]  # noqa: E731
    steps.backward(layout, stream, schedule, step=6, mix=mix, stop=steps.Stop())
    routing = (5, 6, 0 if sync else 3)
    assert drawn == [
        call
        for micro in range(2)
        for call in (
            ("seed_dropout", (5, 6, micro, 3)),
            ("routing_generator", routing),
            ("mixing_generator", (5, 6, micro, 3)),
        )
    ]
    assert numbers == [mixing_generator(5, 6, micro, 3).random() for micro in range(2)]


def stacked(indices) -> dict:
    clips = Clips(99)
    items = [clips[0, index] for index in indices]
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}


def layout_of(task: nn.Module, accumulation: int):
    """What a step reads of a layout, in one process and without wrappers."""
    shared = make_accelerator(cpu=True)
    shared.gradient_accumulation_steps = accumulation

    class Layout:
        accelerator, module, optimizer = shared, task, torch.optim.AdamW(task.parameters())

        def gradient_norm(self, limit):
            return nn.utils.clip_grad_norm_(task.parameters(), limit).item()

        def whole_task(self):
            return task

        whole_state = load_state = whole_task  # not called

    layout = Layout()
    layout.task = task
    return layout


def test_streams_differ_in_every_one_of_their_names():
    base = (1, 2, 3)
    routing = [routing_generator(*place).initial_seed() for place in (base, (0, 2, 3), (1, 0, 3), (1, 2, 0))]
    mixing = [mixing_generator(*place).random() for place in ((1, 2, 3, 4), (0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4),
                                                            (1, 2, 3, 0))]  # fmt: skip
    dropout = []
    for place in ((1, 2, 3, 4), (0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)):
        seed_dropout(*place)
        dropout.append(torch.initial_seed())
    for drawn in (routing, mixing, dropout):
        assert len(set(drawn)) == len(drawn)
    assert not set(routing) & set(dropout)  # streams of their own
    assert routing[0] == mix_seed(1, 0, 2, 3) and dropout[0] == mix_seed(1, 1, 2, 3, 4)


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_a_step_of_which_nothing_can_be_decoded_has_no_loss_and_no_gradient(tmp_path, accumulation):
    """Zero loss, zero gradient, no NaN, and all its clips named, however the step is cut."""
    order = [index for _, index in Order(26)]
    broken = tuple(order[4:8])  # the second of six steps
    records = run(tmp_path / "run", epochs=1, broken=broken, accumulation=accumulation, lr=1e-3)[2]
    assert [sorted(record.get("skipped", [])) for record in records] == [[], sorted(broken), [], [], [], []]
    second = records[1]
    assert {name: second[name] for name in ("loss", "ce", "merged_ce", "anchor", "grad_norm")} == dict.fromkeys(
        ("loss", "ce", "merged_ce", "anchor", "grad_norm"), 0.0
    )
    assert all(math.isfinite(record["loss"]) and record["loss"] > 0 for record in records if record is not second)
    whole = run(tmp_path / "whole", epochs=1, broken=broken, lr=1e-3)[2]  # the steps after it are those of one batch
    assert [r["loss"] for r in records] == pytest.approx([r["loss"] for r in whole], abs=1e-3)


def test_clips_that_can_be_decoded_keep_their_weight_beside_micro_steps_that_have_none(tmp_path):
    """Gradients of one step by hand: the mean over valid clips, one of the first micro batch and none of the second."""
    layout, schedule = layout_of(make_task(experts=1), 3), steps.Schedule(lr=0.1, epochs=1, accumulation=3)
    parts = [stacked(range(4 * part, 4 * part + 4)) for part in range(3)]
    for part, valid in zip(parts, ([False, True, False, False], [False] * 4, [True, True, False, True]), strict=True):
        part["valid"] = torch.tensor(valid)
    known = steps.backward(layout, iter(parts), schedule, step=0, mix=None, stop=steps.Stop())
    found = [p.grad.clone() for p in layout.task.parameters()]
    every = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    kept = {key: value[every["valid"]] for key, value in every.items()}
    layout.optimizer.zero_grad()
    loss, terms = layout.task(kept, torch.Generator())
    loss.backward()
    assert known.means == pytest.approx({"loss": loss.item(), **{k: v.item() for k, v in terms.items()}}, rel=1e-5)
    assert known.skipped == [(index, "") for index in (0, 2, 3, 4, 5, 6, 7, 10)] and not known.stopping
    for a, b in zip(found, layout.task.parameters(), strict=True):
        torch.testing.assert_close(a, b.grad, atol=1e-6, rtol=1e-4)


def test_an_update_is_refused_where_a_number_or_the_gradient_is_not_finite():
    layout = layout_of(make_task(), 1)
    before = {name: p.detach().clone() for name, p in layout.task.named_parameters()}

    def gradients(value: float) -> None:
        for p in layout.task.parameters():
            p.grad = torch.full_like(p, value)

    gradients(1.0)
    with pytest.raises(NonFiniteError, match=r"step 5 \(epoch 2\) is not finite: loss nan, ce 1, gradient norm .*; no"):
        steps.update(layout, None, {"loss": math.nan, "ce": 1.0}, Progress(2, step=4))
    gradients(math.inf)
    with pytest.raises(NonFiniteError, match="gradient norm inf"):
        steps.update(layout, None, {"loss": 1.0}, Progress(2))
    assert all(torch.equal(p, before[name]) for name, p in layout.task.named_parameters())
    gradients(2.0)
    count = sum(p.numel() for p in layout.task.parameters())
    assert steps.update(layout, 0.5, {"loss": 1.0}, Progress(2)) == pytest.approx(2 * count**0.5)  # before clipping
    clipped = math.sqrt(sum(p.grad.square().sum().item() for p in layout.task.parameters()))
    assert clipped == pytest.approx(0.5, rel=1e-4)
    assert any(not torch.equal(p, before[name]) for name, p in layout.task.named_parameters())
    gradients(2.0)
    steps.update(layout, None, {"loss": 1.0}, Progress(2))
    assert all((p.grad == 2).all() for p in layout.task.parameters())  # measured only


@pytest.mark.parametrize(("valid", "shares"), [([2], [1.0]), ([3, 1], [1.5, 0.5]), ([0, 4, 2], [0.0, 2.0, 1.0])])
def test_a_micro_batch_weighs_as_much_as_it_has_valid_clips(valid, shares):
    batches = [{"valid": torch.arange(4) < count} for count in valid]
    assert steps._shares(make_accelerator(cpu=True), batches).tolist() == shares


def test_processes_wait_for_one_another_in_the_last_micro_step_alone(monkeypatch):
    layout = layout_of(make_task(experts=1), 3)
    events = []
    no_sync, own = layout.accelerator.no_sync, layout.accelerator.backward
    monkeypatch.setattr(layout.accelerator, "no_sync", lambda module: events.append("alone") or no_sync(module))
    monkeypatch.setattr(layout.accelerator, "backward", lambda loss: events.append("backward") or own(loss))
    schedule = steps.Schedule(lr=0.1, epochs=1, accumulation=3)
    parts = iter([stacked(range(4 * part, 4 * part + 4)) for part in range(3)])
    steps.backward(layout, parts, schedule, step=0, mix=None, stop=steps.Stop())
    assert events == ["alone", "backward", "alone", "backward", "backward"]

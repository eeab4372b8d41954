import importlib.util
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn
from toy_run import RULES, Clips, make_task, run

from mote.parallel.accelerator import make_accelerator
from mote.training import loop
from mote.training.hooks import Hooks
from mote.training.loop import fit
from mote.training.optim import parameter_groups
from mote.training.run import Keeping
from mote.training.schedule import Schedule
from mote.training.signals import Stopped
from mote.training.step import NonFiniteError

SCRIPT = str(Path(__file__).resolve().parents[1] / "toy_run.py")


def losses(records: list[dict]) -> list[dict]:
    """The records without their timing."""
    return [{key: value for key, value in record.items() if key != "time"} for record in records]


def numbers(records: list[dict], *names: str) -> list[float]:
    return [record[name] for record in records if "loss" in record for name in names]


def script(launcher: list[str], timeout: int = 240, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    strict = [] if "inductor" in launcher else ["-W", "error"]  # the compiler's own imports warn
    command = [sys.executable, *strict, *launcher, SCRIPT, json.dumps(options, default=str)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)


def test_the_loop_is_adamw_on_the_mean_loss(tmp_path):
    """Against a loop written by hand, with torch's optimizer: losses, norms and final weights."""
    task, progress, records = run(tmp_path / "run", experts=1, epochs=2, warmup_epochs=0.0)
    twin = make_task(experts=1)
    optimizer = torch.optim.AdamW(
        [
            {"params": [*twin.model.visual.parameters(), twin.model.logit_scale], "lr": 1e-3, "base": 1e-3},
            {"params": twin.model.temporal.parameters(), "lr": 1e-2, "base": 1e-2},
        ],
        weight_decay=0.2,
    )
    expected, clips = [], Clips(26)
    for epoch in range(2):
        order = np.random.default_rng(epoch).permutation(26)
        for step in range(6):
            items = [clips[(epoch, int(index))] for index in order[4 * step : 4 * step + 4]]
            batch = {key: torch.stack([item[key] for item in items]) for key in items[0]}
            loss, _ = twin(batch, torch.Generator())
            optimizer.zero_grad()
            loss.backward()
            norm = math.sqrt(sum(p.grad.square().sum().item() for p in twin.parameters() if p.grad is not None))
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * (1 + math.cos(math.pi * (6 * epoch + step) / 12)) / 2
            optimizer.step()
            expected += [loss.item(), norm]
    assert numbers(records, "loss", "grad_norm") == pytest.approx(expected, rel=1e-5)
    assert progress.step == 12 and [record["step"] for record in records] == list(range(1, 13))
    for ours, theirs in zip(task.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert all(sum(record[term] for term in ("ce", "anchor")) == pytest.approx(record["loss"]) for record in records)


def test_accumulation_equals_the_large_batch(tmp_path):
    whole = run(tmp_path / "whole", num_items=34, batch_size=8, epochs=1)[2]
    parts = run(tmp_path / "parts", num_items=34, batch_size=8, epochs=1, accumulation=4)[2]
    names = ("loss", "ce", "merged_ce", "anchor")
    assert len(parts) == 4 and numbers(parts, *names) == pytest.approx(numbers(whole, *names), abs=1e-6)
    assert numbers(parts, "grad_norm") == pytest.approx(numbers(whole, "grad_norm"), rel=1e-6)


def test_gradient_checkpointing_changes_nothing(tmp_path):
    options = {"epochs": 1, "dropout": 0.2, "accumulation": 2}
    plain = run(tmp_path / "plain", **options)[2]
    assert losses(run(tmp_path / "checkpointing", checkpointing=True, **options)[2]) == losses(plain)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="torch.compile needs a C compiler on the CPU")
def test_compiled_and_on_two_processes_the_losses_are_the_same(tmp_path):
    """accelerate compiles what it prepares when the launcher asks for it; routing is drawn outside of the graph."""
    plain = run(tmp_path / "plain", epochs=1, sync_routing=True)[2]
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--main_process_port", "0", "--dynamo_backend", "inductor"]
    done = script(launch, timeout=600, out=tmp_path / "compiled", epochs=1, sync_routing=True)
    assert done.returncode == 0, done.stderr
    compiled = [json.loads(line) for line in (tmp_path / "compiled" / "log.jsonl").read_text().splitlines()]
    names = ("loss", "ce", "merged_ce", "anchor", "grad_norm")
    assert numbers(compiled, *names) == pytest.approx(numbers(plain, *names), rel=1e-3)


def test_accumulation_equals_the_large_batch_also_where_undecodable_clips_are_spread_unevenly(tmp_path):
    """One clip of a step in four, two in another, a micro batch with none left: the mean is over all valid clips."""
    options = {"num_items": 34, "batch_size": 8, "epochs": 1, "broken": [0, 5, 6, 17, 20, 21, 22, 30, 33]}
    whole = run(tmp_path / "whole", **options)[2]
    parts = run(tmp_path / "parts", accumulation=4, **options)[2]
    counts = [len(record.get("skipped", ())) for record in parts]
    assert max(counts) >= 2 and [record.get("skipped") for record in whole] == [r.get("skipped") for r in parts]
    names = ("loss", "ce", "merged_ce", "anchor")
    assert numbers(parts, *names) == pytest.approx(numbers(whole, *names), abs=1e-6)
    assert numbers(parts, "grad_norm") == pytest.approx(numbers(whole, "grad_norm"), rel=1e-5)


@pytest.mark.slow  # test_processes.py does it through the command line
@pytest.mark.parametrize("sync_routing", [True, False])
def test_two_processes_equal_one_and_metrics_are_exact(tmp_path, sync_routing):
    """Equal global batch, synchronised routing, 11 evaluation clips in batches of 4; no unused-parameter search.

    Undecodable clips, spread unevenly over the processes, change nothing.
    """
    options = {"sync_routing": sync_routing, "evaluated": True, "epochs": 2, "lr": 1e-3, "broken": [1, 2, 9, 20]}
    one = run(tmp_path / "one", **options)[2]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = script(launcher, out=tmp_path / "two", **options)
    assert done.returncode == 0, done.stderr
    two = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    if not sync_routing:  # then the processes draw routings of their own
        assert numbers(two, "loss") != pytest.approx(numbers(one, "loss"), abs=1e-3)
        return
    assert numbers(two, "loss", "ce", "merged_ce", "anchor") == pytest.approx(
        numbers(one, "loss", "ce", "merged_ce", "anchor"), abs=1e-6
    )
    assert two != one  # timings and last digits: really another run
    evaluations = [[r["evaluation"] for r in records if "evaluation" in r] for records in (one, two)]
    assert len(evaluations[0]) == 2 and evaluations[0][0]["count"] == 11
    for ours, theirs in zip(*evaluations, strict=True):
        assert ours["top1"] == theirs["top1"] and ours["logits"] == pytest.approx(theirs["logits"], rel=1e-6)


@pytest.mark.slow  # test_processes.py does it through the command line
@pytest.mark.parametrize("save_every", [4, None])
def test_killed_in_mid_epoch_and_resumed_is_bit_for_bit_the_uninterrupted_run(tmp_path, save_every):
    options = {"dropout": 0.2, "save_every": save_every, "evaluated": True}
    whole = run(tmp_path / "whole", **options)
    done = script([], out=tmp_path / "cut", kill_at=11, **options)
    assert done.returncode == -signal.SIGKILL, done.stderr
    state = json.loads((tmp_path / "cut" / "last" / "state.json").read_text())
    log = (tmp_path / "cut" / "log.jsonl").read_text()
    assert state["progress"]["step"] == (8 if save_every else 6) and '"step": 10' in log
    (tmp_path / "cut" / "log.jsonl").write_text(log + '{"step": 11, "ep')  # a line cut by the kill
    clips = Clips(26)
    resumed = run(tmp_path / "cut", resume=True, clips=clips, **options)
    assert losses(resumed[2]) == losses(whole[2])  # equality of floats, evaluation included
    trained = [key for key in clips.seen if key[0] == 1]
    assert len(trained) == (16 if save_every else 24)  # 4 or 6 steps of 4 clips, the rest was never decoded
    assert all(torch.equal(a, b) for a, b in zip(resumed[0].parameters(), whole[0].parameters(), strict=True))
    assert resumed[1] == whole[1]


@pytest.mark.parametrize(("stop_at", "saved"), [(4, 4), (12, 12)])  # within an epoch; at the end of the last
def test_asked_to_stop_a_run_saves_the_step_under_way_and_resumes_exactly(tmp_path, stop_at, saved):
    options = {"dropout": 0.2, "evaluated": True}
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match=f"stopped by SIGTERM after step {saved}"):
        run(tmp_path / "cut", stop_at=stop_at, **options)
    assert signal.getsignal(signal.SIGTERM) is before
    state = json.loads((tmp_path / "cut" / "last" / "state.json").read_text())
    assert state["progress"]["step"] == saved and state["progress"]["unevaluated"] == (saved == 12)
    whole = run(tmp_path / "whole", **options)
    resumed = run(tmp_path / "cut", resume=True, **options)
    assert losses(resumed[2]) == losses(whole[2]) and resumed[1] == whole[1]
    assert all(torch.equal(a, b) for a, b in zip(resumed[0].parameters(), whole[0].parameters(), strict=True))


@pytest.mark.slow
def test_all_processes_stop_after_the_same_step_when_one_is_asked(tmp_path):
    """And accumulation, gradient checkpointing and own routing draws on two processes survive the resume."""
    options = {"accumulation": 2, "checkpointing": True, "dropout": 0.2, "epochs": 1}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = script(launcher, out=tmp_path / "cut", stop_at=5, **options)
    assert done.returncode and done.stderr.count("Stopped: stopped by SIGTERM after step 3") == 1
    assert done.stderr.count("Stopped: stopped with another process that was asked to after step 3") == 1
    assert json.loads((tmp_path / "cut" / "last" / "state.json").read_text())["progress"]["step"] == 3
    for name, resume in (("cut", True), ("whole", False)):
        done = script(launcher, out=tmp_path / name, resume=resume, **options)
        assert done.returncode == 0, done.stderr
    cut, whole = ((tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("cut", "whole"))
    assert losses([json.loads(line) for line in cut]) == losses([json.loads(line) for line in whole])


def test_a_signal_during_an_evaluation_stops_at_once_and_the_resume_repeats_the_evaluation(tmp_path):
    def interrupted(task, epoch):
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    with pytest.raises(Stopped, match="stopped by SIGINT after step 6"):
        run(tmp_path / "cut", evaluate=interrupted)
    resumed = run(tmp_path / "cut", resume=True, evaluated=True)
    assert losses(resumed[2]) == losses(run(tmp_path / "whole", evaluated=True)[2])


def test_killed_between_the_record_of_an_evaluation_and_its_checkpoint(tmp_path):
    whole = run(tmp_path / "whole", evaluated=True)
    with pytest.raises(Stopped):
        run(tmp_path / "cut", evaluated=True, stop_at=6)
    with (tmp_path / "cut" / "log.jsonl").open("a") as log:
        log.write(json.dumps({"step": 6, "epoch": 0, "evaluation": {"top1": 0.5}}) + "\n")
    assert losses(run(tmp_path / "cut", resume=True, evaluated=True)[2]) == losses(whole[2])


def test_a_full_disk_is_one_line_and_the_checkpoint_before_it_is_intact(tmp_path):
    """Files may not grow beyond 9000 bytes here: first the log is too long, then the checkpoint too large."""
    run(tmp_path / "run", epochs=1, save_every=1)
    before = (tmp_path / "run" / "last" / "state.json").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = tmp_path / "run" / "log.jsonl"
    for spare, name in ((100, "log.jsonl"), (3000, "last")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + spare, limits[1]))
        try:
            with pytest.raises(OSError, match=f"{name}: cannot be written: .*intact") as caught:
                run(tmp_path / "run", epochs=2, save_every=1, resume=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "\n" not in str(caught.value)
        assert (tmp_path / "run" / "last" / "state.json").read_bytes() == before
        assert not list((tmp_path / "run").rglob(".*"))
    resumed = run(tmp_path / "run", epochs=2, save_every=1, resume=True)[2]
    assert losses(resumed)[6:] and [record["step"] for record in resumed] == list(range(1, 13))


def test_killed_before_the_first_checkpoint_resume_starts_over(tmp_path):
    whole = run(tmp_path / "whole", epochs=1)[2]
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "log.jsonl").write_text('{"step": 1, "loss": 9.0}\n')
    assert losses(run(tmp_path / "cut", resume=True, epochs=1)[2]) == losses(whole)


def test_resume_of_a_finished_or_foreign_run(tmp_path):
    _, progress, records = run(tmp_path / "run", epochs=1, fingerprint="abc")
    again = run(tmp_path / "run", epochs=1, fingerprint="abc", resume=True)
    assert again[1] == progress and again[2] == records
    with pytest.raises(ValueError, match="belongs to another configuration"):
        run(tmp_path / "run", epochs=1, fingerprint="abd", resume=True)
    with pytest.raises(ValueError, match="steps per epoch"):
        run(tmp_path / "run", epochs=1, fingerprint="abc", resume=True, batch_size=2)
    with pytest.raises(FileExistsError):
        run(tmp_path / "run", epochs=1)
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "none", epochs=1, resume=True)


def test_nan_loss_stops_before_the_update_and_keeps_the_checkpoint(tmp_path):
    task = make_task(nan_at=9)
    with pytest.raises(NonFiniteError, match=r"step 9 \(epoch 1\).*ce nan") as error:
        run(tmp_path, task=task, save_every=2)
    assert isinstance(error.value, ArithmeticError)
    state = json.loads((tmp_path / "last" / "state.json").read_text())
    assert state["progress"]["step"] == 8
    weights = load_file(tmp_path / "last" / state["weights"])
    for name, value in task.state_dict().items():
        assert torch.equal(value, weights[name]) and torch.isfinite(value).all()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 8


class Exploding(nn.Module):
    """A finite loss with an infinite gradient: sqrt at 0."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch, generator):
        loss = self.weight.sqrt().sum()
        return loss, {"root": loss}


def test_infinite_gradient_stops_too(tmp_path):
    task = Exploding()
    with pytest.raises(NonFiniteError, match="gradient norm inf"):
        run(tmp_path, task=task, rules=[("*", {})])
    assert task.weight.item() == 0


def test_clipping_logs_the_norm_before_and_limits_the_update(tmp_path):
    """The first AdamW moment after one step is 0.1 times the clipped gradient."""
    free = run(tmp_path / "free", num_items=4, epochs=1, warmup_epochs=0.0)[2]
    clipped = run(tmp_path / "clipped", num_items=4, epochs=1, warmup_epochs=0.0, clip_norm=0.5)[2]
    assert clipped[0]["grad_norm"] == free[0]["grad_norm"] > 0.5
    training = torch.load(tmp_path / "clipped" / "last" / "optimizer-00000001.pt", weights_only=True)
    moments = [state["exp_avg"] for state in training["optimizer"]["state"].values()]
    assert math.sqrt(sum(m.square().sum().item() for m in moments)) == pytest.approx(0.05, rel=1e-4)


def test_every_parameter_gets_a_gradient():
    task = make_task(experts=4)
    parameter_groups(task, RULES)
    batch = {key: value[None] for key, value in Clips(1)[(0, 0)].items()}
    task(batch, torch.Generator().manual_seed(0))[0].backward()
    assert [name for name, p in task.named_parameters() if p.grad is None] == []


@pytest.mark.filterwarnings("ignore:optim.precision=bf16")
def test_bf16_twice_on_the_same_task_runs_in_low_precision_both_times(tmp_path):
    exact = run(tmp_path / "exact", epochs=1)[2]
    AcceleratorState._reset_state(reset_partial_state=True)
    for name in ("first", "second"):
        task = make_task()
        used = []
        task.model.visual[1].register_forward_hook(lambda module, inputs, output, used=used: used.append(output.dtype))
        records = run(tmp_path / f"{name}", task=task, epochs=1, precision="bf16")[2]
        assert set(used) == {torch.bfloat16} and task.model.visual[1].weight.dtype == torch.float32
        again = run(tmp_path / f"{name}-again", task=task, epochs=1, precision="bf16")[2]
        assert set(used) == {torch.bfloat16} and len(again) == len(records)
        assert numbers(records, "loss") == pytest.approx(numbers(exact, "loss"), rel=0.05)
        assert numbers(records, "loss") != numbers(exact, "loss")
        assert task.predict({key: v[None] for key, v in Clips(1)[(0, 0)].items()}).dtype == torch.float32


def test_best_is_saved_when_the_selected_metric_rises(tmp_path):
    values, saved = iter([0.2, 0.5, float("nan"), 0.5, 0.6]), []

    def evaluate(task, epoch):
        assert not task.training and not torch.is_grad_enabled()
        return {"top1": next(values)}

    progress = run(
        tmp_path / "a", num_items=4, epochs=5, evaluate=evaluate, select="top1",
        save_best=lambda task, metrics: saved.append(metrics["top1"]),
    )[1]  # fmt: skip
    assert saved == [0.2, 0.5, 0.6] and progress.best == 0.6 and progress.best_step == 5
    run(tmp_path / "b", num_items=4, epochs=3, save_best=lambda task, metrics: saved.append(metrics))
    assert saved[3:] == [{}]  # without a metric: the last weights, once
    with pytest.raises(ValueError, match=r"top5.*top1"):
        run(tmp_path / "c", num_items=4, evaluate=lambda task, epoch: {"top1": 1.0}, select="top5")


def test_workers_change_nothing(tmp_path):
    first = run(tmp_path / "a", epochs=2)[2]
    second = run(tmp_path / "b", epochs=2, workers=2)[2]
    assert losses(first) == losses(second)


def test_settings_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="do not fill one batch"):
        run(tmp_path / "a", num_items=3)
    with pytest.raises(ValueError, match="multiple of"):
        run(tmp_path / "b", accumulation=3)
    with pytest.raises(ValueError, match="warm-up"):
        run(tmp_path / "c", epochs=1, warmup_epochs=1.0)
    with pytest.raises(ValueError, match="set_epoch"):
        loader = torch.utils.data.DataLoader(Clips(8), 4)
        values = Schedule(lr=1.0, epochs=1), Keeping(tmp_path / "d"), Hooks()
        fit(make_task(), loader, RULES, *values, make_accelerator(cpu=True))


TENSORBOARD = """
import sys
from pathlib import Path
import toy_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
out, make = Path(sys.argv[1]), toy_run.make_accelerator
toy_run.make_accelerator = lambda precision, cpu: make(precision, cpu=cpu, trackers=["tensorboard"], out=out)
toy_run.run(out, epochs=1)
events = EventAccumulator(str(next(out.rglob("events*")).parent))
events.Reload()
print([event.step for event in events.Scalars("merged_ce")])
"""


@pytest.mark.slow
def test_tensorboard_gets_the_terms(tmp_path):
    """In a process of its own, where TensorBoard's imports may warn."""
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(SCRIPT).parent)}
    command = [sys.executable, "-c", TENSORBOARD, str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("[1, 2, 3, 4, 5, 6]")


def test_trackers_keep_their_files_in_the_run_directory(tmp_path, monkeypatch):
    calls = []

    def made(*arguments, **options):
        accelerator = make_accelerator(*arguments, **options)
        accelerator.log_with = ["wandb"]
        accelerator.init_trackers = lambda *given, **more: calls.append((given, more))
        return accelerator

    monkeypatch.setattr("toy_run.make_accelerator", made)
    run(tmp_path, epochs=1)
    assert calls == [(("mote",), {"init_kwargs": {"wandb": {"dir": str(tmp_path)}}})]


def test_the_log_has_times_and_the_bar_says_epoch_and_loss(tmp_path, monkeypatch):
    bar, told = MagicMock(), []
    monkeypatch.setattr("mote.training.run.tqdm", bar)
    monkeypatch.setattr(Accelerator, "log", lambda self, values, step=None: told.append(values))
    records = run(tmp_path, epochs=1, batch_size=4)[2]
    assert bar.call_args.kwargs | {"disable": None} == {"total": 6, "initial": 0, "unit": "step", "disable": None}
    shown = bar.return_value.__enter__.return_value.set_postfix.call_args_list
    assert len(records) == len(shown) == len(told) == 6
    for record, call, values in zip(records, shown, told, strict=True):
        time = record["time"]
        assert time["seconds"] > 0 and time["clips_per_second"] == pytest.approx(4 / time["seconds"])
        assert call.kwargs["epoch"] == 0 and float(call.kwargs["loss"]) == pytest.approx(record["loss"], rel=1e-3)
        assert values["loss"] == record["loss"] and values.items() >= time.items()
    run(tmp_path, epochs=2, batch_size=4, resume=True)
    assert (bar.call_args.kwargs["total"], bar.call_args.kwargs["initial"]) == (12, 6)


def test_an_accelerator_holds_nothing_of_a_run_that_is_over(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("toy_run.make_accelerator", lambda *given, **more: made.append(make_accelerator(*given, **more))
                        or made[-1])  # fmt: skip
    run(tmp_path, epochs=1)
    assert made[0]._models == made[0]._optimizers == []


@pytest.mark.parametrize("decays", [True, False])
def test_decay_and_what_changes_weights_reach_the_optimizer_and_the_layout(tmp_path, monkeypatch, decays):
    """Weights that are changed after updates are kept whole."""
    seen = {}
    for name in ("parameter_groups", "layout_of"):
        own = getattr(loop, name)
        monkeypatch.setattr(loop, name, lambda *given, own=own, **more: seen.update(more) or own(*given, **more))
    hook = MagicMock(return_value={}, state_dict=dict)
    run(tmp_path, epochs=1, weight_decay=0.125, no_decay_norm_bias=decays, after_update=hook if decays else None)
    assert seen == {"weight_decay": 0.125, "no_decay_norm_bias": decays, "whole": decays}

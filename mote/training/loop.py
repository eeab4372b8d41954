"""The training loop: any task, one process or many, CPU or GPU, with exact resume.

Samples are a function of (epoch, step), the learning rate of the step, everything random of (seed, step, micro step,
process): so step, weights and optimizer state are all that a resume needs to continue bit for bit.

Log records: {"step", "epoch", "lr", "loss", each term, "grad_norm", "time"} per update, with "skipped" (numbers of
undecodable clips) where there are any and the numbers of `after_update`, and {"step", "epoch", "evaluation"} per
evaluation. `step` counts updates made; `loss` and terms are means over the global batch; `grad_norm` is null where fp16
skipped the update.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from mote.parallel.accelerator import on_main
from mote.training.batches import EpochOrder, StepBatches, with_batches
from mote.training.checkpoint import Progress, load_checkpoint, open_run
from mote.training.log import JsonlWriter, rewind
from mote.training.optim import Rule, make_optimizer, parameter_groups, set_learning_rate
from mote.training.schedule import learning_rate
from mote.training.sharded import store_scalars_as_vectors
from mote.training.signals import Stop
from mote.training.step import UNREADABLE, AfterUpdate, Mix, Run, backward, read_unreadable, update

Evaluate = Callable[[nn.Module, int], dict[str, float]]
SaveBest = Callable[[nn.Module, dict[str, float]], None]


def fit(
    task: nn.Module,
    loader: DataLoader,
    *,
    accelerator: Accelerator,
    out: Path,
    rules: Sequence[Rule],
    lr: float,
    epochs: int,
    warmup_epochs: float = 0.0,
    min_lr_ratio: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.2,
    no_decay_norm_bias: bool = False,
    accumulation: int = 1,
    clip_norm: float | None = None,
    seed: int = 0,
    sync_routing: bool = False,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 1,
    select: str | None = None,
    save_best: SaveBest | None = None,
    save_every: int | None = None,
    keep: int = 1,
    max_skipped: int | None = None,
    after_update: AfterUpdate | None = None,
    mix: Mix | None = None,
    resume: bool = False,
    fingerprint: str = "",
) -> Progress:
    """Train `task` in place and return where the run ended; the run directory holds `log.jsonl` and `last/`.

    Under FSDP2 the task is left in shards: `save_best` gets the weights whole.

    Args:
        task: `task(batch, generator) -> (loss, {name: weighted term})`, generator on the CPU.
        loader: training DataLoader; its batch_size is the GLOBAL batch of one optimizer step, which is cut into
            processes x accumulation parts here; its sampler has `set_epoch` (an order that depends on the epoch only).
        accelerator: from `make_accelerator`; its trackers get the log too.
        out: run directory; new (or with config.yaml only) unless `resume`.
        rules: ordered (pattern, {"lr_scale", "weight_decay"}), see `optim.parameter_groups`.
        lr, epochs, warmup_epochs, min_lr_ratio: see `schedule.learning_rate`; an epoch may be a fraction in warm-up.
        betas, weight_decay, no_decay_norm_bias: AdamW.
        accumulation: micro steps of one optimizer step.
        clip_norm: greatest L2 norm of the gradient; None measures it only.
        seed: of routing draws and dropout (samples are the sampler's business).
        sync_routing: equal routing draws in all processes; default is own draws per process.
        evaluate: (task without wrappers, in eval mode; epochs completed) -> metrics; called in every process.
        evaluate_every: epochs between evaluations; the last epoch is always evaluated.
        select: metric whose highest value is best; None: the last weights are.
        save_best: (task, metrics), main process only: at each new best, or once at the end without `select`.
        save_every: optimizer steps between checkpoints, besides the one at every epoch's end.
        keep: checkpoints kept in `last/`, >= 1.
        max_skipped: undecodable clips (`valid` false) allowed per epoch; None allows any number.
        after_update: changes weights after every update, in all processes alike; its numbers are logged.
        mix: batch on the device, generator of the micro step -> batch, before the task sees it; see `mixing`.
        resume: continue `out` from its last checkpoint (from the start where a run was killed before the first one).
        fingerprint: text that a resume must repeat, such as a hash of the configuration.

    Raises:
        ValueError: settings that do not fit together, a checkpoint of another run.
        FileExistsError, FileNotFoundError: see `checkpoint.open_run`.
        NonFiniteError: before the update; `last/` stays as it was.
        TooManySkippedError: see `max_skipped`; the files are listed in `out`/unreadable.txt.
        Stopped: SIGTERM or SIGINT came; `last/` holds all that was done.
        OSError: a full disk; `last/` stays as it was.
    """
    on_main(accelerator, lambda: open_run(out, resume, allowed=("config.yaml",)))
    batches = _batches(loader, accelerator, accumulation)
    total, warmup = epochs * batches.steps, round(warmup_epochs * batches.steps)

    def rate(step: int) -> float:
        return learning_rate(step, total_steps=total, warmup_steps=warmup, base=lr, min_ratio=min_lr_ratio)

    rate(0)  # a wrong schedule fails here, before anything is loaded
    progress, training = _start(task, out, resume, Progress(batches.steps, fingerprint))
    groups = parameter_groups(task, rules, weight_decay=weight_decay, no_decay_norm_bias=no_decay_norm_bias)
    accelerator.gradient_accumulation_steps = accumulation  # `accelerator.backward` divides by it
    plain = None
    if accelerator.is_fsdp2:
        if after_update is not None:
            raise ValueError("sparsity needs whole parameters, FSDP keeps shards of them; use plain data parallelism")
        plain = copy.deepcopy(task).to(accelerator.device)
        store_scalars_as_vectors(task)
    fused = accelerator.device.type == "cuda"
    module, optimizer = accelerator.prepare(task, make_optimizer(groups, betas, fused))
    run = Run(
        accelerator=accelerator,
        module=module,
        optimizer=optimizer,
        batches=batches,
        loader=with_batches(loader, batches),
        progress=progress,
        rate=rate,
        out=out,
        seed=seed,
        sync_routing=sync_routing,
        clip_norm=clip_norm,
        max_skipped=max_skipped,
        after_update=after_update,
        keep=keep,
        stop=Stop(),
        mix=mix,
        plain=plain,
    )
    try:
        if training:
            run.load(training)
        with run.stop.listening():
            metrics = _epochs(run, epochs, evaluate, evaluate_every, select, save_best, save_every)
            if select is None and save_best is not None:
                trained = run.task()
                on_main(accelerator, lambda: save_best(trained, metrics))
    finally:
        # Give the task its own forward back, and let the next `fit` prepare it anew.
        accelerator.unwrap_model(module, keep_fp32_wrapper=False)
        task.__dict__.pop("_is_accelerate_prepared", None)
        accelerator.free_memory()
        for tracker in accelerator.trackers:
            tracker.finish()
        accelerator.trackers = []
    return progress


def _batches(loader: DataLoader, accelerator: Accelerator, accumulation: int) -> StepBatches:
    order = loader.sampler
    if not isinstance(loader.batch_size, int) or not isinstance(order, EpochOrder):
        raise ValueError("the training loader needs a batch_size (of one optimizer step) and a sampler with set_epoch")
    batches = StepBatches(
        order,
        batch_size=loader.batch_size,
        accumulation=accumulation,
        processes=accelerator.num_processes,
        rank=accelerator.process_index,
    )
    if not batches.steps:
        raise ValueError(f"{len(order)} training clips do not fill one batch of {loader.batch_size}; lower batch_size")
    return batches


def _start(task: nn.Module, out: Path, resume: bool, new: Progress) -> tuple[Progress, dict[str, Any] | None]:
    """Progress and training state to go on from; weights are loaded into the task."""
    found = load_checkpoint(out / "last", task) if resume else None
    if found is None:
        return new, None
    progress = found[0]
    if progress.fingerprint != new.fingerprint:
        raise ValueError(f"{out}: belongs to another configuration ({progress.fingerprint} != {new.fingerprint})")
    if progress.steps_per_epoch != new.steps_per_epoch:
        raise ValueError(
            f"{out}: had {progress.steps_per_epoch} steps per epoch, now {new.steps_per_epoch}; "
            "resume with the same training list and batch size"
        )
    return found


def _epochs(
    run: Run,
    epochs: int,
    evaluate: Evaluate | None,
    evaluate_every: int,
    select: str | None,
    save_best: SaveBest | None,
    save_every: int | None,
) -> dict[str, float]:
    """All remaining epochs; returns the last metrics."""
    accelerator, progress, main = run.accelerator, run.progress, run.accelerator.is_main_process
    total, metrics = epochs * run.batches.steps, {}
    if accelerator.log_with:
        accelerator.init_trackers("mote", init_kwargs={"wandb": {"dir": str(run.out)}})
    if main:
        rewind(run.out / "log.jsonl", progress.step, evaluated=not progress.unevaluated)
    unreadable = run.out / UNREADABLE
    run.unreadable = on_main(accelerator, lambda: read_unreadable(unreadable))
    with (
        JsonlWriter(run.out / "log.jsonl") if main else nullcontext() as log,
        tqdm(total=total, initial=progress.step, unit="step", disable=None if main else True) as bar,
    ):

        def write(record: dict[str, Any], numbers: dict[str, float]) -> None:
            if log is not None:
                log.write(record)
            accelerator.log(numbers, step=record["step"])

        for epoch in range(progress.epoch - progress.unevaluated, epochs):
            due = evaluate is not None and ((epoch + 1) % evaluate_every == 0 or epoch + 1 == epochs)
            run.module.train()
            for record in _steps(run, epoch, total):
                flat = {key: value for key, value in record.items() if isinstance(value, float)}
                write(record, flat | record["time"])
                bar.update()
                bar.set_postfix(epoch=epoch, loss=f"{record['loss']:.4g}", refresh=False)
                ends = progress.step % run.batches.steps == 0
                progress.unevaluated = ends and due
                if (
                    progress.unevaluated
                    or run.stopping
                    or (save_every and not ends and progress.step % save_every == 0)
                ):
                    run.save()
                if run.stopping:
                    raise run.stop.error(progress.step)
            if evaluate is not None and due:
                with run.stop.immediately(progress.step):
                    metrics = _evaluate(run, evaluate, epoch + 1, select, save_best)
                finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
                write({"step": progress.step, "epoch": epoch, "evaluation": finite}, metrics)
            progress.unevaluated = False
            run.save()
    return metrics


def _steps(run: Run, epoch: int, total: int) -> Iterator[dict[str, Any]]:
    """The optimizer steps of one epoch from where the run stands; yields one log record after each update."""
    progress, batches = run.progress, run.batches
    batches.epoch, batches.first_step = epoch, progress.step - epoch * batches.steps
    if batches.first_step == 0:
        progress.skipped = 0
    stream = iter(run.loader)
    start = time.perf_counter()
    for _ in range(batches.first_step, batches.steps):
        rate = run.rate(progress.step)
        set_learning_rate(run.optimizer, rate)
        means, skipped = backward(run, stream, epoch)
        norm = update(run, means, epoch)
        more = {}
        if run.after_update is not None and norm is not None:
            more = run.after_update(run.optimizer, progress.step / total)
        progress.step += 1
        now = time.perf_counter()
        timing = {"seconds": now - start, "clips_per_second": batches.batch_size / (now - start)}
        record = {"step": progress.step, "epoch": epoch, "lr": rate, **means, **more, "grad_norm": norm, "time": timing}
        start = now
        yield record | ({"skipped": skipped} if skipped else {})


def _evaluate(
    run: Run, evaluate: Evaluate, epochs_done: int, select: str | None, save_best: SaveBest | None
) -> dict[str, float]:
    """Metrics of the current weights; a new best is saved."""
    task, progress = run.task(), run.progress
    task.eval()
    with torch.no_grad():
        metrics = evaluate(task, epochs_done)
    if select is None:
        return metrics
    if select not in metrics:
        raise ValueError(f"select={select!r} is not among the metrics {sorted(metrics)}")
    if progress.best is None or metrics[select] > progress.best:
        progress.best, progress.best_step = metrics[select], progress.step
        if save_best is not None:
            on_main(run.accelerator, lambda: save_best(task, metrics))
    return metrics

"""One `fit` under way: its steps, its log, its checkpoints and its evaluations.

Log records: {"step", "epoch", "lr", "loss", each term, "grad_norm", "time"} per update, with "skipped" (numbers of
undecodable clips) where there are any and the numbers of `after_update`, and {"step", "epoch", "evaluation"} per
evaluation. `step` counts updates made; `loss` and terms are means over the global batch; `grad_norm` is null where fp16
skipped the update.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from tqdm import tqdm

from mote.parallel.accelerator import on_main
from mote.training.batches import StepBatches
from mote.training.checkpoint import Bound, Progress, TrainingState, save_checkpoint
from mote.training.hooks import Evaluate, Hooks
from mote.training.layout import Layout
from mote.training.log import JsonlWriter, rewind
from mote.training.optim import set_learning_rate
from mote.training.schedule import Schedule
from mote.training.signals import Stop
from mote.training.step import backward, update
from mote.training.unreadable import Unreadable

Record = Mapping[str, object]


@dataclass(frozen=True)
class Keeping:
    """Where a run lives, what it keeps there, and how it goes on."""

    out: Path  # run directory; new (or with config.yaml only) unless `resume`; it gets log.jsonl and last/
    resume: bool = False  # from the last checkpoint (from the start where a run was killed before the first one)
    fingerprint: str = ""  # what a resume must repeat, such as a hash of the configuration
    bound: Bound | None = None  # what a resume must repeat, in words: names, templates, training list, settings
    save_every: int | None = None  # optimizer steps between checkpoints, besides the one at every epoch's end
    keep: int = 1  # checkpoints kept in last/
    evaluate_every: int = 1  # epochs between evaluations; the last epoch is always evaluated
    select: str | None = None  # metric whose highest value is best; None: the last weights are
    max_skipped: int | None = None  # undecodable clips (`valid` false) allowed per epoch; None allows any number


@dataclass
class Run:
    """The state of one `fit`: prepared objects, where it stands, and what every step reads."""

    layout: Layout
    loader: DataLoader  # in the batches below
    batches: StepBatches
    progress: Progress
    rate: Callable[[int], float]
    schedule: Schedule
    keeping: Keeping
    hooks: Hooks
    stop: Stop = field(default_factory=Stop)
    stopping: bool = False  # as the processes agreed in the last step
    metrics: dict[str, float] = field(default_factory=dict)  # of the last evaluation

    @property
    def accelerator(self) -> Accelerator:
        """The processes."""
        return self.layout.accelerator

    @contextmanager
    def under_way(self, state: TrainingState | None) -> Iterator[None]:
        """Go on from `state`, with the log open and signals noted; at the end the task is freed for use elsewhere."""
        accelerator, out, main = self.accelerator, self.keeping.out, self.accelerator.is_main_process
        try:
            if state is not None:
                self._load(state)
            with self.stop.listening(), self.stop.noting():
                if accelerator.log_with:
                    accelerator.init_trackers("mote", init_kwargs={"wandb": {"dir": str(out)}})
                if main:
                    rewind(out / "log.jsonl", self.progress.step, evaluated=not self.progress.unevaluated)
                self.unreadable = Unreadable.of(accelerator, out, self.keeping.max_skipped)
                total, done = self.schedule.epochs * self.batches.steps, self.progress.step
                with (
                    JsonlWriter(out / "log.jsonl") if main else nullcontext() as self.file,
                    tqdm(total=total, initial=done, unit="step", disable=None if main else True) as self.bar,
                ):
                    yield
        finally:
            # Give the task its own forward back, and let the next `fit` prepare it anew.
            accelerator.unwrap_model(self.layout.module, keep_fp32_wrapper=False)
            self.layout.task.__dict__.pop("_is_accelerate_prepared", None)
            accelerator.free_memory()
            for tracker in accelerator.trackers:
                tracker.finish()
            accelerator.trackers = []

    def epochs_left(self) -> range:
        """Numbers of the epochs still to be trained, or only evaluated, from 0."""
        return range(self.progress.epoch - self.progress.unevaluated, self.schedule.epochs)

    def steps(self, epoch: int) -> Iterator[Record]:
        """The optimizer steps of one epoch from where the run stands; yields one log record after each update."""
        progress, batches, layout = self.progress, self.batches, self.layout
        total = self.schedule.epochs * batches.steps
        batches.epoch, batches.first_step = epoch, progress.step - epoch * batches.steps
        if batches.first_step == 0:
            progress.skipped = 0
        layout.module.train()
        stream = iter(self.loader)
        start = time.perf_counter()
        for _ in range(batches.first_step, batches.steps):
            rate = self.rate(progress.step)
            set_learning_rate(layout.optimizer, rate)
            means, skipped, self.stopping = backward(
                layout, stream, self.schedule, step=progress.step, mix=self.hooks.mix, stop=self.stop
            )
            if skipped:
                self.unreadable.note(skipped, progress, batches.batch_size)
            norm = update(layout, self.schedule.clip_norm, means, progress)
            more = {}
            if self.hooks.after_update is not None and norm is not None:
                more = self.hooks.after_update(layout.optimizer, progress.step / total)
            progress.step += 1
            now = time.perf_counter()
            timing = {"seconds": now - start, "clips_per_second": batches.batch_size / (now - start)}
            start = now
            record = {"step": progress.step, "epoch": epoch, "lr": rate, **means, **more, "grad_norm": norm}
            yield {**record, "time": timing} | ({"skipped": [index for index, _ in skipped]} if skipped else {})

    def log(self, record: Record) -> None:
        """Write the record of a step; its numbers go to the trackers and the progress bar too."""
        numbers = {key: value for key, value in record.items() if isinstance(value, float)}
        timing = record["time"]
        self._write(record, numbers | timing if isinstance(timing, dict) else numbers)
        self.bar.update()
        self.bar.set_postfix(epoch=record["epoch"], loss=f"{numbers['loss']:.4g}", refresh=False)

    def save_if_due(self) -> None:
        """A checkpoint every `save_every` steps, before an evaluation, and when the run is to stop."""
        progress = self.progress
        ends = progress.step % self.batches.steps == 0
        progress.unevaluated = ends and self._evaluates_after(progress.epoch) is not None
        every = self.keeping.save_every
        if progress.unevaluated or self.stopping or (every and not ends and progress.step % every == 0):
            self.save()

    def stop_if_asked(self) -> None:
        """Raises Stopped where this process or another one was asked to stop."""
        if self.stopping:
            raise self.stop.error(self.progress.step)

    def evaluate_if_due(self, epoch: int) -> None:
        """Metrics of the weights after `epoch`, logged; a new best is saved. A signal stops the evaluation at once.

        Raises:
            ValueError: the metrics have none of the name to select by.
        """
        evaluate = self._evaluates_after(epoch + 1)
        if evaluate is not None:
            with self.stop.immediately(self.progress.step):
                self.metrics = self._evaluate(evaluate, epoch + 1)
            finite = {name: value if math.isfinite(value) else None for name, value in self.metrics.items()}
            self._write({"step": self.progress.step, "epoch": epoch, "evaluation": finite}, self.metrics)
        self.progress.unevaluated = False

    def save(self) -> None:
        """Write `last/` from the main process; the others wait."""
        scaler, task = self.accelerator.scaler, self.layout.whole_task()
        training = TrainingState(
            optimizer=self.layout.whole_state(), scaler=scaler.state_dict() if scaler is not None else None
        )
        if self.hooks.after_update is not None:
            training["after_update"] = self.hooks.after_update.state_dict()
        last, keep = self.keeping.out / "last", self.keeping.keep
        on_main(self.accelerator, lambda: save_checkpoint(last, task, training, self.progress, keep))

    def save_last_as_best(self) -> None:
        """Hand the trained weights to `save_best` where no metric selects among them."""
        save_best = self.hooks.save_best
        if self.keeping.select is None and save_best is not None:
            task = self.layout.whole_task()
            on_main(self.accelerator, lambda: save_best(task, self.metrics))

    def _load(self, state: TrainingState) -> None:
        """Take over what `save` wrote beside the weights."""
        self.layout.load_state(state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.hooks.after_update is not None:
            self.hooks.after_update.load_state_dict(state.get("after_update", {}))

    def _write(self, record: Record, numbers: dict[str, float]) -> None:
        if self.file is not None:
            self.file.write(record)
        self.accelerator.log(numbers, step=self.progress.step)

    def _evaluates_after(self, epochs: int) -> Evaluate | None:
        """What evaluates after so many epochs, if anything does."""
        due = epochs % self.keeping.evaluate_every == 0 or epochs == self.schedule.epochs
        return self.hooks.evaluate if due else None

    def _evaluate(self, evaluate: Evaluate, epochs: int) -> dict[str, float]:
        task, progress = self.layout.whole_task(), self.progress
        select, save_best = self.keeping.select, self.hooks.save_best
        task.eval()
        with torch.no_grad():
            metrics = evaluate(task, epochs)
        if select is None:
            return metrics
        if select not in metrics:
            raise ValueError(f"select={select!r} is not among the metrics {sorted(metrics)}")
        if progress.best is None or metrics[select] > progress.best:
            progress.best, progress.best_step = metrics[select], progress.step
            if save_best is not None:
                on_main(self.accelerator, lambda: save_best(task, metrics))
        return metrics

"""The training loop: any task, one process or many, CPU or GPU, with exact resume.

Samples are a function of (epoch, step), the learning rate of the step, everything random of (seed, step, micro step,
process): so step, weights and optimizer state are all that a resume needs to continue bit for bit.
"""

from collections.abc import Sequence

from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from mote.parallel.accelerator import on_main
from mote.training.batches import step_batches, with_batches
from mote.training.checkpoint import Progress, open_run, resumed
from mote.training.hooks import Hooks
from mote.training.layout import layout_of
from mote.training.optim import Rule, make_optimizer, parameter_groups
from mote.training.run import Keeping, Run
from mote.training.schedule import Schedule
from mote.training.signals import Stop


def fit(
    task: nn.Module,
    loader: DataLoader,
    rules: Sequence[Rule],
    schedule: Schedule,
    keeping: Keeping,
    hooks: Hooks,
    accelerator: Accelerator,
    stop: Stop | None = None,
) -> Progress:
    """Train `task` in place; returns where the run ended. The run directory holds `log.jsonl` and `last/`.

    Under FSDP2 the task is left in shards: `save_best` gets the weights whole.

    Args:
        task: `task(batch, generator) -> (loss, {name: weighted term})`, generator on the CPU.
        loader: training DataLoader; its batch_size is the GLOBAL batch of one optimizer step, which is cut into
            processes x accumulation parts here; its sampler has `set_epoch` (an order that depends on the epoch only).
        rules: ordered (pattern, {"lr_scale", "weight_decay"}), see `optim.parameter_groups`.
        schedule: how weights are learned, and for how long.
        keeping: where the run lives, what it keeps, and how it goes on.
        hooks: what evaluates, saves the best weights, mixes samples or changes weights.
        accelerator: from `make_accelerator`; its trackers get the log too.
        stop: whether the process was asked to stop, where somebody listens already.

    Raises:
        ValueError: settings that do not fit together, a checkpoint of another run.
        FileExistsError, FileNotFoundError: see `checkpoint.open_run`.
        NonFiniteError: before the update; `last/` stays as it was.
        TooManySkippedError: see `Keeping`; the files are listed in unreadable.txt.
        Stopped: SIGTERM or SIGINT came; `last/` holds all that was done.
        OSError: a full disk; `last/` stays as it was.
    """
    on_main(accelerator, lambda: open_run(keeping.out, keeping.resume, allowed=("config.yaml",)))
    batches = step_batches(loader, accelerator, schedule.accumulation)
    rate = schedule.rate(batches.steps)  # a schedule that does not fit fails here, before anything is loaded
    progress, state = Progress(batches.steps, keeping.fingerprint, bound=keeping.bound), None
    if keeping.resume:
        progress, state = resumed(keeping.out, task, progress)
    decay = {"weight_decay": schedule.weight_decay, "no_decay_norm_bias": schedule.no_decay_norm_bias}
    optimizer = make_optimizer(
        parameter_groups(task, rules, **decay),
        schedule.method,
        betas=schedule.betas,
        momentum=schedule.momentum,
        fused=accelerator.device.type == "cuda",
    )
    accelerator.gradient_accumulation_steps = schedule.accumulation  # `accelerator.backward` divides by it
    layout = layout_of(accelerator, task, optimizer, whole=hooks.after_update is not None)
    run = Run(layout, with_batches(loader, batches), batches, progress, rate, schedule, keeping, hooks, stop or Stop())
    with run.under_way(state):
        for epoch in run.epochs_left():
            for record in run.steps(epoch):
                run.log(record)
                run.save_if_due()
                run.stop_if_asked()
            run.evaluate_if_due(epoch)
            run.save()
        run.save_last_as_best()
    return progress

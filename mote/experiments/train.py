"""What `mote train` does: build, run, and write down what came out and from what."""

import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import nn
from torch.utils.data import DataLoader

from mote.config import Config, dump
from mote.evaluation.videos import evaluate
from mote.experiments import parts
from mote.experiments.video import Experiment, assemble
from mote.files.writing import write_atomic, writing
from mote.parallel.accelerator import Accelerator, make_accelerator, on_main, training_precision
from mote.reporting.headline import headline
from mote.reporting.page import text_table
from mote.reporting.parameters import parameter_table
from mote.tasks.video import VideoTask
from mote.training.checkpoint import open_run
from mote.training.loop import fit
from mote.training.optim import Rule, parameter_groups
from mote.training.signals import Stopped
from mote.training.step import UNREADABLE, TooManySkippedError, is_missing

LOGGED = ("top1", "top5", "mean_class_recall", "reconstruction", "frechet")  # of a summary, where it has them


def train(config: Config, resume: bool = False) -> Path:
    """Train, evaluate, and leave a run directory: config.yaml, log.jsonl, last/, best/, metrics.json.

    Returns the run directory. `resume` starts a run whose directory does not exist yet, so that one command can be
    given again and again to a machine that may be taken away.

    Raises:
        ValueError, OSError: settings, files or lists that do not fit; nothing is written then.
        ValueError: more undecodable training videos than allowed; they are listed in unreadable.txt.
        NonFiniteError, DecodeError, OSError: see the loop; the last checkpoint stays.
        Stopped: SIGTERM or SIGINT came and all is saved; its message is for the user, empty but in the main process.
    """
    precision = training_precision(config.optim.precision, cpu=config.run.cpu)
    if precision != config.optim.precision:  # the run directory says what "auto" was
        config = config.model_copy(update={"optim": config.optim.model_copy(update={"precision": precision})})
    if config.task in ("image", "expression"):
        from mote.experiments.images import train_images

        return train_images(config, resume)
    if config.task == "autoencoder":
        from mote.experiments.autoencoder import train_autoencoder

        return train_autoencoder(config, resume)
    out = check_run(config)
    accelerator = make_accelerator(config.optim.precision, cpu=config.run.cpu, trackers=config.run.trackers, out=out)
    if accelerator.is_fsdp2 and config.tuning.text != "frozen":
        raise ValueError("tuning.text needs the text tower whole in every process; launch without FSDP")
    experiment = assemble(config, accelerator.device)
    groups = parameter_groups(experiment.task, experiment.rules(), weight_decay=config.optim.weight_decay)
    if accelerator.is_main_process:
        print(text_table(parameter_table(experiment.task, groups, config.optim.lr)))

    def holding(task: nn.Module) -> Experiment:
        """The experiment with the weights of `task`, which under FSDP2 is a whole copy of the one in training."""
        return replace(experiment, task=cast(VideoTask, task), model=cast(VideoTask, task).model)

    def evaluate_now(task: nn.Module, epoch: int) -> dict[str, Any]:
        # Where the tower learns, every epoch would leave features that no other can use.
        cache = None if config.vision_learns else config.evaluation.cache
        settings = config.evaluation.model_copy(update={"cache": cache})
        now = config.model_copy(update={"evaluation": settings})
        last = epoch == config.optim.epochs
        return evaluate(holding(task).classifier(), now, accelerator, out / "evaluations", page=last)

    fit_run(
        config,
        experiment.task,
        experiment.loader,
        accelerator,
        rules=experiment.rules(),
        num_classes=len(experiment.classes),
        evaluate=evaluate_now,
        save=lambda task, selected: holding(task).save(out / "best", selected=selected),
        max_skipped=int(config.data.max_bad_fraction * len(experiment.records) + 1e-9),
        resume=resume,
    )
    return out


def check_run(config: Config) -> Path:
    """The run directory, which must be set, as must a training list and a list to select by; raises ValueError."""
    if config.run.out is None or config.data.train is None:
        missing = "run.out" if config.run.out is None else "data.train"
        raise ValueError(f"{missing} is not set; give it as an override, for example {missing}=...")
    if config.run.select != "last" and config.evaluation.manifest is None:
        raise ValueError(
            f"run.select={config.run.select} needs evaluation.manifest, a validation list; or leave run.select=last"
        )
    return Path(config.run.out)


def fit_run(
    config: Config,
    task: nn.Module,
    loader: Callable[[], DataLoader],
    accelerator: Accelerator,
    *,
    rules: Sequence[Rule],
    num_classes: int,
    evaluate: Callable[[nn.Module, int], dict[str, Any]],
    save: Callable[[nn.Module, str], None],
    max_skipped: int,
    resume: bool,
    headline: Callable[[dict[str, Any]], str] = headline,
) -> None:
    """Open the run directory, run the loop with the settings of `config`, say what came out: the same for every task.

    Args:
        config: all settings.
        task: what is trained.
        loader: makes the training loader, once the directory is open.
        accelerator: the processes.
        rules: learning rates, see `fit`.
        num_classes: K, of mixed targets.
        evaluate: (task with the weights as they are now, epoch) -> summary, written into `evaluations/`.
        save: (task, how it was selected): write `best/`.
        max_skipped: undecodable samples allowed in an epoch.
        resume: go on where the run stands.
        headline: one line of a summary.

    Raises:
        ValueError, Stopped: see `train`.
    """
    out = Path(config.run.out or "")
    resume = on_main(accelerator, lambda: _prepare(out, config, resume))
    try:
        _fit(config, task, loader(), accelerator, out, rules, num_classes, evaluate, save, max_skipped, resume)
    except TooManySkippedError as error:
        raise ValueError(f"{error}; {_first_bad(out, error.skipped)}") from error
    except Stopped as stop:
        line = f"{out}: {stop}; go on with: mote train {shlex.quote(str(out))} --resume"
        raise Stopped(line if accelerator.is_main_process else "") from None
    if accelerator.is_main_process:
        print(f"{out}: trained {config.optim.epochs} epochs; model in {out / 'best'}")
        if (out / "metrics.json").is_file():
            print(headline(json.loads((out / "metrics.json").read_text())))


def _fit(
    config: Config,
    task: nn.Module,
    loader: DataLoader,
    accelerator: Accelerator,
    out: Path,
    rules: Sequence[Rule],
    num_classes: int,
    evaluate: Callable[[nn.Module, int], dict[str, Any]],
    save: Callable[[nn.Module, str], None],
    max_skipped: int,
    resume: bool,
) -> None:
    """The loop, with what it calls to evaluate and to keep the best model."""
    select = None if config.run.select == "last" else config.run.select

    def evaluate_now(task: nn.Module, epoch: int) -> dict[str, float]:
        summary = evaluate(task, epoch)
        return {name: summary[name] for name in LOGGED if name in summary}

    def save_best(task: nn.Module, metrics: dict[str, float]) -> None:
        selected = f"highest {select} on {config.evaluation.manifest}" if select else "last epoch"
        results = out / "evaluations" / f"{config.evaluation.name}.json"
        with writing(out / "best"):
            save(task, selected)
            # No metrics and no file: killed after the last evaluation.
            if metrics or (results.is_file() and not (out / "metrics.json").is_file()):
                write_atomic(out / "metrics.json", results.read_text())

    fit(
        task,
        loader,
        after_update=parts.after_update(config, task),
        accelerator=accelerator,
        out=out,
        rules=rules,
        lr=config.optim.lr,
        epochs=config.optim.epochs,
        warmup_epochs=config.optim.warmup_epochs,
        betas=config.optim.betas,
        weight_decay=config.optim.weight_decay,
        no_decay_norm_bias=config.optim.no_decay_norm_bias,
        accumulation=config.optim.accumulation,
        clip_norm=config.optim.clip_norm,
        seed=config.seed,
        sync_routing=config.optim.sync_routing,
        evaluate=evaluate_now if config.evaluation.manifest is not None else None,
        evaluate_every=config.evaluation.every,
        select=select,
        save_best=save_best,
        save_every=config.run.save_every,
        keep=config.run.keep,
        max_skipped=max_skipped,
        mix=parts.mixer(config.mixing, num_classes),
        resume=resume,
        fingerprint=_fingerprint(config),
    )


def _prepare(out: Path, config: Config, resume: bool) -> bool:
    """Make the run directory; returns whether there is a run to resume."""
    if resume and not (out / "config.yaml").is_file():
        print(f"{out}: nothing to resume yet, so the run starts")
        resume = False
    open_run(out, resume, allowed=("config.yaml",))
    if not resume:
        write_atomic(out / "config.yaml", dump(config))
    return resume


def _first_bad(out: Path, skipped: Sequence[tuple[int, str]]) -> str:
    """Where the undecodable videos are listed, the first of them, and what to do."""
    path, _, cause = skipped[0][1].rpartition("\t")
    listed = f"{out / UNREADABLE} lists those met so far"
    if all(is_missing(cause) for _, cause in skipped):
        return f"{path} and others do not exist: is the disk with the videos still there? ({listed})"
    return f"{listed}, such as {path}: {cause}; take them off the list (mote data verify finds all)"


def _fingerprint(config: Config) -> str:
    """What must stay the same for a resumed run to continue the same training."""
    free = {"workers", "decode_timeout", "max_bad_fraction"}
    fixed = config.model_dump(mode="json", exclude={"run": True, "evaluation": True, "data": free})
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]

"""What `mote train` does: build, run, and write down what came out and from what."""

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import nn
from torch.utils.data import DataLoader

from mote.config import Config, dump
from mote.datasets.lists.reading import templates
from mote.experiments import parts
from mote.experiments.assemble import Experiment, assemble
from mote.experiments.early import allowed, check_run
from mote.experiments.fingerprint import bound_settings, fingerprint_of_run
from mote.files.hashes import sha256_lines
from mote.files.locking import locked
from mote.files.run_directory import BEST, CONFIG, LAST
from mote.files.temporary import lock_name, remove_leftovers
from mote.files.writing import complete, replacing_together, write_atomic, writing
from mote.parallel.accelerator import Accelerator, make_accelerator, on_main
from mote.parallel.peers import FAILED, LEFT, PeerDiedError, Peers
from mote.parallel.precision import training_precision
from mote.reporting.headline import headline
from mote.reporting.page import text_table
from mote.reporting.parameters import parameter_table
from mote.training.batches import micro_batch_size, step_batches
from mote.training.checkpoint import Bound, check_bound, open_run
from mote.training.directory import check_directory
from mote.training.hooks import Hooks
from mote.training.loop import fit
from mote.training.optim import parameter_groups
from mote.training.run import Keeping
from mote.training.schedule import Schedule
from mote.training.signals import Stop, Stopped
from mote.training.unreadable import UNREADABLE, TooManySkippedError, is_missing

LOG = "log.jsonl"  # in a run directory: a line for each update
METRICS = "metrics.json"  # in a run directory: the result of the weights in best/; its table is metrics.csv
EVALUATIONS = "evaluations"
LOGGED = ("top1", "top5", "mean_class_recall", "reconstruction", "frechet")  # of a summary, where it has them


def train(config: Config, resume: bool = False, stop: Stop | None = None) -> Path:
    """Train, evaluate, and leave a run directory: config.yaml, log.jsonl, last/, best/, metrics.json and .csv.

    Returns the run directory. `resume` starts a run whose directory does not exist yet, so that one command can be
    given again and again to a machine that may be taken away. `stop`: what listens to signals already.

    Raises:
        ValueError, OSError: settings, files or lists that do not fit; nothing is written then.
        InUseError: another process has the run directory, or its evaluation, under way.
        ValueError: more undecodable training videos than allowed; they are listed in unreadable.txt.
        NonFiniteError, DecodeError, OSError: see the loop; the last checkpoint stays.
        PeerDiedError: another process of the training died; the last checkpoint stays.
        Stopped: SIGTERM or SIGINT came and all is saved; its message is for the user, empty but in the main process.
    """
    stop = stop or Stop()
    with stop.listening():
        config, out = _with_precision(config), check_run(config)
        accelerator = make_accelerator(
            config.optim.precision, cpu=config.run.cpu, trackers=config.run.trackers, out=out
        )
        peers = Peers.of(accelerator)
        again = f"go on with: mote train {shlex.quote(str(out))} --resume"

        def told(stopped: Stopped) -> Stopped:
            """With what the user is to do, for the main process to say."""
            begun = (out / CONFIG).is_file()
            line = f"{out}: {stopped}; {again}" if begun else str(stopped)
            return Stopped(line if accelerator.is_main_process else "")

        stop.last_words = lambda stopped: print(told(stopped), flush=True)
        try:
            with stop.together(peers), stop.immediately(None):
                return _train(config, accelerator, out, resume, stop)
        except (Stopped, Exception) as error:
            with stop.noting():
                reason = None if peers is None else peers.reason(error, stop.waited)
                stopped = stop.error(stop.step) if reason == "left" else error
                if peers is not None:
                    peers.leave(LEFT if isinstance(stopped, Stopped) else FAILED)
            if isinstance(reason, PeerDiedError):
                raise PeerDiedError(f"{reason}; the last checkpoint is whole, {again}", reason.is_told) from None
            if isinstance(stopped, Stopped):
                raise told(stopped) from None
            raise


def _train(config: Config, accelerator: Accelerator, out: Path, resume: bool, stop: Stop) -> Path:
    optim = config.optim
    micro_batch_size(optim.batch_size, accelerator.num_processes, optim.accumulation)  # raises where it is no number
    with ExitStack() as held:
        on_main(accelerator, lambda: _claim(held, out, config, resume))  # the other processes share what it holds
        fingerprint = on_main(accelerator, lambda: fingerprint_of_run(out, config, resume))
        experiment = assemble(config, accelerator)
        plan = _plan(config, experiment, accelerator, out)
        if accelerator.is_main_process:
            groups = parameter_groups(experiment.task, experiment.rules())
            print(text_table(parameter_table(experiment.task, groups, optim.lr)))
        going_on = on_main(accelerator, lambda: _prepare(out, experiment, resume, fingerprint))
        try:
            keeping = _keeping(config, experiment, out, going_on, fingerprint)
            fit(experiment.task, plan.loader, experiment.rules(), plan.schedule, keeping, plan.hooks, accelerator, stop)
        except TooManySkippedError as error:
            raise ValueError(f"{error}; {_first_bad(out, error.skipped)}") from error
        except Exception:
            if not going_on and accelerator.is_main_process:
                _clear(out)
            raise
    if accelerator.is_main_process:
        print(f"{out}: trained {optim.epochs} epochs; model in {out / BEST}")
        if (out / METRICS).is_file():
            print(headline(json.loads((out / METRICS).read_text())))
    return out


def _with_precision(config: Config) -> Config:
    """The configuration with what `optim.precision=auto` is here, which the run directory then says."""
    precision = training_precision(config.optim.precision, cpu=config.run.cpu)
    return config.model_copy(update={"optim": config.optim.model_copy(update={"precision": precision})})


class _Plan(NamedTuple):
    """What the loop gets, built and checked before anything is written."""

    loader: DataLoader
    schedule: Schedule
    hooks: Hooks


def _plan(config: Config, experiment: Experiment, accelerator: Accelerator, out: Path) -> _Plan:
    """The batches, the schedule, and what the loop calls to evaluate and to keep the best model.

    Raises:
        ValueError: too few samples for a step, a warm-up or groups of weights that do not fit.
    """

    def evaluate_now(task: nn.Module, epoch: int) -> dict[str, float]:
        last = epoch == config.optim.epochs
        summary = experiment.evaluate(task, accelerator, out / EVALUATIONS, page=last)
        return {name: summary[name] for name in LOGGED if name in summary}

    hooks = Hooks(
        evaluate=evaluate_now if config.evaluation.manifest is not None else None,
        save_best=partial(_save_best, config, experiment, out),
        mix=parts.mixer(config.mixing, len(experiment.classes)),
        after_update=parts.after_update(config, experiment.task),
    )
    settings = config.optim.model_dump(exclude={"batch_size", "precision", "backbone_lr_scale"})
    schedule = Schedule(**settings, seed=config.seed)
    loader = experiment.loader()
    schedule.rate(step_batches(loader, accelerator, schedule.accumulation).steps)
    return _Plan(loader, schedule, hooks)


def _keeping(config: Config, experiment: Experiment, out: Path, resume: bool, fingerprint: str) -> Keeping:
    return Keeping(
        out=out,
        resume=resume,
        fingerprint=fingerprint,
        bound=_bound(config, experiment),
        save_every=config.run.save_every,
        keep=config.run.keep,
        evaluate_every=config.evaluation.every,
        select=None if config.run.select == "last" else config.run.select,
        max_skipped=experiment.max_skipped,
    )


def _bound(config: Config, experiment: Experiment) -> Bound:
    """What a resumed run must repeat, so that an error can name what differs."""
    lines = [f"{record.path} {record.label}" for record in experiment.records]
    return {
        "settings": bound_settings(config),
        "classes": list(experiment.classes),
        "templates": templates(config.data.templates),
        "records": (sha256_lines(lines), len(lines)),
    }


def _claim(held: ExitStack, out: Path, config: Config, resume: bool) -> None:
    """Check the run directory, and hold it and its evaluation, so that no other process writes there."""
    check_directory(out, resume and (out / CONFIG).is_file(), allowed(out, config))
    with writing(out):
        held.enter_context(locked(out / lock_name(), out))
        if config.evaluation.manifest is not None:
            folder, name = out / EVALUATIONS, config.evaluation.name
            held.enter_context(locked(folder / lock_name(name), folder / f"{name}.json"))


def _prepare(out: Path, experiment: Experiment, resume: bool, fingerprint: str) -> bool:
    """Make the run directory; returns whether there is a run to resume. Raises ValueError where it is another one."""
    config = experiment.config
    if resume and not (out / CONFIG).is_file():
        print(f"{out}: nothing to resume yet, so the run starts")
        resume = False
    open_run(out, resume, allowed(out, config))
    if resume:
        check_bound(out, fingerprint, _bound(config, experiment))
    for folder in (out, out / BEST, out / LAST, out / EVALUATIONS):
        remove_leftovers(folder, of_others=True)
        complete(folder)
    if not resume:
        write_atomic(out / CONFIG, dump(config))
    return resume


def _save_best(
    config: Config, experiment: Experiment, out: Path, task: nn.Module, metrics: Mapping[str, float]
) -> None:
    """Put the weights of `task` in best/, and the result that was measured on them beside it: both or neither."""
    select = config.run.select
    selected = "last epoch" if select == "last" else f"highest {select} on {config.evaluation.manifest}"
    results = out / EVALUATIONS / f"{config.evaluation.name}.json"
    with writing(out / BEST), replacing_together(out) as stage:
        experiment.save(task, stage / BEST, selected)
        # No metrics and no file: killed after the last evaluation.
        if metrics or (results.is_file() and not (out / METRICS).is_file()):
            _keep_metrics(results, stage / METRICS)


def _keep_metrics(result: Path, metrics: Path) -> None:
    """Copy a result and, where it has one, its table of predictions."""
    for suffix in (".json", ".csv"):
        if (source := result.with_name(result.stem + suffix)).is_file():
            shutil.copyfile(source, metrics.with_suffix(suffix))


def _clear(out: Path) -> None:
    """Leave nothing of a run that failed before its first step, except what its error speaks of."""
    log = out / LOG
    if (log.is_file() and log.stat().st_size) or (out / UNREADABLE).exists():
        return
    for path in (log, out / CONFIG):
        path.unlink(missing_ok=True)


def _first_bad(out: Path, skipped: Sequence[tuple[int, str]]) -> str:
    """Where the undecodable videos are listed, the first of them, and what to do."""
    path, _, cause = skipped[0][1].rpartition("\t")
    listed = f"{out / UNREADABLE} lists those met so far"
    if all(is_missing(cause) for _, cause in skipped):
        return f"{path} and others do not exist: is the disk with the videos still there? ({listed})"
    return f"{listed}, such as {path}: {cause}; take them off the list (mote data verify finds all)"

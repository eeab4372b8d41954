"""What `mote train` does: build, run, and write down what came out and from what."""

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from mote import build
from mote.classifier import Classifier
from mote.config import Config, dump
from mote.evaluation.results import write_atomic
from mote.models.checkpoints import save_model
from mote.models.clip import encode_classes
from mote.scoring import evaluate, headline
from mote.training.checkpoint import open_run, writing
from mote.training.distributed import Accelerator, make_accelerator, on_main
from mote.training.loop import Evaluate, SaveBest, fit
from mote.training.optim import Rule
from mote.training.signals import Stopped
from mote.training.step import UNREADABLE, TooManySkippedError


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
    if config.task == "image":
        from mote.image_runs import train_images

        return train_images(config, resume)
    out, listed = check_run(config)
    accelerator = make_accelerator(config.optim.precision, cpu=config.run.cpu, trackers=config.run.trackers, out=out)
    classes = build.class_names(config.data.classes, listed)
    data = config.data
    records = build.records(listed, data.root, classes, data.classes, data.split)
    clip = (config.model.clip, config.model.pretrained, config.seed)
    towers = build.towers(*clip)
    templates = build.templates(config.data.templates)
    text = encode_classes(towers, classes, templates, device=accelerator.device)
    torch.manual_seed(config.seed)  # the same initial weights in every process
    model = build.model(config.model, towers)
    task = build.task(config, model, text)
    size = config.data.size or towers.image_size
    meta = {
        "clip": config.model.clip,
        "pretrained": config.model.pretrained,
        "classes": classes,
        "templates": templates,
        "frames": config.data.frames,
        "size": size,
        "sampling": config.data.sampling,
        "stride": config.data.stride,
        "difference": config.data.difference,
        "seed": config.seed,
    }

    def classifier() -> Classifier:
        """The weights as they are now, folded, with everything a new vocabulary needs."""
        return Classifier(
            model.fold(),
            lambda: build.towers(*clip),
            classes=classes,
            tuned_text=text,
            templates=templates,
            frames=config.data.frames,
            size=size,
            difference=config.data.difference,
            device=accelerator.device,
        )

    def evaluate_now(_task: nn.Module, _epoch: int) -> dict[str, float]:
        frozen = config.optim.clip_lr_scale == 0  # else every epoch would leave features that no other can use
        cache = config.evaluation.cache if frozen else None
        settings = config.evaluation.model_copy(update={"cache": cache})
        now = config.model_copy(update={"evaluation": settings})
        summary = evaluate(classifier(), now, accelerator, out / "evaluations")
        return {name: summary[name] for name in ("top1", "top5", "mean_class_recall")}

    def save_best(_task: nn.Module, metrics: dict[str, float]) -> None:
        keep_best(
            out,
            config,
            metrics,
            lambda how: save_model(out / "best", model, {**meta, "selected": how}, {"tuned_text": text}),
        )

    resume = on_main(accelerator, lambda: prepare_run(out, config, resume))
    dataset = build.training_dataset(config.data, records, size, config.seed)
    if config.data.cache_features:
        single = config.evaluation.model_copy(update={"clips": 1, "crops": 1})
        views = build.evaluation_dataset(
            records, single, data, frames=data.frames, size=size, difference=data.difference
        )
        loader = build.evaluation_loader(views, config.evaluation.batch_size, data.workers)
        dataset = build.cache_features(model, loader, [record.label for record in records], accelerator.device)
    fit_run(
        task,
        dataset,
        config,
        accelerator,
        rules=build.learning_rules(config),
        num_classes=len(classes),
        evaluate=evaluate_now if config.evaluation.manifest is not None else None,
        save_best=save_best,
        max_skipped=int(config.data.max_bad_fraction * len(records) + 1e-9),
        resume=resume,
    )
    return out


def fit_run(
    task: nn.Module,
    dataset: build.SizedDataset,
    config: Config,
    accelerator: Accelerator,
    *,
    rules: Sequence[Rule],
    num_classes: int,
    evaluate: Evaluate | None,
    save_best: SaveBest,
    max_skipped: int,
    resume: bool,
) -> None:
    """The loop with the settings of the configuration, and what it says at its end; arguments as those of `fit`.

    Raises:
        ValueError, Stopped: see `train`.
    """
    optim, out = config.optim, Path(config.run.out or "")
    try:
        fit(
            task,
            build.training_loader(config, dataset),
            accelerator=accelerator,
            out=out,
            rules=rules,
            lr=optim.lr,
            epochs=optim.epochs,
            warmup_epochs=optim.warmup_epochs,
            betas=optim.betas,
            weight_decay=optim.weight_decay,
            no_decay_norm_bias=optim.no_decay_norm_bias,
            accumulation=optim.accumulation,
            clip_norm=optim.clip_norm,
            seed=config.seed,
            sync_routing=optim.sync_routing,
            evaluate=evaluate,
            evaluate_every=config.evaluation.every,
            select=None if config.run.select == "last" else config.run.select,
            save_best=save_best,
            save_every=config.run.save_every,
            after_update=build.group_lasso(config.sparsity, task),
            keep=config.run.keep,
            max_skipped=max_skipped,
            mix=build.mixer(config.mixing, num_classes),
            resume=resume,
            fingerprint=_fingerprint(config),
        )
    except TooManySkippedError as error:
        raise ValueError(f"{error} by data.max_bad_fraction; {_first_bad(out, error.skipped)}") from error
    except Stopped as stop:
        line = f"{out}: {stop}; go on with: mote train {shlex.quote(str(out))} --resume"
        raise Stopped(line if accelerator.is_main_process else "") from None
    if accelerator.is_main_process:
        print(f"{out}: trained {optim.epochs} epochs; model in {out / 'best'}")
        if (out / "metrics.json").is_file():
            print(headline(json.loads((out / "metrics.json").read_text())))


def check_run(config: Config) -> tuple[Path, str]:
    """The run directory and the training list, which must be set, as must a list to select by; raises ValueError."""
    if config.run.out is None or config.data.train is None:
        missing = "run.out" if config.run.out is None else "data.train"
        raise ValueError(f"{missing} is not set; give it as an override, for example {missing}=...")
    select = config.run.select
    if select != "last" and config.evaluation.manifest is None:
        raise ValueError(f"run.select={select} needs evaluation.manifest, a validation list; or leave run.select=last")
    return Path(config.run.out), config.data.train


def keep_best(out: Path, config: Config, metrics: Mapping[str, float], save: Callable[[str], None]) -> None:
    """`save(how it was selected)` the model, and the result that belongs to it as `out`/metrics.json."""
    select = config.run.select
    selected = "last epoch" if select == "last" else f"highest {select} on {config.evaluation.manifest}"
    results = out / "evaluations" / f"{config.evaluation.name}.json"
    with writing(out / "best"):
        save(selected)
        # No metrics and no file: killed after the last evaluation.
        if metrics or (results.is_file() and not (out / "metrics.json").is_file()):
            write_atomic(out / "metrics.json", results.read_text())


def prepare_run(out: Path, config: Config, resume: bool) -> bool:
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
    if all(text.endswith("\tthere is no such file") for _, text in skipped):
        return f"{path} and others do not exist: is the disk with the videos still there? ({listed})"
    return f"{listed}, such as {path}: {cause}; take them off the list (mote data verify finds all)"


def _fingerprint(config: Config) -> str:
    """What must stay the same for a resumed run to continue the same training."""
    free = {"workers", "decode_timeout", "max_bad_fraction"}
    fixed = config.model_dump(mode="json", exclude={"run": True, "evaluation": True, "data": free})
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]

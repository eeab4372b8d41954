"""What `mote train` does: build, run, and write down what came out and from what."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

from mote import build
from mote.classifier import Classifier
from mote.config import Config, dump
from mote.evaluation.results import write_atomic
from mote.models.checkpoints import save_model
from mote.models.clip import encode_classes
from mote.scoring import evaluate, headline
from mote.training.checkpoint import open_run
from mote.training.distributed import Accelerator, make_accelerator, on_main
from mote.training.loop import Evaluate, SaveBest, fit
from mote.training.optim import Rule
from mote.training.step import TooManySkippedError


def train(config: Config, resume: bool = False) -> Path:
    """Train, evaluate, and leave a run directory: config.yaml, log.jsonl, last/, best/, metrics.json.

    Returns the run directory.

    Raises:
        ValueError, OSError: settings, files or lists that do not fit; nothing is written then.
        NonFiniteError, DecodeError: see the loop; the last checkpoint stays.
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
        summary = evaluate(classifier(), config, accelerator, out / "evaluations")
        return {name: summary[name] for name in ("top1", "top5", "mean_class_recall")}

    def save_best(_task: nn.Module, metrics: dict[str, float]) -> None:
        selected = f"highest top1 on {config.evaluation.manifest}" if config.run.select == "top1" else "last epoch"
        save_model(out / "best", model, {**meta, "selected": selected}, {"tuned_text": text})
        if metrics:
            write_atomic(out / "metrics.json", (out / "evaluations" / f"{config.evaluation.name}.json").read_text())

    on_main(accelerator, lambda: prepare_run(out, config, resume))
    dataset = build.training_dataset(config.data, records, size, config.seed)
    if config.data.cache_features:
        single = config.evaluation.model_copy(update={"clips": 1, "crops": 1})
        views = build.evaluation_dataset(
            records, single, data, frames=data.frames, size=size, difference=data.difference
        )
        loader = build.evaluation_loader(views, config.evaluation.batch_size, data.workers)
        dataset = build.cache_features(model, loader, [record.label for record in records], accelerator.device)
    try:
        fit_run(
            task,
            dataset,
            config,
            accelerator,
            rules=build.learning_rules(config),
            num_classes=len(classes),
            evaluate=evaluate_now if config.evaluation.manifest is not None else None,
            save_best=save_best,
            max_skipped=int(config.data.max_bad_fraction * len(records)),
            resume=resume,
        )
    except TooManySkippedError as error:
        names = ", ".join(str(records[index].path) for index in error.indices)
        raise ValueError(f"{error} by data.max_bad_fraction; the last: {names}") from error
    announce(out, config, accelerator)
    return out


def fit_run(
    task: nn.Module,
    dataset: Dataset,
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
    """The loop with the settings of the configuration; the arguments are what depends on the task, see `fit`."""
    optim = config.optim
    fit(
        task,
        build.training_loader(config, dataset),
        accelerator=accelerator,
        out=Path(config.run.out or ""),
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
        select="top1" if config.run.select == "top1" else None,
        save_best=save_best,
        save_every=config.run.save_every,
        max_skipped=max_skipped,
        mix=build.mixer(config.mixing, num_classes),
        resume=resume,
        fingerprint=_fingerprint(config),
    )


def announce(out: Path, config: Config, accelerator: Accelerator) -> None:
    """Say in the main process where the model of a finished run is and how good it is."""
    if not accelerator.is_main_process:
        return
    print(f"{out}: trained {config.optim.epochs} epochs; model in {out / 'best'}")
    if (out / "metrics.json").is_file():
        print(headline(json.loads((out / "metrics.json").read_text())))


def check_run(config: Config) -> tuple[Path, str]:
    """The run directory and the training list, which must be set, as must a list to select by; raises ValueError."""
    if config.run.out is None or config.data.train is None:
        missing = "run.out" if config.run.out is None else "data.train"
        raise ValueError(f"{missing} is not set; give it as an override, for example {missing}=...")
    if config.run.select == "top1" and config.evaluation.manifest is None:
        raise ValueError("run.select=top1 needs evaluation.manifest, a validation list; or leave run.select=last")
    return Path(config.run.out), config.data.train


def prepare_run(out: Path, config: Config, resume: bool) -> None:
    """Open the run directory and write its config.yaml."""
    open_run(out, resume, allowed=("config.yaml",))
    if not resume:
        write_atomic(out / "config.yaml", dump(config))


def _fingerprint(config: Config) -> str:
    """What must stay the same for a resumed run to continue the same training."""
    fixed = config.model_dump(mode="json", exclude={"run": True, "evaluation": True, "data": {"workers"}})
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]

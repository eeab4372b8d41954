"""What `mote train` does: build, run, and write down what came out and from what."""

import hashlib
import json
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
from mote.training.checkpoint import open_run
from mote.training.distributed import make_accelerator, on_main
from mote.training.loop import fit
from mote.training.step import TooManySkippedError


def train(config: Config, resume: bool = False) -> Path:
    """Train, evaluate, and leave a run directory: config.yaml, log.jsonl, last/, best/, metrics.json.

    Returns the run directory.

    Raises:
        ValueError, OSError: settings, files or lists that do not fit; nothing is written then.
        NonFiniteError, DecodeError: see the loop; the last checkpoint stays.
    """
    if config.run.out is None or config.data.train is None:
        missing = "run.out" if config.run.out is None else "data.train"
        raise ValueError(f"{missing} is not set; give it as an override, for example {missing}=...")
    if config.run.select == "top1" and config.evaluation.manifest is None:
        raise ValueError("run.select=top1 needs evaluation.manifest, a validation list; or leave run.select=last")
    out = Path(config.run.out)
    accelerator = make_accelerator(config.optim.precision, cpu=config.run.cpu, trackers=config.run.trackers, out=out)
    classes = build.class_names(config.data.classes, config.data.train)
    data = config.data
    records = build.records(config.data.train, data.root, classes, data.classes, data.split)
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

    on_main(accelerator, lambda: _prepare(out, config, resume))
    dataset = build.training_dataset(config.data, records, size, config.seed)
    if config.data.cache_features:
        single = config.evaluation.model_copy(update={"clips": 1, "crops": 1})
        views = build.evaluation_dataset(
            records, single, data, frames=data.frames, size=size, difference=data.difference
        )
        loader = build.evaluation_loader(views, config.evaluation.batch_size, data.workers)
        dataset = build.cache_features(model, loader, [record.label for record in records], accelerator.device)
    try:
        fit(
            task,
            build.training_loader(config, dataset),
            accelerator=accelerator,
            out=out,
            rules=build.learning_rules(config),
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
            select="top1" if config.run.select == "top1" else None,
            save_best=save_best,
            save_every=config.run.save_every,
            max_skipped=int(config.data.max_bad_fraction * len(records)),
            after_update=build.group_lasso(config.sparsity, task),
            resume=resume,
            fingerprint=_fingerprint(config),
        )
    except TooManySkippedError as error:
        names = ", ".join(str(records[index].path) for index in error.indices)
        raise ValueError(f"{error} by data.max_bad_fraction; the last: {names}") from error
    if accelerator.is_main_process:
        print(f"{out}: trained {config.optim.epochs} epochs; model in {out / 'best'}")
        if (out / "metrics.json").is_file():
            print(headline(json.loads((out / "metrics.json").read_text())))
    return out


def _prepare(out: Path, config: Config, resume: bool) -> None:
    open_run(out, resume, allowed=("config.yaml",))
    if not resume:
        write_atomic(out / "config.yaml", dump(config))


def _fingerprint(config: Config) -> str:
    """What must stay the same for a resumed run to continue the same training."""
    fixed = config.model_dump(mode="json", exclude={"run": True, "evaluation": True, "data": {"workers"}})
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]

"""What `mote train` and `mote eval` do for task=image and task=expression: the same loop, the same result files."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mote import build
from mote.config import Config
from mote.datasets.images import ImageList
from mote.evaluation.closed_set import Scores, score, summarize
from mote.evaluation.imbalance import imbalance_summary
from mote.evaluation.results import provenance, sha256_lines, sha256_tensors, write_results
from mote.expression_page import draw_expression_page
from mote.expression_scores import PostHoc, attention_shares, post_hoc
from mote.image_experiment import assemble_images, evaluation_list, image_dataset, load_model, save_image_model
from mote.runs import check_run, fit_run
from mote.scoring import hash_manifest
from mote.tasks.image import ImageTask
from mote.training.distributed import Accelerator, add_up, make_accelerator, on_main


def train_images(config: Config, resume: bool = False) -> Path:
    """Train an image network and leave a run directory; see `mote.runs.train`."""
    out = check_run(config)
    accelerator = make_accelerator(config.optim.precision, cpu=config.run.cpu, trackers=config.run.trackers, out=out)
    experiment = assemble_images(config, accelerator.device)
    data, size, counts = experiment.data, experiment.size, experiment.counts
    held_out = None
    if config.evaluation.manifest is not None:  # read now: a mistake in it should not cost a training
        held_out = evaluation_list(config, data.classes)
    meta: dict[str, Any] = {"net": config.image.net, "classes": data.classes, "size": size}
    meta |= {"task": config.task, "channels": config.image.channels}
    if counts is not None:
        meta |= {"counts": counts, "method": config.imbalance.method}

    def evaluate_now(task: nn.Module, epoch: int) -> dict[str, Any]:
        assert held_out is not None
        page = epoch == config.optim.epochs
        trained = cast(ImageTask, task).model
        return evaluate_images(trained, held_out, meta, config, accelerator, out / "evaluations", page=page)

    def save(task: nn.Module, selected: str) -> None:
        more = {**meta, "seed": config.seed, "selected": selected}
        save_image_model(out / "best", cast(ImageTask, task).model, more, config)

    fit_run(
        config,
        experiment.task,
        experiment.loader,
        accelerator,
        rules=experiment.rules(),
        num_classes=len(data.classes),
        evaluate=evaluate_now,
        save=save,
        max_skipped=0,
        resume=resume,
    )
    return out


def evaluate_folder(folder: Path, config: Config, accelerator: Accelerator, out: Path) -> dict[str, Any]:
    """Score the image model of a run directory or model folder; returns the summary that was written.

    Raises:
        ValueError: no model there, no list, or one that does not fit its classes.
    """
    model, meta = load_model(folder, config.image)
    data = evaluation_list(config, meta["classes"])
    return evaluate_images(model.to(accelerator.device).eval(), data, meta, config, accelerator, out, page=True)


def evaluate_images(
    model: nn.Module,
    data: ImageList,
    meta: dict[str, Any],
    config: Config,
    accelerator: Accelerator,
    out: Path,
    *,
    page: bool = False,
) -> dict[str, Any]:
    """Score `model` on `data`, write `out/NAME.json` and `out/NAME.csv`, return the summary.

    `meta`: its description, see `image_experiment.load_model`. `page`: draw NAME/index.html where there is one.
    """
    counts: Sequence[int] | None = meta.get("counts")
    adjusted = None if counts is None else post_hoc(model, config.imbalance, counts)
    scores, attention = score_images(model, data, meta["size"], config, accelerator, adjusted)
    summary = summarize(scores, data.classes) | {"warnings": [], "items": "images"}
    if counts is not None and attention is not None:
        summary |= imbalance_summary(scores, data.classes, counts, attention)
        summary["method"] = {"method": meta.get("method"), "posthoc": config.imbalance.posthoc}
    name, manifest = config.evaluation.name, config.evaluation.manifest or ""
    hashes = {
        "manifest": hash_manifest(manifest, data.records),
        "classes": sha256_lines(data.classes),
        "weights": sha256_tensors(model.state_dict()),
    }
    origin = provenance(config=config.model_dump(), hashes=hashes, seed=config.seed)
    files = {"records": data.records, "classes": data.classes, "scores": scores, "provenance": origin}

    def write() -> None:
        write_results(out, name, summary, **files)
        if adjusted is not None:
            dataset = image_dataset(config, data, meta["size"], train=False)
            draw_expression_page(out, name, adjusted, dataset, wanted=page and config.evaluation.page)

    on_main(accelerator, write)
    return summary


def score_images(
    model: nn.Module,
    data: ImageList,
    size: int,
    config: Config,
    accelerator: Accelerator,
    adjusted: PostHoc | None = None,
) -> tuple[Scores, Any]:
    """Probabilities of every image of the list over its classes; with `adjusted`, what its attention gives to each.

    The second is (N, K), see `expression_scores.attention_shares`, or None.
    """
    own = range(accelerator.process_index, len(data.records), accelerator.num_processes)
    dataset = image_dataset(config, data, size, train=False)
    loader = build.evaluation_loader(dataset, config.evaluation.batch_size, config.data.workers, own)
    progress = accelerator.is_main_process and sys.stderr.isatty()
    attention = torch.zeros(len(data.records), len(data.classes), dtype=torch.float64)

    @torch.inference_mode()
    def logits_of(images: Tensor, index: Tensor) -> Tensor:
        if adjusted is None:
            return model(images)
        logits, places = adjusted.score(images)
        attention[index] = attention_shares(places).cpu()
        return logits

    def scored() -> Iterator[dict[str, Tensor]]:
        for batch in tqdm(loader, desc="evaluate", unit="batch", disable=not progress):
            logits = logits_of(batch.pop("images").to(accelerator.device), batch["index"])
            yield {**batch, "logits": logits[:, None].cpu()}  # (B, 1, K), one view

    scores = score(
        scored(),
        lambda tensors: add_up(accelerator, tensors),
        total=len(data.records),
        num_classes=len(data.classes),
    )
    if adjusted is None:
        return scores, None
    return scores, add_up(accelerator, {"attention": attention})["attention"].numpy()

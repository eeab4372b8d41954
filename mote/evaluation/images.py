"""What `mote train` and `mote eval` do for task=image and task=expression: the same loop, the same result files."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mote.config import Config
from mote.datasets.images import ImageList
from mote.datasets.lists.reading import hash_manifest
from mote.evaluation.expression_page import draw_expression_page
from mote.evaluation.results import write_results
from mote.evaluation.views import evaluation_list, evaluation_loader, image_dataset
from mote.files.hashes import sha256_lines, sha256_tensors
from mote.files.provenance import provenance
from mote.inference.images import PostHoc, attention_shares, load_model, post_hoc
from mote.metrics.imbalance import imbalance_summary
from mote.metrics.scores import Scores, score, summarize
from mote.parallel.accelerator import Accelerator, add_up, on_main


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
    loader = evaluation_loader(dataset, config.evaluation.batch_size, config.data.workers, own)
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

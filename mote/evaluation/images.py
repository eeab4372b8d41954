"""What `mote eval` does for image networks (task=image and task=expression); the result files are those of videos."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mote.config import Config
from mote.datasets.lists.images import ImageList
from mote.evaluation.image_page import draw_image_page
from mote.evaluation.listings import evaluation_list, evaluation_listing
from mote.evaluation.results import write_results
from mote.evaluation.views import evaluation_loader, image_dataset
from mote.files.provenance import provenance
from mote.inference.contract import images_as_asked, settled
from mote.inference.images import ImageClassifier, attention_shares
from mote.metrics.imbalance import imbalance_summary
from mote.metrics.result_files import Summary
from mote.metrics.scores import Scores, summarize
from mote.metrics.scoring import score
from mote.parallel.accelerator import Accelerator, add_up, on_main


def evaluate(
    model: ImageClassifier,
    config: Config,
    accelerator: Accelerator,
    out: Path,
    *,
    data: ImageList | None = None,
    page: bool = True,
) -> Summary:
    """Score `model` on the listed images, write `out/NAME.json`, .csv and the page, return the summary.

    Args:
        model: what is scored; the correction of `imbalance.posthoc` is applied here.
        config: what is scored on, and how.
        accelerator: the processes that share the work.
        out: folder of the result files.
        data: the images of `evaluation.manifest`, where they are read already.
        page: draw NAME/index.html, where `evaluation.page` wants it too.

    Raises:
        ValueError: no list, or one that does not fit the classes.
    """
    data = evaluation_list(config, model.classes) if data is None else data
    model = images_as_asked(model, config)
    config = settled(config, model)
    adjusted = model.corrected(config.imbalance)
    scores, attention = score_images(adjusted, data, config, accelerator)
    summary = summarize(scores, data.classes) | {"warnings": [], "items": "images"}
    if model.counts is not None:
        summary |= imbalance_summary(scores, data.classes, model.counts, attention)
        summary["method"] = {"method": model.meta.get("method"), "posthoc": config.imbalance.posthoc}
    name = config.evaluation.name
    hashes = {"manifest": evaluation_listing(config.evaluation).sha256(data.records), **model.hashes()}
    origin = provenance(config=config.model_dump(), hashes=hashes, seed=config.seed)
    origin["inputs"] = {"model": model.source.model if model.source else config.run.out, "folder": os.getcwd()}
    files = {"records": data.records, "classes": data.classes, "scores": scores, "provenance": origin}

    def write() -> None:
        write_results(out, name, summary, **files)
        if page and config.evaluation.page:
            dataset = image_dataset(config, data, model.size, train=False, preprocessing=model.preprocessing)
            draw_image_page(out, name, adjusted, dataset)

    on_main(accelerator, write)
    return summary


def score_images(
    model: ImageClassifier, data: ImageList, config: Config, accelerator: Accelerator
) -> tuple[Scores, np.ndarray | None]:
    """Class probabilities (N, K), and each class's share of the attention (N, K) or None.

    The attention is known where the model counts its training images (task=expression), see `attention_shares`.
    """
    own = range(accelerator.process_index, len(data.records), accelerator.num_processes)
    dataset = image_dataset(config, data, model.size, train=False, preprocessing=model.preprocessing)
    loader = evaluation_loader(dataset, config.evaluation.batch_size, config.data.workers, own)
    progress = accelerator.is_main_process and sys.stderr.isatty()
    attention = torch.zeros(len(data.records), len(data.classes), dtype=torch.float64)

    @torch.inference_mode()
    def logits_of(images: Tensor, index: Tensor) -> Tensor:
        if model.counts is None:
            return model.logits(images)
        logits, places = model.logits_and_places(images)
        attention[index] = attention_shares(places).cpu()
        return logits

    def scored() -> Iterator[dict[str, Tensor]]:
        for batch in tqdm(loader, desc="evaluate", unit="batch", disable=not progress):
            logits = logits_of(batch.pop("images"), batch["index"])
            yield {**batch, "logits": logits[:, None].cpu()}  # (B, 1, K), one view

    scores = score(
        scored(),
        lambda tensors: add_up(accelerator, tensors),
        total=len(data.records),
        num_classes=len(data.classes),
    )
    if model.counts is None:
        return scores, None
    return scores, add_up(accelerator, {"attention": attention})["attention"].numpy()

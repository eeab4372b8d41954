"""From listed videos to their scores: frame features, temporal head, fusion of views.

The same result, bit for bit on the CPU, for any number of processes, threads and workers, any batch size, and features
from the cache or from the files: features are computed video by video (see `features`), and temporal head and
classes in fixed blocks of the list, each by one thread of one process. Features of a few blocks are in memory at once.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import cache

import torch
from torch import Tensor
from tqdm import tqdm

from mote.config.sections import DataConfig, EvaluationConfig
from mote.datasets.lists.manifest import Record
from mote.evaluation.views import views_of
from mote.inference.classifier import VideoClassifier
from mote.inference.features import Load, Unusable, cache_folder, frame_features, keep_class_features, open_cache
from mote.metrics.scores import Scores
from mote.metrics.scoring import score
from mote.parallel.accelerator import Accelerator, add_up
from mote.parallel.cores import all_cores
from mote.parallel.precision import has_bf16

BLOCK_VIEWS = 64  # views that go through the temporal head at once; another number changes last bits of results


def score_videos(
    classifier: VideoClassifier,
    records: Sequence[Record],
    labels: Sequence[str],
    settings: EvaluationConfig,
    data: DataConfig,
    accelerator: Accelerator,
) -> Scores:
    """Probabilities of every record over `labels`, in the order of the records; the same on every process.

    Raises:
        DecodeError: an undecodable video, unless `settings.bad_videos` is "count_wrong".
    """
    classifier = classifier.in_precision(settings.precision)
    folder = cache_folder(settings.cache, classifier)
    if folder is not None:
        keep_class_features(folder, classifier, labels)
    gate = classifier.modulation_gate.changed(settings.modulation_k, settings.modulation_gamma)
    view_logits = classifier.scorer(labels, settings.modulation, gate=gate)
    dataset = views_of(classifier, records, settings, data)
    views = settings.clips * settings.crops
    blocks = _own_blocks(len(records), max(1, BLOCK_VIEWS // views), accelerator)
    own = [index for block in blocks for index in block]
    shape = (views, classifier.frames, classifier.model.embed_dim)
    progress = accelerator.is_main_process and sys.stderr.isatty()
    if progress and settings.precision == "fp32" and has_bf16(classifier.device):
        _note_precision()
    with (
        all_cores(classifier.device) as ordered_map,
        nullcontext() if folder is None else open_cache(folder, classifier, dataset) as cached,
    ):
        features = frame_features(
            classifier,
            dataset,
            own,
            ordered_map,
            load=Load(settings.batch_size, data.workers),
            strict=settings.bad_videos == "error",
            cache=cached,
            progress=progress,
        )
        bar = tqdm(features, desc="evaluate", unit="video", total=len(own), disable=not progress)

        def logits(batch: dict[str, Tensor]) -> dict[str, Tensor]:
            found = view_logits({"features": batch.pop("features").to(classifier.device)})
            return {**batch, "logits": found.cpu()}

        return score(
            ordered_map(logits, _batches(blocks, iter(bar), records, shape)),
            lambda tensors: add_up(accelerator, tensors),
            total=len(records),
            num_classes=len(labels),
            fusion=settings.fusion,
            logit_scale=classifier.model.logit_scale.exp().item(),
        )


@cache
def _note_precision() -> None:
    """Said once a process."""
    print("mote: evaluation.precision=auto would multiply in bfloat16 here: faster, slightly rounded", file=sys.stderr)


def _own_blocks(total: int, size: int, accelerator: Accelerator) -> list[range]:
    """The blocks of `size` neighbours in a list that fall to this process; the last block may be shorter."""
    blocks = [range(start, min(start + size, total)) for start in range(0, total, size)]
    return blocks[accelerator.process_index :: accelerator.num_processes]


def _batches(
    blocks: Sequence[range],
    features: Iterator[Tensor | Unusable],
    records: Sequence[Record],
    shape: tuple[int, int, int],
) -> Iterator[dict[str, Tensor]]:
    """What `score` asks for, with features (B, V, T, D) in the place of logits; those of undecodable videos are 0."""
    for block in blocks:
        found = [next(features) for _ in block]
        yield {
            "features": torch.stack([row if isinstance(row, Tensor) else torch.zeros(shape) for row in found]),
            "index": torch.tensor(block),
            "label": torch.tensor([records[index].label for index in block]),
            "valid": torch.tensor([isinstance(row, Tensor) for row in found]),
        }

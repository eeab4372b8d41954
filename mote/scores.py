"""From listed videos to their scores: decode, encode, temporal head, fusion of views."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from mote import build
from mote.classifier import Classifier
from mote.config import DataConfig, EvaluationConfig
from mote.datasets.decode import DecodeError
from mote.datasets.manifest import Record
from mote.evaluation.closed_set import Scores, score
from mote.training.distributed import Accelerator, gather, shard_loader


def score_videos(
    classifier: Classifier,
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
    view_scores = classifier.scorer(
        labels, settings.modulation, k=settings.modulation_k, gamma=settings.modulation_gamma
    )
    dataset = build.evaluation_dataset(
        records,
        settings,
        data,
        frames=classifier.frames,
        size=classifier.size,
        difference=classifier.difference,
    )
    loader = build.evaluation_loader(dataset, settings.batch_size, data.workers)
    return score(
        view_scores if settings.bad_videos == "count_wrong" else _strict(view_scores),
        shard_loader(accelerator, loader),
        lambda tensors: gather(accelerator, tensors),
        total=len(records),
        fusion=settings.fusion,
        logit_scale=classifier.model.logit_scale.exp().item(),
        progress=accelerator.is_main_process and sys.stderr.isatty(),
    )


def _strict(view_scores: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
    """`view_scores` that raises the DecodeError of the first undecodable video of a batch."""

    def check(batch: Any) -> Tensor:
        for cause in filter(None, batch["cause"]):
            path, why = cause.rsplit("\t", 1)
            raise DecodeError(path, "pyav", why)
        return view_scores(batch)

    return check

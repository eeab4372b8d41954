"""Videos named by Ray Data: decoding and encoding are stages of their own, on as many machines as a cluster has.

Ray places the stages, balances them, and repeats what a lost node had in hand. Features and scores come from the code
of `mote.inference.pipeline`, so those of a video are the same, bit for bit on CPUs of one kind.
"""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mote.config.sections import ImbalanceConfig
from mote.datasets.lists.manifest import unlabelled
from mote.datasets.video import VideoDataset
from mote.inference.asked import Views
from mote.inference.classifier import VideoClassifier
from mote.inference.correction import posthoc
from mote.inference.features import encode_once, error_of
from mote.inference.loading import load_video
from mote.inference.pipeline import Outcome, ranked
from mote.metrics.scoring import fuse_views
from mote.prediction.parts import as_text, from_text

try:
    import ray
    import ray.data
except ImportError:
    raise ValueError("--engine ray needs Ray: pip install 'mote-video[ray]'") from None

BATCH = 8  # videos that a stage has in hand


class Loading(NamedTuple):
    """What a process needs to load the same model: names or paths that every node has, and what must come out."""

    model: str
    backbone: str | None
    templates: Sequence[str]
    settings: ImbalanceConfig
    class_names: Sequence[str]
    hashes: Mapping[str, str]

    def load(self) -> VideoClassifier:
        """The model. Raises ValueError where it is another one on this node."""
        found = load_video(self.model, backbone=self.backbone).with_templates(self.templates)
        if found.hashes(self.class_names) != self.hashes:
            raise ValueError(
                f"{self.model}: is another model on the node {ray.util.get_node_ip_address()}; copy it there"
            )
        return found.corrected(self.settings, self.class_names)


class Decode:
    """A stage for `ray.data.Dataset.map_batches`: "path" -> "path", "frames" (B, V, T, 3, S, S) uint8, "cause".

    Args:
        videos: how views are made; its records do not matter (`VideoClassifier.clips_of([], views, on_error="mark")`).
    """

    def __init__(self, videos: VideoDataset):
        torch.set_num_threads(1)
        self.videos = videos

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Views of the videos of a batch; zeros and why for those that cannot be decoded."""
        videos = self.videos.of([unlabelled(from_text(path)) for path in batch["path"].tolist()])
        items = [videos[index] for index in range(len(videos))]
        videos.close()
        frames = np.stack([item["frames"].numpy() for item in items])
        return {"path": batch["path"], "frames": frames, "cause": np.array([as_text(item["cause"]) for item in items])}


class Name:
    """A stage after `Decode`: "path", "frames", "cause" -> "path", "scores" (B, K) in the names' order, "cause"."""

    def __init__(self, loading: Loading):
        torch.set_num_threads(1)
        self.model = loading.load().for_encoding()
        self.score = self.model.scorer(loading.class_names)
        self.classes = len(loading.class_names)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Probabilities of the videos of a batch; NaN for those that could not be decoded."""
        scores = np.full((len(batch["path"]), self.classes), np.nan)
        for row, (frames, cause) in enumerate(zip(batch["frames"], batch["cause"], strict=True)):
            if not cause:
                features = encode_once(self.model, torch.from_numpy(np.array(frames))[None])
                scores[row] = fuse_views(self.score({"features": features.to(self.model.device)}))[0].numpy()
        return {"path": batch["path"], "scores": scores, "cause": batch["cause"]}


def name_with_ray(
    model: VideoClassifier,
    files: Sequence[str | Path],
    class_names: Sequence[str],
    views: Views,
    *,
    timeout: float | None = None,
) -> Iterator[tuple[str | Path, Outcome]]:
    """As `name_videos`, on the cluster of RAY_ADDRESS, or on this machine.

    Args:
        model: loaded from a path or name that every node has (`model.source`).

    Raises:
        ValueError: a model that came from nowhere, or is another one on some node.
    """
    if model.source is None:
        raise ValueError("--engine ray needs a model that every node can load by its name")
    hashes = model.hashes(class_names)
    loading = Loading(*model.source, list(model.templates), posthoc(model), list(class_names), hashes)
    videos = model.clips_of([], views, on_error="mark", timeout=timeout)
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = sys.stderr.isatty()
    cores = int(ray.cluster_resources().get("CPU", 1))
    gpus = int(ray.cluster_resources().get("GPU", 0))
    decoders, encoders = max(1, cores // 2), gpus or max(1, cores // 2)
    rows = ray.data.from_items(
        [{"path": as_text(str(file))} for file in files], override_num_blocks=_blocks(len(files))
    )
    rows = rows.map_batches(
        Decode,
        fn_constructor_args=(videos,),
        batch_size=BATCH,
        num_cpus=1,
        concurrency=(1, decoders),
        max_restarts=-1,  # actors of a lost node start anew elsewhere
        max_task_retries=-1,
    )
    rows = rows.map_batches(
        Name,
        fn_constructor_args=(loading,),
        batch_size=BATCH,
        num_cpus=0 if gpus else 1,
        num_gpus=1 if gpus else 0,
        concurrency=(1, encoders),
        max_restarts=-1,  # actors of a lost node start anew elsewhere
        max_task_retries=-1,
    )
    for file, row in zip(files, rows.iter_rows(), strict=True):
        assert row["path"] == as_text(str(file)), f"{file}: came back out of order"
        wrong = error_of(from_text(row["cause"]), videos)
        yield file, wrong or ranked(torch.from_numpy(np.array(row["scores"])), class_names, file)


def _blocks(files: int) -> int:
    """Pieces of work that Ray hands out: some seconds of decoding each, so that a lost node costs little."""
    return max(1, min(files // (4 * BATCH), 10_000))

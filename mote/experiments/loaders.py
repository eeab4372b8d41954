"""Training data: augmented clips, or features of them cached once; batches of one optimizer step."""

from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader

from mote.config import Config
from mote.config.sections import DataConfig
from mote.datasets.decoding.tar_shards import shard_numbers
from mote.datasets.images import ImageDataset
from mote.datasets.lists.manifest import (
    Record,
)
from mote.datasets.loader import ClassBalancedSampler, EpochSampler, FeatureDataset, make_loader
from mote.datasets.video import VideoDataset
from mote.files.preprocessing import AS_CLIP, Preprocessing
from mote.models.video_clip import VideoCLIP

SizedDataset = VideoDataset | FeatureDataset | ImageDataset


def training_dataset(
    data: DataConfig,
    records: Sequence[Record],
    size: int,
    seed: int,
    preprocessing: Preprocessing = AS_CLIP,
) -> VideoDataset:
    """Randomly cropped, flipped and sampled training clips."""
    return VideoDataset(
        records,
        num_frames=data.frames,
        size=data.size or size,
        train=True,
        seed=seed,
        sampling=data.sampling,
        stride=data.stride,
        difference=data.difference,
        near_keyframes=data.near_keyframes,
        scale=data.crop_scale,
        flip=data.flip,
        grayscale=data.grayscale,
        on_error="mark",
        decoder=data.decoder,
        preprocessing=preprocessing,
        timeout=data.decode_timeout,
    )


def training_loader(config: Config, dataset: SizedDataset, labels: Sequence[int] | None = None) -> DataLoader:
    """Shuffled by (seed, epoch); its batch size is that of one optimizer step, which the loop cuts up.

    `labels`: of every item, where each class is to be drawn equally often.
    """
    sampler = EpochSampler(len(dataset), config.seed) if labels is None else ClassBalancedSampler(labels, config.seed)
    if labels is None and config.data.shuffle_shards is not None and isinstance(dataset, VideoDataset):
        numbers = shard_numbers([record.path for record in dataset.records])
        sampler = EpochSampler(len(dataset), config.seed, groups=numbers, window=config.data.shuffle_shards)
    workers = 0 if isinstance(dataset, FeatureDataset) else config.data.workers
    return make_loader(dataset, config.optim.batch_size, sampler=sampler, workers=workers, drop_last=True)


@torch.inference_mode()
def cache_features(built: VideoCLIP, loader: DataLoader, labels: Sequence[int], device: torch.device) -> FeatureDataset:
    """Frame features of every record of an evaluation loader (single view), encoded once.

    Raises:
        ValueError: a record could not be decoded.
    """
    from tqdm import tqdm

    parts = []
    for batch in tqdm(loader, desc="encode", unit="batch", disable=None):
        if not batch["valid"].all():
            bad = batch["index"][~batch["valid"]].tolist()
            raise ValueError(f"training clips {bad} (from 0) cannot be decoded; remove them from the list")
        parts.append(built.to(device).eval().encode_frames(batch["frames"][:, 0].to(device)).float().cpu())
    return FeatureDataset(torch.cat(parts).clone(), torch.tensor(labels))

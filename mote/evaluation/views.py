"""Evaluation lists as data sets and loaders: every record once, in order."""

from collections.abc import Sequence

from torch.utils.data import DataLoader

from mote.config import Config
from mote.config.sections import DataConfig, EvaluationConfig
from mote.datasets.image_variation import Variation
from mote.datasets.images import ImageDataset
from mote.datasets.lists.images import ImageList
from mote.datasets.lists.manifest import Record
from mote.datasets.loader import make_loader
from mote.datasets.video import VideoDataset
from mote.files.preprocessing import AS_CLIP, CUT_FIRST, Preprocessing
from mote.inference.asked import Views
from mote.inference.classifier import VideoClassifier


def image_dataset(
    config: Config, data: ImageList, size: int, *, train: bool, preprocessing: Preprocessing | None = None
) -> ImageDataset:
    """Augmented images for training, else the squares that are tested; `preprocessing`: of the network, if it has one.

    What the configuration asks for counts before it.
    """
    settings, image = config.data, config.image
    return ImageDataset(
        data,
        size=size,
        channels=image.channels,
        train=train,
        seed=config.seed,
        pad=image.pad,
        scale=settings.crop_scale,
        flip=settings.flip,
        grayscale=settings.grayscale,
        preprocessing=(preprocessing or CUT_FIRST).changed(**settings.preprocessing),
        variation=Variation(image.augment, image.erase, image.erase_area),
    )


def evaluation_dataset(
    records: Sequence[Record],
    settings: EvaluationConfig,
    data: DataConfig,
    *,
    frames: int,
    size: int,
    difference: int,
    preprocessing: Preprocessing = AS_CLIP,
) -> VideoDataset:
    """All views of every record; undecodable ones are marked, what to do with them is the caller's decision."""
    return VideoDataset(
        records,
        num_frames=frames,
        size=size,
        train=False,
        num_clips=settings.clips,
        num_crops=settings.crops,
        places=settings.places,
        sampling=data.sampling,
        stride=data.stride,
        difference=difference,
        on_error="mark",
        decoder=data.decoder,
        preprocessing=preprocessing,
        timeout=data.decode_timeout,
    )


def views_of(
    classifier: VideoClassifier, records: Sequence[Record], settings: EvaluationConfig, data: DataConfig
) -> VideoDataset:
    """All views of every record, made as the classifier's are; undecodable ones are marked."""
    views = Views(settings.clips, settings.crops, places=settings.places)
    return classifier.clips_of(records, views, on_error="mark", timeout=data.decode_timeout)


def evaluation_loader(
    dataset: VideoDataset | ImageDataset, batch_size: int, workers: int, indices: Sequence[int] | None = None
) -> DataLoader:
    """Every record once, in order, or those at `indices`."""
    sampler = range(len(dataset)) if indices is None else indices
    return make_loader(dataset, batch_size, sampler=sampler, workers=workers, drop_last=False)

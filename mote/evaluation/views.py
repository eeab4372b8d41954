"""Evaluation lists as data sets and loaders: every record once, in order."""

from collections.abc import Sequence
from pathlib import Path

from torch.utils.data import DataLoader

from mote.config import Config
from mote.config.sections import DataConfig, EvaluationConfig
from mote.datasets.images import ImageDataset, ImageList, read_images
from mote.datasets.lists.agreement import check_files, check_same_folders
from mote.datasets.lists.manifest import Record, read_class_ids, read_class_names, read_rows
from mote.datasets.lists.reading import Listing, templates
from mote.datasets.loader import make_loader
from mote.datasets.video import VideoDataset
from mote.evaluation.unknown import unknown_records
from mote.files.preprocessing import AS_CLIP, CUT_FIRST, Preprocessing
from mote.inference.classifier import VideoClassifier
from mote.inference.model import Views


def training_listing(data: DataConfig) -> Listing:
    """The training list, as its settings name it."""
    return Listing(data.train or "", data.root, data.split, data.classes)


def evaluation_listing(settings: EvaluationConfig) -> Listing:
    """The list that is scored, as its settings name it. Raises ValueError where they name none."""
    if settings.manifest is None:
        raise ValueError("evaluation.manifest is not set; give a list: evaluation.manifest=test.txt")
    return Listing(settings.manifest, settings.root, settings.split, settings.classes)


def training_list(config: Config) -> ImageList:
    """The images of `data.train`."""
    data, file = config.data, config.data.classes
    names = read_class_names(file) if file is not None else None
    return read_images(
        data.train or "", data.root, names, data.split, read_class_ids(file) if file is not None else None
    )


def evaluation_list(config: Config, classes: Sequence[str]) -> ImageList:
    """The images of `evaluation.manifest`, labelled by the network's classes.

    Raises:
        ValueError: no list, classes of its own, or labels that the folders of the images or the training list
            contradict.
    """
    listing = evaluation_listing(config.evaluation)
    if listing.classes is not None:
        raise ValueError("evaluation.classes is for task=video; an image network knows its own classes only")
    found = read_images(listing.manifest, listing.root, classes, listing.split, training_ids(config.data, classes))
    if found.pixels is None:
        check_files(listing.manifest, found.records, "evaluation.root")
    if [*classes] == [*map(str, range(len(classes)))] and config.data.train and Path(config.data.train).exists():
        check_same_folders(found.records, training_list(config).records, listing.manifest, config.data.train)
    return found


def training_ids(data: DataConfig, classes: Sequence[str]) -> list[str] | None:
    """The dataset's own names of `classes`, where the class file of the training list has them."""
    if data.classes is None or not Path(data.classes).is_file() or read_class_names(data.classes) != [*classes]:
        return None
    return read_class_ids(data.classes)


def check_evaluation(settings: EvaluationConfig, classes: Sequence[str] | None = None) -> None:
    """Read the list that is scored and look for its files, before a model is loaded or a file is decoded.

    classes: those of the model, where they are known and the list has no class file.

    Raises:
        ValueError: unusable list or templates, or missing files (with `bad_videos=count_wrong`: all of them).
    """
    listing = evaluation_listing(settings)
    manifest = Path(listing.manifest)
    for key in ("manifest", "root", "classes"):
        if (place := getattr(settings, key)) is not None and not Path(place).exists():
            raise ValueError(f"evaluation.{key}={place}: there is no such file or folder")
    if settings.templates is not None:
        templates(settings.templates)
    names = classes if listing.classes is None else listing.names()
    if names is not None:
        records = listing.records(names)
        if settings.unknown is not None:
            unknown_records(settings.unknown, records, names)
    elif manifest.is_dir() or manifest.suffix.lower() == ".npz":  # what is found there is there
        return
    else:
        base = Path(listing.root) if listing.root is not None else manifest.parent
        records = [Record(base / row.path, 0) for row in read_rows(manifest, listing.root, listing.split)]
    check_files(manifest, records, "evaluation.root", some=settings.bad_videos == "count_wrong")


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
    views = Views(settings.clips, settings.crops)
    return classifier.clips_of(records, views, on_error="mark", timeout=data.decode_timeout)


def evaluation_loader(
    dataset: VideoDataset | ImageDataset, batch_size: int, workers: int, indices: Sequence[int] | None = None
) -> DataLoader:
    """Every record once, in order, or those at `indices`."""
    sampler = range(len(dataset)) if indices is None else indices
    return make_loader(dataset, batch_size, sampler=sampler, workers=workers, drop_last=False)

"""The lists that settings name: of training, of evaluation, and what can be checked of them before torch is there."""

from collections.abc import Sequence
from pathlib import Path

from mote.config import Config
from mote.config.sections import DataConfig, EvaluationConfig
from mote.datasets.lists.agreement import check_files, check_same_folders
from mote.datasets.lists.images import ImageList, read_images
from mote.datasets.lists.manifest import Record, read_class_ids, read_class_names, read_rows
from mote.datasets.lists.reading import Listing, templates
from mote.evaluation.unknown import unknown_records


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

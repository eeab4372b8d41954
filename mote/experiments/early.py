"""What can be told to be wrong with a training before torch is imported: its directory, lists, names and files.

Whatever is built from them is checked where it is built, by the same functions.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from mote.config import Config, dump
from mote.datasets.lists.reading import templates
from mote.evaluation.listings import check_evaluation, evaluation_list, training_list, training_listing
from mote.experiments.fingerprint import fingerprint_of_run
from mote.files.extras import check_analysis
from mote.files.run_directory import CONFIG
from mote.inference.finding import check_given
from mote.models.names import check_weights
from mote.parallel.launch import is_first
from mote.training.directory import check_directory


def check_training(config: Config, resume: bool) -> None:
    """Raise ValueError or OSError for what `train` would refuse of the settings, the run directory, lists and names.

    Of several processes, each of which checks, the first one tells the user.
    """
    try:
        out = check_run(config)
        check_directory(out, resume and (out / CONFIG).is_file(), allowed(out, config))
        fingerprint_of_run(out, config, resume)
        check_parts(config)
    except (ValueError, OSError) as error:
        error.is_told = not is_first()  # type: ignore[union-attr]
        raise


def check_parts(config: Config) -> None:
    """Raise ValueError or OSError for lists, class files, templates and names of networks that cannot be used."""
    if config.data.train is None:
        raise ValueError("data.train is not set; give it as an override, for example data.train=...")
    CHECKS[config.task](config)
    if config.has_backbone:
        templates(config.data.templates)
        check_weights(config.model.backbone, config.model.pretrained)
        if config.model.init is not None:
            check_given(config.model.init)


def _check_videos(config: Config) -> None:
    classes = training_listing(config.data).names()
    training_listing(config.data).records(classes)
    if config.evaluation.manifest is not None:
        check_evaluation(config.evaluation, classes)


def _check_images(config: Config) -> None:
    place = Path(config.data.train or "")
    if place.suffix.lower() == ".npz" or (place / "data_batch_1").is_file():  # hold pixels, which are read once
        return
    classes = training_list(config).classes
    if config.evaluation.manifest is not None and Path(config.evaluation.manifest).suffix.lower() != ".npz":
        evaluation_list(config, classes)


def _check_autoencoder(config: Config) -> None:
    if config.autoencoder.method == "ae" or config.evaluation.manifest is not None:
        check_analysis("task=autoencoder with autoencoder.method=ae or an evaluation")
    _check_images(config)


CHECKS: Mapping[str, Callable[[Config], None]] = {  # by `config.task`, as `ASSEMBLERS` is
    "video": _check_videos,
    "image": _check_images,
    "expression": _check_images,
    "autoencoder": _check_autoencoder,
}


def check_run(config: Config) -> Path:
    """The run directory, which must be set, as must a training list and a list to select by; raises ValueError."""
    if config.run.out is None or config.data.train is None:
        missing = "run.out" if config.run.out is None else "data.train"
        raise ValueError(f"{missing} is not set; give it as an override, for example {missing}=...")
    if config.run.select != "last" and config.evaluation.manifest is None:
        raise ValueError(
            f"run.select={config.run.select} needs evaluation.manifest, a validation list; or leave run.select=last"
        )
    return Path(config.run.out)


def allowed(out: Path, config: Config) -> tuple[str, ...]:
    """What may stand in the directory of a new run: the same settings, of a run that was killed before its first step.

    Another `config.yaml` may be the user's own, and writing over it would lose it.
    """
    file = out / CONFIG
    same = file.is_file() and file.read_bytes() == dump(config).encode()
    return (CONFIG,) if same else ()

"""What the name of a model stands for, and the mistakes in it that files tell: no torch, so they are said at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from mote.files.run_directory import check_has_model, check_model_files, model_folder, read_description, task_of
from mote.inference.hub import is_local, is_repo_id
from mote.models.names import check_known, check_weights, is_plain, parse_model_name

KINDS = {"video": "a video model", "image": "a network for still images", "autoencoder": "an autoencoder"}
KINDS["clip images"] = KINDS["image"]
IMAGE_TASKS = ("image", "expression")
REFERENCE = (".pt", ".pth")  # suffixes of pickled checkpoints, the published format


def folder_kind(path: Path) -> str:
    """A key of KINDS for a run directory or model folder; "video" for anything else that can be named."""
    folder = model_folder(path)
    task = task_of(folder)
    if task == "autoencoder":
        return "autoencoder"
    if task in IMAGE_TASKS:
        return "image"
    try:
        return "clip images" if "net" in read_description(folder) else "video"  # written by experiments.images
    except (OSError, ValueError):
        return "video"


def place_of(
    model: str, pretrained: str | None = None, backbone: str | None = None
) -> Literal["reference", "folder", "hub", "backbone"]:
    """What a video model is read from: an authors' checkpoint, a folder or file of ours, the Hub, or CLIP as it is.

    Raises:
        FileNotFoundError: nothing has this name, neither here nor among the models of open_clip.
        ValueError: an option that would be passed over: only some kinds of models take them.
    """
    path, authors = Path(model), Path(model).suffix in REFERENCE
    here = path.is_dir() or path.suffix == ".safetensors" or (path.exists() and is_repo_id(model))  # not on the Hub
    if pretrained is not None and (here or authors):
        raise ValueError(f"{model}: has its own weights; leave pretrained={pretrained!r} out")
    if backbone is not None and not authors:
        raise ValueError(
            f"{model}: knows its CLIP; leave backbone={backbone!r} out, it is for authors' checkpoints (.pt)"
        )
    if authors:
        return "reference"
    if here:
        return "folder"
    if pretrained is None and is_local(model):
        raise FileNotFoundError(f"{model}: there is no such run directory, model folder or file")
    if pretrained is None and is_repo_id(model):
        return "hub"
    if pretrained is None and ":" not in model:  # with its tag it is no name of a file
        try:
            check_known(model)
        except ValueError as error:
            raise FileNotFoundError(f"{model}: no run directory, model folder or file; {error}") from None
    return "backbone"


def check_no_text(model: str, kind: str, options: Mapping[str, object]) -> None:
    """Raise ValueError for options of a text tower, of which one is not None, where a model has none."""
    if given := [name for name, value in options.items() if value is not None]:
        raise ValueError(f"{model}: holds {KINDS[kind]}, which has no text tower; leave {given[0]} out")


def check_model(model: str, *, backbone: str | None = None, templates: str | None = None, video: bool = False) -> str:
    """The kind of a model (a key of KINDS), and whatever `load` would refuse without having read its weights.

    Args:
        model, backbone, templates: see `mote.inference.loading.load`.
        video: only video models will do.

    Raises:
        ValueError, FileNotFoundError: see `load`.
    """
    kind, path = folder_kind(Path(model)), Path(model)
    if kind != "video":
        check_no_text(model, kind, {"backbone": backbone, "templates": templates})
        if video:
            raise ValueError(f"{model}: holds {KINDS[kind]}, and this needs a video model")
        return kind
    place = place_of(model, None, backbone)
    if place == "reference" and not path.is_file():
        raise FileNotFoundError(f"{path}: not found; expected a checkpoint in the published MoTE format")
    if place == "folder":
        check_given(model)
    if place == "backbone" or backbone is not None:
        check_weights(*parse_model_name(backbone or model))
    return kind


def is_plain_model(model: str, backbone: str | None = None) -> bool:
    """Whether it can be told that a model is a video model whose towers are open_clip's own, see `names.is_plain`."""
    path = Path(model)
    if folder_kind(path) != "video":
        return False
    place = place_of(model, None, backbone)
    if place == "reference":
        return backbone is None or is_plain(parse_model_name(backbone)[0])
    if place == "backbone":
        return is_plain(parse_model_name(model)[0])
    try:
        meta = read_description(model_folder(path)) if place == "folder" and path.is_dir() else {}
        towers = "timm_model_name" not in meta["architecture"]["vision_cfg"]
        return towers and (meta["backbone"] is None or is_plain(meta["backbone"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def check_given(model: str | Path) -> None:
    """Raise ValueError or FileNotFoundError where there is no run directory, model folder or file with a model."""
    path = Path(model)
    if path.suffix in REFERENCE and not path.is_file():
        raise FileNotFoundError(f"{path}: not found; expected a checkpoint in the published MoTE format")
    if path.suffix in REFERENCE:
        return
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such run directory, model folder or file")
    check_has_model(path)
    check_model_files(model_folder(path))


def check_autoencoder(model: str) -> None:
    """Raise ValueError where there is no autoencoder."""
    if folder_kind(Path(model)) != "autoencoder":
        raise ValueError(f"{model}: holds no autoencoder; give the directory of a finished run with task=autoencoder")

"""Models of run directories, model folders and files, and the CLIP towers they were made from."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch.nn import functional as F

from mote.files.run_directory import check_has_model, model_folder
from mote.files.shipped import data_file, default_templates
from mote.models.autoencoder import is_autoencoder
from mote.models.checkpoints import (
    LoadedModel,
    is_reference_checkpoint,
    load_model,
    load_reference,
    load_text,
)
from mote.models.clip import TextTower, Towers, backbone_config, load_backbone
from mote.models.image_checkpoints import is_image_model
from mote.models.names import SCHEMAS

FRAMES = 8  # of a clip of an authors' checkpoint, whose position embedding has rows for more


def load_folder(path: str | Path) -> LoadedModel:
    """A model from an authors' checkpoint, a model folder or file, or the `best` folder of a run directory."""
    path = Path(path)
    if is_reference_checkpoint(path):
        return load_reference(path)
    folder = model_folder(path)
    check_has_model(path)
    if is_image_model(folder):
        raise ValueError(f"{folder}: holds a network for still images; only mote eval and mote predict take it")
    if is_autoencoder(folder):
        raise ValueError(
            f"{folder}: holds an autoencoder, no video model; mote eval scores it, mote sample draws of it"
        )
    return load_model(folder)


def with_assumptions(loaded: LoadedModel) -> LoadedModel:
    """The model of an authors' checkpoint, with what such a file does not say and a model folder does.

    Assumed are 8 frames, the pixels that the position embedding of the tower is for, the 28 templates of the method,
    and the classes of Kinetics-400 in their order where there are 400, else `class 0`, `class 1`, ...
    """
    assert loaded.tuned_text is not None
    count, kinetics = len(loaded.tuned_text), data_file("classes/kinetics400.txt").read_text("utf-8").splitlines()
    classes = kinetics if count == len(kinetics) else [f"class {i}" for i in range(count)]
    size = loaded.meta["architecture"]["vision_cfg"]["image_size"]
    known = {"classes": classes, "templates": default_templates(), "frames": FRAMES, "size": size, "seed": 0}
    text = F.normalize(loaded.tuned_text, dim=-1)
    return replace(loaded, tuned_text=text, classes=classes, meta={**loaded.meta, **known})


def towers(backbone: str, pretrained: str | None, seed: int, text_weights: Path | None = None) -> Towers:
    """The original CLIP of a run; `seed` makes random weights (pretrained="random") the same ones every time.

    `text_weights`: file of a tuned text tower, which takes the place of the original one.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        found = load_backbone(backbone, pretrained)
    if text_weights is not None:
        load_text(text_weights, cast(TextTower, found.encode_text))
    return found


TOWER = ("layers", "width", "patch_size", "timm_model_name")  # of a visual tower, enough to tell published ones apart


def check_backbone(name: str, loaded: LoadedModel, place: str | Path, *, same_size: bool = False) -> None:
    """Check that the text tower of the CLIP `name` belongs to a model: its visual tower has the same sizes.

    Names whose configuration is not part of open_clip are let through; see `fitting_towers`.

    Args:
        name: of the CLIP.
        loaded: the model.
        place: what the message names.
        same_size: the number of pixels must be equal too; it differs from CLIP's own in models tuned at another size.

    Raises:
        ValueError: another architecture or width, or a name that open_clip does not have.
    """
    if name.startswith(SCHEMAS):
        return
    config, own = backbone_config(name), loaded.meta["architecture"]
    keys = (*TOWER, "image_size") if same_size else TOWER
    theirs = {"embed_dim": config["embed_dim"]} | {key: config["vision_cfg"].get(key) for key in keys}
    ours = {"embed_dim": own["embed_dim"]} | {key: own["vision_cfg"].get(key) for key in keys}
    if odd := [key for key in ours if ours[key] != theirs[key]]:
        found = ", ".join(f"{key} {theirs[key]} where the model has {ours[key]}" for key in odd)
        raise ValueError(f"{place}: backbone {name} is another CLIP than the model was tuned from: {found}")


def fitting_towers(found: Towers, embed_dim: int, place: str | Path) -> Towers:
    """`found`, whose features must have `embed_dim` numbers; raises ValueError."""
    if found.embed_dim != embed_dim:
        problem = (
            f"has features of {found.embed_dim} numbers, the model of {embed_dim}; name the CLIP it was tuned from"
        )
        raise ValueError(f"{place}: backbone {found.name} {problem}")
    return found

"""Models of run directories, model folders and files, and the CLIP towers they were made from."""

from pathlib import Path
from typing import cast

import torch

from mote.files.run_directory import DESCRIPTION, config_file, model_folder
from mote.models.autoencoder import is_autoencoder
from mote.models.checkpoints import (
    LoadedModel,
    is_reference_checkpoint,
    load_model,
    load_reference,
    load_text,
)
from mote.models.clip import TextTower, Towers, load_backbone
from mote.models.image_checkpoints import is_image_model


def load_folder(path: str | Path) -> LoadedModel:
    """A model from an authors' checkpoint, a model folder or file, or the `best` folder of a run directory."""
    path = Path(path)
    if is_reference_checkpoint(path):
        return load_reference(path)
    folder = model_folder(path)
    if config_file(path) and folder == path and not (path / DESCRIPTION).is_file():
        raise ValueError(f"{path}: this run has no model yet; let it finish (mote train {path} --resume)")
    if is_image_model(folder):
        raise ValueError(f"{folder}: holds a network for still images; only mote eval and mote predict take it")
    if is_autoencoder(folder):
        raise ValueError(
            f"{folder}: holds an autoencoder, no video model; mote eval scores it, mote sample draws of it"
        )
    return load_model(folder)


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

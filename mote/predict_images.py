"""`mote predict` with a network for still images: name the faces of files and folders."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from mote.config import Config
from mote.config import load as load_config
from mote.datasets.face_crop import face_of_clip
from mote.datasets.images import read_image
from mote.datasets.transforms import eval_transform
from mote.evaluation.results import sha256_lines, sha256_tensors
from mote.expression_scores import PostHoc, post_hoc
from mote.image_experiment import load_model
from mote.models.image_checkpoints import is_image_model
from mote.settings import ImageConfig


class ImagePredictor(NamedTuple):
    """A network for still images with its classes, and what is added to its logits."""

    network: PostHoc
    classes: list[str]
    size: int
    channels: int
    faces: bool = False  # the largest face of the picture instead of all of it

    @torch.inference_mode()
    def scores(self, path: Path) -> dict[str, float]:
        """{class: probability} of the central square of an image file, most probable first.

        Raises:
            ValueError: naming the file, where it is no image, or shows no face and `faces` are wanted.
        """
        logits = self.network.model(self._pixels(path)[None])[0] + self.network.offset
        probabilities = logits.double().softmax(dim=0)
        order = probabilities.argsort(descending=True, stable=True).tolist()
        return {self.classes[c]: probabilities[c].item() for c in order}

    def _pixels(self, path: Path) -> UInt8[Tensor, "C S S"]:
        pixels = read_image(path, 3 if self.faces else self.channels)
        if self.faces:
            face = face_of_clip(pixels[None], path)[0]
            pixels = face if self.channels == 3 else np.array(Image.fromarray(face).convert("L"))[..., None]
        colour = pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2)
        return eval_transform(colour[None], self.size)[0, 0, : self.channels]

    def hashes(self) -> dict[str, str]:
        """Of what is predicted with, as in a result file."""
        return {"weights": sha256_tensors(self.network.model.state_dict()), "classes": sha256_lines(self.classes)}


def image_config(model: str) -> Config | None:
    """The configuration of a run or folder that holds a network for still images; None for anything else."""
    folder = Path(model)
    inner = folder / "best" if (folder / "best").is_dir() else folder
    if (folder / "config.yaml").is_file():
        config = load_config([folder / "config.yaml"])
        return config if config.task in ("image", "expression") else None
    if not is_image_model(inner):
        return None
    meta = json.loads((inner / "model.json").read_text(encoding="utf-8"))
    return Config(task=meta["task"], image=ImageConfig(net=meta["net"], channels=meta["channels"]))


def load_predictor(
    model: str, config: Config, names: Sequence[str] | None = None, faces: bool = False
) -> ImagePredictor:
    """The network of a run, corrected after training where its configuration says so.

    Raises:
        ValueError: no network there, or `names` that are not its own classes.
    """
    network, meta = load_model(Path(model), config.image)
    classes = list(meta["classes"])
    if names is not None and [*names] != classes:
        raise ValueError(
            f"{model}: knows its own classes only ({', '.join(classes)}); leave --labels and --classes out"
        )
    counts = meta.get("counts")
    adjusted = PostHoc(network, torch.zeros(len(classes)))
    if counts is not None:
        adjusted = post_hoc(network, config.imbalance, counts)
    return ImagePredictor(adjusted, classes, meta["size"], config.image.channels, faces)

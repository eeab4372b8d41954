"""Image networks in use: their probabilities, with the correction of the class frequencies afterwards."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from PIL import Image
from torch import Tensor, nn

from mote.config import Config
from mote.config import load as load_config
from mote.config.imbalance_methods import POSTHOC_METHODS
from mote.config.sections import ImageConfig, ImbalanceConfig
from mote.datasets.face_crop import face_of_clip
from mote.datasets.images import read_image
from mote.datasets.transforms import eval_transform
from mote.files.hashes import sha256_lines, sha256_tensors
from mote.files.run_directory import config_file, model_folder, read_description
from mote.models import folders
from mote.models.feature_maps import CLIPImages
from mote.models.image_checkpoints import is_image_model, load_net
from mote.regularizers.long_tail import adjust_logits, checked_counts, tau_normalized


class PostHoc(NamedTuple):
    """A network with a feature map, and what is added to its logits, (K,)."""

    model: nn.Module
    offset: Float[Tensor, "K"]

    def score(self, images: Num[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K h w"]]:
        """Corrected logits, and the logits of every place, which are not corrected by the offset."""
        model: Any = self.model
        pooled, features = model.encode(images)
        logits = model.classify(pooled)
        return logits + self.offset.to(logits), model.place_logits(features)


def post_hoc(model: nn.Module, settings: ImbalanceConfig, counts: Sequence[int]) -> PostHoc:
    """The network as `settings.posthoc` wants it used; `counts`: the training samples of every class.

    A method that normalizes the head changes a copy: its head has normalised weights and no bias.
    """
    number, method = checked_counts(counts), POSTHOC_METHODS[settings.posthoc]
    offset = torch.zeros(len(number))
    if method.shifts_logits:
        offset = adjust_logits(offset.double(), number, settings.posthoc_tau)
    if method.normalizes_head:
        model = copy.deepcopy(model)
        head = cast(nn.Linear, cast(Any, model).net.fc)
        with torch.no_grad():
            head.weight.copy_(tau_normalized(head.weight, settings.posthoc_tau))
            head.bias.zero_()
    return PostHoc(model, offset)


def attention_shares(places: Float[Tensor, "B K h w"]) -> Float[Tensor, "B K"]:
    """Which part of the attention every class gets, from the logits of the places; rows sum to 1, in float64."""
    return places.double().softmax(dim=1).mean(dim=(2, 3))


def load_model(folder: Path, image: ImageConfig) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a run directory or model folder on the CPU in evaluation mode, and its description.

    Keys of the description: `classes`, `size`, `channels`; of task=expression also `counts`.
    """
    best = model_folder(folder)
    if image.net != "backbone":
        return load_net(best)
    loaded = folders.load_folder(best)
    assert loaded.classes is not None and loaded.tuned_text is not None  # train_images wrote them
    return CLIPImages(loaded.model, loaded.tuned_text).eval(), {**loaded.meta, "classes": loaded.classes}


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
    inner = model_folder(folder)
    if (file := config_file(folder)) is not None:
        config = load_config([file])
        return config if config.task in ("image", "expression") else None
    if not is_image_model(inner):
        return None
    meta = read_description(inner)
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

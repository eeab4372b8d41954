"""Networks for still images in use: their probabilities, with the correction of the class frequencies afterwards."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from PIL import Image
from torch import Tensor, nn

from mote.config.imbalance_methods import POSTHOC_METHODS
from mote.config.sections import ImbalanceConfig
from mote.datasets.face_crop import NoFaceError, face_of_image
from mote.datasets.images import BadImageError, read_image
from mote.datasets.transforms import eval_transform
from mote.files.hashes import sha256_lines
from mote.files.preprocessing import CUT_FIRST, Preprocessing
from mote.files.run_directory import model_folder
from mote.files.tensor_hashes import sha256_tensors
from mote.inference.asked import ONE_VIEW, Source, Views
from mote.inference.pipeline import File, NamesFiles, Outcome, ranked
from mote.models.description import check_present
from mote.models.feature_maps import CLIPImages
from mote.models.folders import load_folder
from mote.models.image_checkpoints import load_net
from mote.parallel.cores import all_cores
from mote.regularizers.long_tail import adjust_logits, checked_counts, tau_normalized


@dataclass(frozen=True, repr=False)
class ImageClassifier(NamesFiles):
    """A network that names still images.

    net: images (B, C, S, S) in 0..255 -> logits (B, K). classes: K names. meta: content of model.json: `size` (S),
    `channels` (C), and `counts`, training images of every class, where it was trained with task=expression. offset:
    added to the logits, see `corrected`. pixels: how pictures become images; None = the network's own way.
    """

    net: nn.Module
    classes: list[str]
    meta: Mapping[str, Any]
    device: torch.device
    offset: Float[Tensor, "K"] | None = None
    pixels: Preprocessing | None = None
    source: Source | None = None
    kind: Literal["image"] = "image"

    @property
    def size(self) -> int:
        """Side of the images it takes, in pixels."""
        return self.meta["size"]

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become its images."""
        own: Preprocessing = getattr(self.net, "preprocessing", CUT_FIRST)
        return own if self.pixels is None else self.pixels

    @property
    def counts(self) -> list[int] | None:
        """Training images of every class; None where it does not attend to places (task=image)."""
        return self.meta.get("counts")

    def logits(self, images: Num[Tensor, "B C S S"]) -> Float[Tensor, "B K"]:
        """Corrected logits."""
        logits = self.net(images.to(self.device))
        return logits if self.offset is None else logits + self.offset.to(logits)

    def logits_and_places(
        self, images: Num[Tensor, "B C S S"]
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K h w"]]:
        """Corrected logits, and the logits of every place of the feature map, which are not corrected."""
        net: Any = self.net
        pooled, features = net.encode(images.to(self.device))
        logits = net.classify(pooled)
        return logits if self.offset is None else logits + self.offset.to(logits), net.place_logits(features)

    def chosen(self, class_names: Sequence[str] | None) -> list[str]:
        """Its own classes; raises ValueError where others are asked for."""
        if class_names is not None and [*class_names] != self.classes:
            where = "" if self.source is None else f"{self.source.model}: "
            raise ValueError(
                f"{where}knows its own classes only ({', '.join(self.classes)}); leave --labels and --classes out"
            )
        return self.classes

    def corrected(self, settings: ImbalanceConfig, class_names: Sequence[str] | None = None) -> "ImageClassifier":
        """The network as `settings.posthoc` wants it used; as it is where it does not know its training counts.

        A method that normalises the head changes a copy, whose head has normalised weights and no bias.
        """
        if self.counts is None:
            return self
        counts, method = checked_counts(self.counts), POSTHOC_METHODS[settings.posthoc]
        offset, net = torch.zeros(len(counts)), self.net
        if method.shifts_logits:
            offset = adjust_logits(offset.double(), counts, settings.posthoc_tau)
        if method.normalizes_head:
            net = copy.deepcopy(net)
            head = cast(nn.Linear, cast(Any, net).net.fc)
            with torch.no_grad():
                head.weight.copy_(tau_normalized(head.weight, settings.posthoc_tau))
                head.bias.zero_()
        return replace(self, net=net, offset=offset)

    def hashes(self, class_names: Sequence[str] | None = None) -> dict[str, str]:
        """SHA-256 of weights and class names."""
        return {"weights": sha256_tensors(self.net.state_dict()), "classes": sha256_lines(self.classes)}

    def outcomes(
        self, files: Iterable[File], class_names: Sequence[str], views: Views = ONE_VIEW, **options: Any
    ) -> Iterator[tuple[File, Outcome]]:
        """Scores of the central square of each image file, or of its largest face; images are read in threads.

        Raises:
            ValueError: several views; scores that are no numbers.
        """
        if (views.clips, views.crops) != (1, 1):
            raise ValueError("clips and crops are for videos; this is a network for still images")
        return self._named(files, views.faces)

    def _named(self, files: Iterable[File], faces: bool) -> Iterator[tuple[File, Outcome]]:
        @torch.inference_mode()
        def named(file: File) -> tuple[File, Outcome]:
            try:
                logits = self.logits(self._pixels(Path(file), faces)[None])[0]
            except (BadImageError, NoFaceError) as error:
                return file, error
            return file, ranked(logits.double().softmax(dim=0).cpu(), self.classes, file)

        with all_cores(self.device) as ordered_map:
            yield from ordered_map(named, files)

    def _pixels(self, path: Path, faces: bool) -> UInt8[Tensor, "C S S"]:
        channels = self.meta["channels"]
        pixels = read_image(path, 3 if faces else channels)
        if faces:
            face = face_of_image(pixels, path)
            pixels = face if channels == 3 else np.array(Image.fromarray(face).convert("L"))[..., None]
        colour = pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2)
        return eval_transform(colour[None], self.size, preprocessing=self.preprocessing)[0, 0, :channels]


def attention_shares(places: Float[Tensor, "B K h w"]) -> Float[Tensor, "B K"]:
    """Share of the attention that each class gets, from the logits of the places; rows sum to 1, in float64."""
    return places.double().softmax(dim=1).mean(dim=(2, 3))


def load_images(path: Path, clip_images: bool = False) -> ImageClassifier:
    """The network of a run directory or model folder, on the CPU.

    Args:
        path: run directory or model folder.
        clip_images: whether it is a CLIP (image.net=backbone), whose folder is that of a video model of one frame.

    Raises:
        ValueError, OSError: there is none.
    """
    device = torch.device("cpu")
    if not clip_images:
        net, meta = load_net(model_folder(path))
        return ImageClassifier(net.eval(), list(meta["classes"]), meta, device)
    loaded = load_folder(model_folder(path))
    check_present(loaded.meta, ("classes", "size", "channels"), path)
    if loaded.classes is None or loaded.tuned_text is None:
        raise ValueError(f"{path}: has no features of its classes (tuned_text), which CLIP on still images needs")
    return ImageClassifier(CLIPImages(loaded.model, loaded.tuned_text).eval(), loaded.classes, loaded.meta, device)

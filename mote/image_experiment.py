"""What a configuration with task=image or task=expression amounts to: pictures, network, checkpoint."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mote import build, build_task
from mote.config import Config
from mote.datasets.images import ImageDataset, ImageList, read_images
from mote.datasets.manifest import Record, read_class_ids, read_class_names
from mote.models.checkpoints import save_model
from mote.models.clip import encode_classes
from mote.models.feature_maps import ClipImages, load_backbone
from mote.models.image_checkpoints import TIMM, image_classifier, load_net, save_net
from mote.models.image_nets import ImageClassifier
from mote.regularizers.long_tail import checked_counts
from mote.settings import ImageConfig
from mote.training.optim import Rule

BALANCED = ("sampler", "crt")  # methods whose batches have every class equally often


@dataclass
class ImageExperiment:
    """A configuration as objects, built but not yet trained.

    `size`: pixels. `counts`: training images of every class where task=expression, else None.
    """

    config: Config
    data: ImageList
    size: int
    task: nn.Module
    device: torch.device
    counts: list[int] | None = None

    @property
    def records(self) -> list[Record]:
        """What is trained on."""
        return self.data.records

    def rules(self) -> list[Rule]:
        """Learning rates, see `mote.training.loop.fit`."""
        if self.config.task == "expression" and self.config.imbalance.method == "crt":
            return [("model.net.fc.*", {"lr_scale": 1.0}), ("*", {"lr_scale": 0.0})]
        return [("*", {"lr_scale": self.config.optim.clip_lr_scale if self.config.image.net == "clip" else 1.0})]

    def loader(self) -> DataLoader:
        """Training batches, augmented."""
        balanced = self.config.task == "expression" and self.config.imbalance.method in BALANCED
        labels = [record.label for record in self.records] if balanced else None
        return build.training_loader(self.config, image_dataset(self.config, self.data, self.size, train=True), labels)

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits of a batch (B, K)."""
        return cast(Any, self.task).predict(batch)


def assemble_images(config: Config, device: torch.device) -> ImageExperiment:
    """Build everything that `config` names. Writes nothing.

    Raises:
        ValueError, OSError: settings, files or lists that do not fit.
    """
    if config.data.train is None:
        raise ValueError("data.train is not set; give it as an override, for example data.train=...")
    data = training_list(config)
    size, counts = picture_size(config, data), None
    if config.task == "expression":
        number = Counter(record.label for record in data.records)
        counts = [number[label] for label in range(len(data.classes))]
    model = build_model(config, data.classes, size, device)
    task = build_task.image_task(config, model, None if counts is None else checked_counts(counts, data.classes))
    return ImageExperiment(config, data, size, task, device, counts)


def build_model(config: Config, classes: list[str], size: int, device: torch.device) -> nn.Module:
    """The network of `config.image`; the same initial weights in every process.

    Raises:
        ValueError: a network that does not exist, has no feature map where the task needs one, or does not fit
            `image.init`.
    """
    image, expression = config.image, config.task == "expression"
    if image.net == "clip":
        towers = build.towers(config.model.clip, config.model.pretrained, config.seed)
        text = encode_classes(towers, classes, build.templates(config.data.templates), device=device)
        plain = config.model.model_copy(update={"layers": 0, "experts": 1})
        built = ClipImages(build.model(plain, towers), text)
        if expression:
            with torch.no_grad():  # a tower without patch tokens is refused now
                built.to(device).eval().encode(torch.zeros(1, 3, size, size, device=device))
        return built.train()
    init = None if image.init is None else Path(image.init)
    cosine = config.imbalance.scale if expression and config.imbalance.method == "ldam_drw" else None
    torch.manual_seed(config.seed)
    if init is not None and not (expression and init.is_file()):
        return _from_folder(init, config, classes, size, cosine)
    net = image_classifier(
        image.net,
        len(classes),
        mean=image.mean,
        std=image.std,
        dropout=image.dropout,
        pretrained=image.pretrained,
        maps=expression,
        cosine=cosine,
        in_channels=image.channels,
        size=size,
    )
    if init is not None:
        load_backbone(net, init)
    return net.to(memory_format=torch.channels_last) if expression else net  # type: ignore[call-overload]


def _from_folder(folder: Path, config: Config, classes: list[str], size: int, cosine: float | None) -> nn.Module:
    """The network of a run or model folder, with the dropout of the configuration; with method=crt its head is new.

    Raises:
        ValueError: no image network there, or one of another kind, other classes or other pictures.
    """
    image = config.image
    model, meta = load_net(folder / "best" if (folder / "best").is_dir() else folder)
    wanted = {"net": image.net, "classes": classes, "size": size, "channels": image.channels}
    odd = [key for key, value in wanted.items() if meta[key] != value]
    if config.task == "expression":
        fitting = hasattr(model.net, "forward_features") and hasattr(model.net, "fc")
        odd += [] if fitting and meta["sizes"].get("cosine") == cosine else ["last layer"]
    if odd:
        raise ValueError(f"image.init {folder}: has another {', '.join(odd)} than this run ({meta['net']})")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = image.dropout
    if config.task == "expression" and config.imbalance.method == "crt":
        cast(Any, model.net).fc.reset_parameters()
    return model.train()


def picture_size(config: Config, data: ImageList) -> int:
    """data.size; else that of packed pixels, or what the backbone takes.

    Raises:
        ValueError: nothing says how large.
    """
    if config.data.size is not None:
        return config.data.size
    if config.image.net == "clip":
        return build.towers(config.model.clip, config.model.pretrained, config.seed).image_size
    if config.image.net.startswith(TIMM):
        import timm

        pretrained = timm.get_pretrained_cfg(config.image.net.removeprefix(TIMM))
        if pretrained is not None:
            return pretrained.input_size[-1]
    if data.pixels is None:
        raise ValueError("data.size is not set; files may have any size, so say what the network is to see, in pixels")
    return data.pixels.shape[1]


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
        ValueError: no list, or classes of its own.
    """
    settings = config.evaluation
    if settings.manifest is None:
        raise ValueError("evaluation.manifest is not set; give a list of images: evaluation.manifest=test.csv")
    if settings.classes is not None:
        raise ValueError("evaluation.classes is for task=video; an image network knows its own classes only")
    return read_images(settings.manifest, settings.root, classes, settings.split)


def image_dataset(config: Config, data: ImageList, size: int, *, train: bool) -> ImageDataset:
    """Augmented images for training, else their central squares."""
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
    )


def load_model(folder: Path, image: ImageConfig) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a run directory or model folder on the CPU in evaluation mode, and its description.

    Keys of the description: `classes`, `size`, `channels`; of task=expression also `counts`.
    """
    best = folder / "best" if (folder / "best").is_dir() else folder
    if image.net != "clip":
        return load_net(best)
    loaded = build.load_folder(best)
    assert loaded.classes is not None and loaded.tuned_text is not None  # train_images wrote them
    return ClipImages(loaded.model, loaded.tuned_text).eval(), {**loaded.meta, "classes": loaded.classes}


def save_image_model(folder: Path, model: nn.Module, meta: dict[str, Any], config: Config) -> None:
    """Write `best/`: a network, or CLIP with its class features."""
    if not isinstance(model, ClipImages):
        save_net(folder, cast(ImageClassifier, model), meta)
        return
    templates = build.templates(config.data.templates)
    meta = {key: value for key, value in meta.items() if key != "task"}  # it is a whole CLIP, which mote.load takes too
    more = {"clip": config.model.clip, "pretrained": config.model.pretrained, "templates": templates, "frames": 1}
    save_model(folder, model.clip, {**meta, **more}, {"tuned_text": model.text})

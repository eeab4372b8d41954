"""What a configuration with task=image or task=expression amounts to: images, network, checkpoint."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mote.config import Config
from mote.config.imbalance_methods import METHODS
from mote.datasets.lists.images import ImageList
from mote.datasets.lists.manifest import Record
from mote.datasets.lists.reading import templates
from mote.evaluation.images import evaluate
from mote.evaluation.listings import evaluation_list, training_list
from mote.evaluation.views import image_dataset
from mote.experiments import loaders, parts
from mote.experiments.video import model as video_model
from mote.files.names import name_difference
from mote.files.run_directory import model_folder
from mote.inference.images import ImageClassifier
from mote.models import folders
from mote.models.checkpoints import save_model
from mote.models.clip import encode_classes
from mote.models.feature_maps import CLIPImages, load_net_weights
from mote.models.image_checkpoints import TIMM, image_classifier, load_net, save_net
from mote.models.image_nets import ImageClassifier as ImageNet
from mote.parallel.accelerator import Accelerator
from mote.regularizers.long_tail import checked_counts
from mote.tasks.image import ImageTask
from mote.training.optim import Rule


@dataclass
class ImageExperiment:
    """A configuration as objects, built but not yet trained.

    `size`: pixels. `counts`: training images of every class where task=expression, else None. `held_out`: the
    images of `evaluation.manifest`.
    """

    config: Config
    data: ImageList
    size: int
    task: nn.Module
    device: torch.device
    counts: list[int] | None = None
    held_out: ImageList | None = None

    item = "image"
    smallest_batch = 1
    max_skipped = 0

    @property
    def records(self) -> list[Record]:
        """What is trained on."""
        return self.data.records

    @property
    def classes(self) -> list[str]:
        """Class names."""
        return self.data.classes

    def evaluate(self, task: nn.Module, accelerator: Accelerator, out: Path, *, page: bool) -> dict[str, Any]:
        """Score the weights of `task`; see `mote.evaluation.images.evaluate`."""
        net = cast(ImageTask, task).model
        model = ImageClassifier(net, self.data.classes, self.meta(), self.device)
        return evaluate(model, self.config, accelerator, out, data=self.held_out, page=page)

    def save(self, task: nn.Module, folder: Path, selected: str) -> None:
        """Write a network, or CLIP with its class features."""
        config, model = self.config, cast(ImageTask, task).model
        meta = {**self.meta(), "seed": config.seed, "selected": selected}
        if not isinstance(model, CLIPImages):
            save_net(folder, cast(ImageNet, model), meta)
            return
        del meta["task"]  # it is a whole CLIP, which is loaded as a video model of one frame too
        meta |= {"backbone": config.model.backbone, "pretrained": config.model.pretrained, "frames": 1}
        meta["templates"] = templates(config.data.templates)
        save_model(folder, model.backbone, meta, {"tuned_text": model.text})

    def meta(self) -> dict[str, Any]:
        """What model.json says beside the sizes of the network."""
        config = self.config
        meta = {"net": config.image.net, "classes": self.data.classes, "size": self.size, "task": config.task}
        meta["channels"] = config.image.channels
        return meta if self.counts is None else {**meta, "counts": self.counts, "method": config.imbalance.method}

    def rules(self) -> list[Rule]:
        """Learning rates, see `mote.training.optim`."""
        if self.counts is not None and METHODS[self.config.imbalance.method].head_only:
            return [("model.net.fc.*", {"lr_scale": 1.0}), ("*", {"lr_scale": 0.0})]
        return [
            ("*", {"lr_scale": self.config.optim.backbone_lr_scale if self.config.image.net == "backbone" else 1.0})
        ]

    def loader(self) -> DataLoader:
        """Training batches, augmented."""
        balanced = self.counts is not None and METHODS[self.config.imbalance.method].balanced_batches
        labels = [record.label for record in self.records] if balanced else None
        own = getattr(cast(Any, self.task).model, "preprocessing", None)  # an autoencoder has none
        images = image_dataset(self.config, self.data, self.size, train=True, preprocessing=own)
        return loaders.training_loader(self.config, images, labels)

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits of a batch (B, K)."""
        return cast(Any, self.task).predict(batch)


def assemble(config: Config, accelerator: Accelerator) -> ImageExperiment:
    """Build everything that `config` names. Writes nothing.

    Raises:
        ValueError, OSError: settings, files or lists that do not fit.
    """
    return _assemble(config, accelerator.device, training_list(config), None)


def assemble_expressions(config: Config, accelerator: Accelerator) -> ImageExperiment:
    """`assemble` for task=expression: the network attends to places, and `config.imbalance` corrects unequal classes.

    Raises:
        ValueError, OSError: as `assemble`; a class without training images.
    """
    data = training_list(config)
    number = Counter(record.label for record in data.records)
    return _assemble(config, accelerator.device, data, [number[label] for label in range(len(data.classes))])


def _assemble(config: Config, device: torch.device, data: ImageList, counts: list[int] | None) -> ImageExperiment:
    size = image_size(config, data)
    model = build_model(config, data.classes, size, device, maps=counts is not None)
    data_settings = config.data
    if isinstance(model, CLIPImages):
        model.backbone.set_pixels(mean=data_settings.mean, std=data_settings.std, **data_settings.preprocessing)
    else:
        net = cast(ImageNet, model)
        net.preprocessing = net.preprocessing.changed(**data_settings.preprocessing)
    task = parts.image_task(config, model, None if counts is None else checked_counts(counts, data.classes))
    held_out = None
    if config.evaluation.manifest is not None:  # read now: a mistake in it should not cost a training
        held_out = evaluation_list(config, data.classes)
    return ImageExperiment(config, data, size, task, device, counts, held_out)


def build_model(config: Config, classes: list[str], size: int, device: torch.device, *, maps: bool) -> nn.Module:
    """The network of `config.image`; the same initial weights in every process. `maps`: it must have a feature map.

    Raises:
        ValueError: a network that does not exist, has no feature map where the task needs one, or does not fit
            `image.init`.
    """
    image = config.image
    if image.net == "backbone":
        towers = folders.towers(config.model.backbone, config.model.pretrained, config.seed)
        text = encode_classes(towers, classes, templates(config.data.templates), device=device)
        plain = config.model.model_copy(update={"layers": 0, "experts": 1})
        built = CLIPImages(video_model(plain, towers), text)
        if maps:
            with torch.no_grad():  # a tower without patch tokens is refused now
                built.to(device).eval().encode(torch.zeros(1, 3, size, size, device=device))
        return built.train()
    init = None if image.init is None else Path(image.init)
    cosine = config.imbalance.scale if maps and METHODS[config.imbalance.method].cosine_head else None
    torch.manual_seed(config.seed)
    if init is not None and not (maps and init.is_file()):
        return _from_folder(init, config, classes, size, cosine, maps=maps)
    net = image_classifier(
        image.net,
        len(classes),
        mean=image.mean,
        std=image.std,
        dropout=image.dropout,
        pretrained=image.pretrained,
        maps=maps,
        cosine=cosine,
        in_channels=image.channels,
        size=size,
    )
    if init is not None:
        load_net_weights(net, init)
    return net.to(memory_format=torch.channels_last) if maps else net  # type: ignore[call-overload]


def _from_folder(
    folder: Path, config: Config, classes: list[str], size: int, cosine: float | None, *, maps: bool
) -> nn.Module:
    """The network of a run or model folder, with the dropout of the configuration, and a new head where only that
    is trained.

    Raises:
        ValueError: no image network there, or one of another kind, other classes or other images.
    """
    image = config.image
    model, meta = load_net(model_folder(folder))
    wanted = {"net": image.net, "classes": classes, "size": size, "channels": image.channels}
    odd = [key for key, value in wanted.items() if meta[key] != value]
    if "classes" in odd and name_difference(meta["classes"], classes) is None:  # spelled in other code points
        odd.remove("classes")
    if maps:
        fitting = hasattr(model.net, "forward_features") and hasattr(model.net, "fc")
        odd += [] if fitting and meta["sizes"].get("cosine") == cosine else ["last layer"]
    if odd:
        names = name_difference(meta["classes"], classes) if "classes" in odd else None
        more = f": {names}" if names else ""
        raise ValueError(f"image.init {folder}: has another {', '.join(odd)} than this run ({meta['net']}){more}")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = image.dropout
    if maps and METHODS[config.imbalance.method].head_only:
        cast(Any, model.net).fc.reset_parameters()
    return model.train()


def image_size(config: Config, data: ImageList) -> int:
    """data.size; else that of packed pixels, or what the backbone takes.

    Raises:
        ValueError: nothing says how large.
    """
    if config.data.size is not None:
        return config.data.size
    if config.image.net == "backbone":
        return folders.towers(config.model.backbone, config.model.pretrained, config.seed).image_size
    if config.image.net.startswith(TIMM):
        import timm

        pretrained = timm.get_pretrained_cfg(config.image.net.removeprefix(TIMM))
        if pretrained is not None:
            return pretrained.input_size[-1]
    if data.pixels is None:
        raise ValueError("data.size is not set; files may have any size, so say what the network is to see, in pixels")
    return data.pixels.shape[1]

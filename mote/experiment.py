"""What a training configuration amounts to: model, task, data and text, put together but not yet trained.

`mote train` trains it, `mote train --dry-run` measures it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mote import build, build_task
from mote.classifier import Classifier
from mote.config import Config
from mote.datasets.manifest import Record
from mote.datasets.video import VideoDataset
from mote.models.checkpoints import save_model
from mote.models.clip import TextTower, Towers, encode_classes
from mote.models.feature_maps import frame_maps
from mote.models.video_clip import VideoCLIP
from mote.regularizers.long_tail import checked_counts
from mote.tasks.video import VideoTask
from mote.training.optim import Rule


@dataclass
class Experiment:
    """A configuration as objects.

    `classes`: K names. `towers`: with the text tower as it is trained. `own_text`: that tower is not the original
    CLIP's, because it is tuned here or was by the model that training starts from. `size`: pixels.
    """

    config: Config
    classes: Sequence[str]
    records: Sequence[Record]
    templates: Sequence[str]
    towers: Towers
    model: VideoCLIP
    task: VideoTask
    own_text: bool
    size: int
    device: torch.device

    def class_text(self) -> Float[Tensor, "K D"]:
        """Class features of all templates as the text tower is now."""
        if self.task.class_features is None:
            return self.task.text
        return encode_classes(self.towers, self.classes, self.templates, device=self.device)

    def text_tower(self) -> TextTower:
        """The text tower as it is now, without adapters."""
        tower = cast(TextTower, self.towers.encode_text)
        return TextTower(_plain(tower.clip), tower.tokenizer)

    def classifier(self) -> Classifier:
        """The weights as they are now, experts folded and adapters merged, with all that a new vocabulary needs."""
        data, folded, build_towers = self.config.data, self.model.fold(), self._original
        folded.visual = _plain(folded.visual)
        return Classifier(
            folded,
            build_towers if not self.own_text else lambda: replace(build_towers(), encode_text=self.text_tower()),
            classes=list(self.classes),
            tuned_text=self.class_text(),
            templates=list(self.templates),
            frames=data.frames,
            size=self.size,
            difference=data.difference,
            device=self.device,
            meta=self._meta(),
        )

    def save(self, folder: Path, **meta: Any) -> None:
        """Write a model folder; adapters go into `adapters/vision` and `adapters/text` below it, in peft's format.

        The weights in `model.safetensors` and `text.safetensors` have the adapters merged: loading needs no adapters.
        """
        config, whole = self.config, self.model
        for name, tower, way in (
            ("vision", whole.visual, config.tuning.vision),
            ("text", getattr(self.towers.encode_text, "clip", None), config.tuning.text),
        ):
            if way == "lora":
                from mote.models.lora import save_adapters

                save_adapters(cast(Any, tower), folder / "adapters" / name)
        whole = whole.sharing_parameters()
        whole.visual = _plain(whole.visual)
        text = self.text_tower() if self.own_text else None
        save_model(folder, whole, {**self._meta(), **meta}, {"tuned_text": self.class_text()}, text_tower=text)

    def rules(self) -> list[Rule]:
        """Learning rates, see `mote.training.loop.fit`."""
        return [*build_task.learning_rules(self.config)]

    def predict(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "B K"]:
        """Logits of a batch, experts merged uniformly, for the class features that training started from."""
        return self.model.classify(self.model.head(self.task.features(batch)), self.task.text)

    def loader(self) -> DataLoader:
        """Training batches: augmented clips, or features of them cached now (`data.cache_features`)."""
        config, data, model = self.config, self.config.data, self.model
        dataset: VideoDataset | build.FeatureDataset = build.training_dataset(
            data, self.records, self.size, config.seed
        )
        if data.cache_features:
            single = config.evaluation.model_copy(update={"clips": 1, "crops": 1})
            views = build.evaluation_dataset(
                self.records, single, data, frames=data.frames, size=self.size, difference=data.difference
            )
            loader = build.evaluation_loader(views, config.evaluation.batch_size, data.workers)
            dataset = build.cache_features(model, loader, [record.label for record in self.records], self.device)
        labels = [record.label for record in self.records] if config.imbalance.method == "sampler" else None
        return build.training_loader(config, dataset, labels)

    def _original(self) -> Towers:
        return build.towers(self.config.model.clip, self.config.model.pretrained, self.config.seed)

    def _meta(self) -> dict[str, Any]:
        config = self.config
        return {
            "clip": config.model.clip,
            "pretrained": config.model.pretrained,
            "classes": list(self.classes),
            "templates": list(self.templates),
            "frames": config.data.frames,
            "size": self.size,
            "sampling": config.data.sampling,
            "stride": config.data.stride,
            "difference": config.data.difference,
            "seed": config.seed,
            "counts": class_counts(self.records, len(self.classes)),
            "method": config.imbalance.method,
        }


def assemble(config: Config, device: torch.device) -> Experiment:
    """Build everything that `config` names. Writes nothing.

    Raises:
        ValueError, OSError: settings, files or lists that do not fit.
    """
    data = config.data
    if data.train is None:
        raise ValueError("data.train is not set; give it as an override, for example data.train=...")
    classes = build.class_names(data.classes, data.train)
    records = build.records(data.train, data.root, classes, data.classes, data.split)
    start = build.init_text(config.model)
    towers = build.towers(config.model.clip, config.model.pretrained, config.seed, start)
    templates = build.templates(data.templates)
    text = encode_classes(towers, classes, templates, device=device)
    torch.manual_seed(config.seed)  # the same initial weights in every process
    model = build.model(config.model, towers, config.tuning)
    tuned = None if config.tuning.text == "frozen" else build.class_features(config, towers, classes, templates)
    size = data.size or towers.image_size
    counts = class_counts(records, len(classes))
    checked = None if config.imbalance.method == "ce" else checked_counts(counts, classes)
    task = build_task.task(config, model, text, tuned, checked)
    if task.long_tail is not None and task.long_tail.strength:
        with torch.no_grad():  # a tower without patch tokens is refused now
            frame_maps(model, torch.zeros(1, 1, 3, size, size))
    own_text = tuned is not None or start is not None
    return Experiment(config, classes, records, templates, towers, model, task, own_text, size, device)


def class_counts(records: Sequence[Record], num_classes: int) -> list[int]:
    """Training clips of every class."""
    counts = Counter(record.label for record in records)
    return [counts[label] for label in range(num_classes)]


def _plain(tower: nn.Module) -> nn.Module:
    """The tower without adapters: itself, or a copy into which they are merged."""
    if not hasattr(tower, "peft_config"):
        return tower
    from mote.models.lora import merged

    return merged(tower)

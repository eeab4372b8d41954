"""What a configuration with task=video amounts to: model, task, text and training clips, and how it is saved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mote.config import Config
from mote.config.imbalance_methods import METHODS
from mote.config.sections import ModelConfig, TuningConfig
from mote.datasets.lists.manifest import (
    Record,
)
from mote.datasets.lists.reading import templates
from mote.datasets.loader import FeatureDataset
from mote.datasets.video import VideoDataset
from mote.evaluation.listings import check_evaluation, training_listing
from mote.evaluation.videos import evaluate
from mote.evaluation.views import evaluation_dataset, evaluation_loader
from mote.experiments import loaders, parts
from mote.inference.classifier import VideoClassifier
from mote.models import folders
from mote.models.checkpoints import (
    save_model,
)
from mote.models.clip import ClassFeatures, TextTower, Towers, encode_classes
from mote.models.feature_maps import frame_maps
from mote.models.folders import load_folder
from mote.models.modulation import GATE, Gate
from mote.models.temporal import TemporalHead
from mote.models.video_clip import VideoCLIP
from mote.parallel.accelerator import Accelerator
from mote.regularizers.long_tail import checked_counts
from mote.tasks.video import VideoTask
from mote.training.optim import Rule


def model(config: ModelConfig, towers: Towers, tuning: TuningConfig | None = None) -> VideoCLIP:
    """A new temporal head on the towers' visual tower, or the model of `config.init`; with adapters by `tuning`.

    Raises:
        ValueError: `config.init` has other sizes than the configuration.
    """
    heads = config.heads or max(1, towers.text_width // 64)
    if config.layers and towers.embed_dim % heads:
        raise ValueError(f"model.heads={heads}: expected a divisor of the width {towers.embed_dim} of the tower")
    if config.init is not None:
        loaded = load_folder(config.init).model
        wanted = {"layers": config.layers, "experts": config.experts if config.layers else 1}
        wanted |= {"expert_part": config.expert_part if config.layers else "ffn"}
        found = {"layers": loaded.num_layers, "experts": loaded.num_experts, "expert_part": loaded.expert_part}
        if wanted != found:
            raise ValueError(f"model.init {config.init}: has {found}, the configuration says {wanted}; make them equal")
        built = loaded.requires_grad_(True)
    else:
        sizes = {"same_init": config.same_init, "expert_part": config.expert_part}
        width, layers = towers.embed_dim, config.layers
        head = TemporalHead(width, layers, heads, config.experts, **sizes) if layers else None
        pixels = {"mean": towers.mean, "std": towers.std, "preprocessing": towers.preprocessing}
        built = VideoCLIP(towers.visual, towers.logit_scale, head, embed_dim=width, **pixels)
    if tuning is not None and tuning.vision == "lora":
        from mote.models.lora import add_adapters

        example = torch.rand(1, 3, towers.image_size, towers.image_size, generator=torch.Generator().manual_seed(0))
        built.visual = add_adapters(built.visual, lambda tower: tower(example), **_adapters(tuning))
    if config.gradient_checkpointing:
        built.set_gradient_checkpointing(True)
    return built


def class_features(config: Config, towers: Towers, classes: Sequence[str], prompts: Sequence[str]) -> ClassFeatures:
    """Class features with gradient, of the first `tuning.text_prompts` prompts, for a text tower that is tuned."""
    tower = cast(TextTower, towers.encode_text)
    if config.tuning.text == "lora":
        from mote.models.lora import add_adapters

        tower.backbone = add_adapters(
            tower.backbone, lambda _: tower([prompts[0].replace("{}", classes[0])]), **_adapters(config.tuning)
        )
    features = ClassFeatures(tower, classes, prompts[: config.tuning.text_prompts])
    if config.model.gradient_checkpointing:
        features.set_gradient_checkpointing(True)
    return features


def _adapters(tuning: TuningConfig) -> dict[str, Any]:
    return {"preset": tuning.adapt, "rank": tuning.rank, "alpha": tuning.alpha}


@dataclass
class VideoExperiment:
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

    @property
    def item(self) -> str:
        """A sample is a clip."""
        return "clip"

    @property
    def smallest_batch(self) -> int:
        """One clip."""
        return 1

    @property
    def max_skipped(self) -> int:
        """Undecodable clips allowed in an epoch, by `data.max_bad_fraction`."""
        return int(self.config.data.max_bad_fraction * len(self.records) + 1e-9)

    def holding(self, task: nn.Module) -> "VideoExperiment":
        """The experiment with the weights of `task`, which under FSDP2 is a whole copy of the one in training."""
        task = cast(VideoTask, task)
        return replace(self, task=task, model=task.model)

    def evaluate(self, task: nn.Module, accelerator: Accelerator, out: Path, *, page: bool) -> dict[str, Any]:
        """Score the weights of `task`; see `mote.evaluation.videos.evaluate`."""
        config = self.config
        if config.vision_learns:  # every epoch would leave features in the cache that no other can use
            config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"cache": None})})
        return evaluate(self.holding(task).classifier(), config, accelerator, out, page=page)

    def class_text(self) -> Float[Tensor, "K D"]:
        """Class features of all templates as the text tower is now."""
        if self.task.class_features is None:
            return self.task.text
        return encode_classes(self.towers, self.classes, self.templates, device=self.device)

    def text_tower(self) -> TextTower:
        """The text tower as it is now, without adapters."""
        tower = cast(TextTower, self.towers.encode_text)
        return TextTower(_plain(tower.backbone), tower.tokenizer)

    def classifier(self) -> VideoClassifier:
        """The weights as they are now, experts folded and adapters merged, with all that a new vocabulary needs."""
        data, folded, build_towers = self.config.data, self.model.fold(), self._original
        folded.visual = _plain(folded.visual)
        return VideoClassifier(
            folded,
            build_towers if not self.own_text else lambda: replace(build_towers(), encode_text=self.text_tower()),
            classes=list(self.classes),
            tuned_text=self.class_text(),
            templates=list(self.templates),
            frames=data.frames,
            size=self.size,
            difference=data.difference,
            device=self.device,
            sampling=data.sampling,
            stride=data.stride,
            decoder=data.decoder,
            modulation=self.config.evaluation.modulation,
            modulation_gate=self._gate(),
            meta=self._meta(),
        )

    def save(self, task: nn.Module, folder: Path, selected: str) -> None:
        """Write a model folder, and `adapters/` where there are any.

        In `model.safetensors` and `text.safetensors` the adapters are merged, so loading needs none.
        """
        self.holding(task)._save(folder, selected)

    def _save(self, folder: Path, selected: str) -> None:
        config, whole = self.config, self.model
        for name, tower, way in (
            ("vision", whole.visual, config.tuning.vision),
            ("text", getattr(self.towers.encode_text, "backbone", None), config.tuning.text),
        ):
            if way == "lora":
                from mote.models.lora import save_adapters

                save_adapters(cast(Any, tower), folder / "adapters" / name)
        whole = whole.sharing_parameters()
        whole.visual = _plain(whole.visual)
        text = self.text_tower() if self.own_text else None
        save_model(
            folder, whole, {**self._meta(), "selected": selected}, {"tuned_text": self.class_text()}, text_tower=text
        )

    def rules(self) -> list[Rule]:
        """Learning rates, see `mote.training.optim`."""
        return [*parts.learning_rules(self.config)]

    def predict(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "B K"]:
        """Logits of a batch, experts merged uniformly, for the class features that training started from."""
        return self.model.classify(self.model.head(self.task.features(batch)), self.task.text)

    def loader(self) -> DataLoader:
        """Training batches: augmented clips, or features of them cached now (`data.cache_features`)."""
        config, data, model = self.config, self.config.data, self.model
        dataset: VideoDataset | FeatureDataset = loaders.training_dataset(
            data, self.records, self.size, config.seed, model.preprocessing
        )
        if data.cache_features:
            single = config.evaluation.model_copy(update={"clips": 1, "crops": 1})
            made = {"frames": data.frames, "size": self.size, "difference": data.difference}
            views = evaluation_dataset(self.records, single, data, **made, preprocessing=model.preprocessing)
            loader = evaluation_loader(views, config.evaluation.batch_size, data.workers)
            dataset = loaders.cache_features(model, loader, [record.label for record in self.records], self.device)
        balanced = METHODS[config.imbalance.method].balanced_batches
        labels = [record.label for record in self.records] if balanced else None
        return loaders.training_loader(config, dataset, labels)

    def _original(self) -> Towers:
        return folders.towers(self.config.model.backbone, self.config.model.pretrained, self.config.seed)

    def _gate(self) -> Gate:
        asked = self.config.evaluation
        return GATE.changed(asked.modulation_k, asked.modulation_gamma)

    def _meta(self) -> dict[str, Any]:
        config = self.config
        return {
            "backbone": config.model.backbone,
            "pretrained": config.model.pretrained,
            "classes": list(self.classes),
            "templates": list(self.templates),
            "frames": config.data.frames,
            "size": self.size,
            "sampling": config.data.sampling,
            "stride": config.data.stride,
            "difference": config.data.difference,
            "decoder": config.data.decoder,
            "modulation": config.evaluation.modulation,
            "modulation_k": self._gate().k,
            "modulation_gamma": self._gate().gamma,
            "seed": config.seed,
            "counts": parts.class_counts(self.records, len(self.classes)),
            "method": config.imbalance.method,
        }


def assemble(config: Config, accelerator: Accelerator) -> VideoExperiment:
    """Build everything that `config` names. Writes nothing.

    Raises:
        ValueError, OSError: settings, files or lists that do not fit.
    """
    if accelerator.is_fsdp2 and config.tuning.text != "frozen":
        raise ValueError("tuning.text needs the text tower whole in every process; launch without FSDP")
    data, device = config.data, accelerator.device
    assert data.train is not None  # `experiments.assemble.assemble` refuses it
    listing = training_listing(data)
    classes = listing.names()
    records = listing.records(classes)
    parts.check_init(config.model, classes)
    if config.evaluation.manifest is not None:  # a mistake in it should not cost a training
        check_evaluation(config.evaluation, classes)
    start = parts.init_text(config.model)
    towers = folders.towers(config.model.backbone, config.model.pretrained, config.seed, start)
    prompts = templates(data.templates)
    if config.tuning.text != "frozen" and config.tuning.text_prompts > len(prompts):
        raise ValueError(
            f"tuning.text_prompts={config.tuning.text_prompts}: there are {len(prompts)} templates; lower it"
        )
    text = encode_classes(towers, classes, prompts, device=device)
    torch.manual_seed(config.seed)  # the same initial weights in every process
    built = model(config.model, towers, config.tuning)
    built.set_pixels(mean=data.mean, std=data.std, **data.preprocessing)
    tuned = None if config.tuning.text == "frozen" else class_features(config, towers, classes, prompts)
    if built.temporal is not None and data.frames > len(built.temporal.position):
        longest = len(built.temporal.position)
        raise ValueError(f"data.frames={data.frames}: the temporal head has positions for {longest} frames; lower it")
    size = data.size or towers.image_size
    counts = parts.class_counts(records, len(classes))
    checked = None if METHODS[config.imbalance.method].plain else checked_counts(counts, classes)
    task = parts.task(config, built, text, tuned, checked)
    if task.long_tail is not None and task.long_tail.strength:
        with torch.no_grad():  # a tower without patch tokens is refused now
            frame_maps(built, torch.zeros(1, 1, 3, size, size))
    own_text = tuned is not None or start is not None
    return VideoExperiment(config, classes, records, prompts, towers, built, task, own_text, size, device)


def _plain(tower: nn.Module) -> nn.Module:
    """The tower without adapters: itself, or a copy into which they are merged."""
    if not hasattr(tower, "peft_config"):
        return tower
    from mote.models.lora import merged

    return merged(tower)

"""From configuration to objects: the only translator. Modules get keyword arguments and never see the config."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mote.config import Config
from mote.datasets.agreement import check_folders
from mote.datasets.images import ImageDataset
from mote.datasets.loader import ClassBalancedSampler, EpochSampler, FeatureDataset, make_loader
from mote.datasets.manifest import (
    Record,
    manifest_classes,
    read_class_ids,
    read_class_names,
    read_manifest,
    read_templates,
)
from mote.datasets.tar_shards import shard_numbers
from mote.datasets.video import VideoDataset
from mote.mixing import Mixer
from mote.models.autoencoder import is_autoencoder
from mote.models.checkpoints import (
    DESCRIPTION,
    LoadedModel,
    is_reference_checkpoint,
    load_model,
    load_reference,
    load_text,
)
from mote.models.clip import ClassFeatures, TextTower, Towers, default_templates, load_clip
from mote.models.image_checkpoints import is_image_model
from mote.models.video_clip import VideoCLIP
from mote.settings import (
    DataConfig,
    EvaluationConfig,
    ImbalanceConfig,
    MixingConfig,
    ModelConfig,
    SparsityConfig,
    TuningConfig,
)
from mote.sparsity.groups import find_groups
from mote.sparsity.lasso import GroupLasso
from mote.tasks.expression import ExpressionTask
from mote.tasks.image import ImageTask
from mote.tasks.long_tail import Deferral, LongTailLoss
from mote.tasks.video import VideoTask
from mote.training.step import AfterUpdate

SizedDataset = VideoDataset | FeatureDataset | ImageDataset


def class_names(classes: str | None, manifest: str) -> list[str]:
    """Names from the class file, else from the manifest itself (folders, or names in a CSV)."""
    return manifest_classes(manifest) if classes is None else read_class_names(classes)


def records(
    manifest: str, root: str | None, names: Sequence[str] | None, classes: str | None, split: str | None
) -> list[Record]:
    """The records of a manifest; ids in the class file (a dataset's folder names) are understood beside the names.

    Raises:
        ManifestError: a list that cannot be read, or labels that its videos' folders contradict.
    """
    ids = read_class_ids(classes) if classes is not None else None
    found = read_manifest(manifest, root, names, split, ids=ids)
    if names is not None:
        check_folders(manifest, found, names, ids)
    return found


def templates(file: str | None) -> list[str]:
    """Prompt templates of the file, or the 28 of the method."""
    return default_templates() if file is None else read_templates(file)


def load_folder(path: str | Path) -> LoadedModel:
    """A model from an authors' checkpoint, a model folder or file, or the `best` folder of a run directory."""
    path = Path(path)
    if is_reference_checkpoint(path):
        return load_reference(path)
    inner = path / "best"
    if (path / "config.yaml").is_file() and not inner.is_dir() and not (path / DESCRIPTION).is_file():
        raise ValueError(f"{path}: this run has no model yet; let it finish (mote train {path} --resume)")
    folder = inner if inner.is_dir() else path
    if is_image_model(folder):
        raise ValueError(f"{folder}: holds a network for still images; only mote eval and mote predict take it")
    if is_autoencoder(folder):
        raise ValueError(
            f"{folder}: holds an autoencoder, no video model; mote eval scores it, mote sample draws of it"
        )
    return load_model(folder)


def towers(clip: str, pretrained: str | None, seed: int, text_weights: Path | None = None) -> Towers:
    """The original CLIP of a run; `seed` makes random weights (pretrained="random") the same ones every time.

    `text_weights`: file of a tuned text tower, which takes the place of the original one.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        found = load_clip(clip, pretrained)
    if text_weights is not None:
        load_text(text_weights, cast(TextTower, found.encode_text))
    return found


def init_text(config: ModelConfig) -> Path | None:
    """File of the tuned text tower that belongs to `config.init`; None where it has none."""
    return None if config.init is None else load_folder(config.init).text_weights


def model(config: ModelConfig, towers: Towers, tuning: TuningConfig | None = None) -> VideoCLIP:
    """A new temporal head on the towers' visual tower, or the model of `config.init`; with adapters by `tuning`.

    Raises:
        ValueError: `config.init` has other sizes than the configuration.
    """
    heads = config.heads or max(1, towers.text_width // 64)
    if config.init is not None:
        loaded = load_folder(config.init).model
        wanted = {"layers": config.layers, "experts": config.experts if config.layers else 1}
        wanted |= {"expert_part": config.expert_part if config.layers else "ffn"}
        found = {"layers": loaded.num_layers, "experts": loaded.num_experts, "expert_part": loaded.expert_part}
        if wanted != found:
            raise ValueError(f"model.init {config.init}: has {found}, the configuration says {wanted}; make them equal")
        built = loaded.requires_grad_(True)
    else:
        built = VideoCLIP(
            towers.visual,
            towers.logit_scale,
            embed_dim=towers.embed_dim,
            mean=towers.mean,
            std=towers.std,
            num_layers=config.layers,
            num_experts=config.experts,
            num_heads=heads,
            same_init=config.same_init,
            expert_part=config.expert_part,
        )
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

        tower.clip = add_adapters(
            tower.clip, lambda _: tower([prompts[0].replace("{}", classes[0])]), **_adapters(config.tuning)
        )
    features = ClassFeatures(tower, classes, prompts[: config.tuning.text_prompts])
    if config.model.gradient_checkpointing:
        features.set_gradient_checkpointing(True)
    return features


def _adapters(tuning: TuningConfig) -> dict[str, Any]:
    return {"preset": tuning.adapt, "rank": tuning.rank, "alpha": tuning.alpha}


def task(
    config: Config,
    built: VideoCLIP,
    text: Float[Tensor, "K D"],
    tuned: ClassFeatures | None = None,
    counts: Int64[Tensor, "K"] | None = None,
) -> VideoTask:
    """The video task with the loss weights of the configuration.

    `tuned`: see `class_features`; `counts`: training clips of every class, for another imbalance.method than ce.
    """
    loss, method = config.loss, config.imbalance.method
    return VideoTask(
        built,
        text,
        class_features=tuned,
        merged_weight=loss.merged_weight,
        anchor_weight=loss.anchor_weight,
        anchor=loss.anchor,
        routing=loss.routing,
        merged=loss.merged,
        route_temperature=loss.route_temperature,
        merge_temperatures=loss.merge_temperatures,
        r_drop_weight=config.r_drop.weight,
        r_drop_temperature=config.r_drop.temperature,
        long_tail=None if counts is None or method == "ce" else LongTailLoss(counts, **correction(config.imbalance)),
    )


LOSS_OF = {  # imbalance.method -> (loss of mote.regularizers.long_tail, its options by setting)
    "weighted": ("weighted_ce", {}),
    "focal": ("focal", {"gamma": "gamma"}),
    "class_balanced": ("class_balanced", {"beta": "beta"}),
    "ldam_drw": ("ldam", {"beta": "beta", "max_margin": "margin"}),
    "logit_adjustment": ("logit_adjustment", {"tau": "tau"}),
    "balanced_softmax": ("balanced_softmax", {}),
    "smoothing": ("label_smoothing", {"epsilon": "epsilon"}),
}


def image_task(config: Config, built: nn.Module, counts: Int64[Tensor, "K"] | None) -> nn.Module:
    """The task of task=image, or of task=expression with the method of `config.imbalance`.

    `counts`: training samples of every class, as of `long_tail.checked_counts`; for task=expression.
    """
    r_drop: Any = {"r_drop_weight": config.r_drop.weight, "r_drop_temperature": config.r_drop.temperature}
    if config.task == "image":
        return ImageTask(built, **r_drop)
    assert counts is not None
    head_only = config.imbalance.method == "crt"
    return ExpressionTask(built, counts, head_only=head_only, **r_drop, **correction(config.imbalance))


def correction(settings: ImbalanceConfig) -> dict[str, Any]:
    """What `LongTailLoss` takes for `imbalance.method`."""
    loss, options = LOSS_OF.get(settings.method, ("ce", {}))
    return {
        "loss": loss,
        "options": {name: getattr(settings, key) for name, key in options.items()},
        "epsilon": settings.epsilon if settings.method == "mek" else 0.0,
        "strength": settings.strength if settings.method in ("mek", "consistency") else 0.0,
        "rebalanced": settings.method == "mek",
    }


def after_update(config: Config, task: nn.Module) -> AfterUpdate | None:
    """What changes the task after every update: group lasso, or deferred re-weighting.

    Raises:
        ValueError: both at once; groups or layers that the model does not have.
    """
    lasso = group_lasso(config.sparsity, task)
    loss = getattr(task, "long_tail", None)
    if loss is None or config.imbalance.method != "ldam_drw":
        return lasso
    if lasso is not None:
        raise ValueError("sparsity and imbalance.method=ldam_drw cannot be combined; set sparsity.strength=0")
    return Deferral(loss, config.imbalance.defer)


def mixer(config: MixingConfig, num_classes: int) -> Mixer | None:
    """What mixes the training batches, or None where nothing is to be mixed."""
    if not config.methods or config.probability == 0:
        return None
    return Mixer(
        config.methods,
        num_classes,
        alpha=config.alpha,
        ratio=config.ratio,
        extent=config.extent,
        probability=config.probability,
        per_sample=config.per_sample,
    )


def group_lasso(config: SparsityConfig, task: nn.Module) -> GroupLasso | None:
    """What makes groups of the task's parameters zero, or None at strength 0.

    Raises:
        ValueError: groups or layers that the model does not have.
    """
    if not config.strength:
        return None
    groups = find_groups(task, config.groups, {f"*.{key}": value for key, value in config.layers.items()})
    schedule = {"start": config.start, "ramp": config.ramp, "stop": config.stop}
    return GroupLasso(task, groups, strength=config.strength, **schedule)


def learning_rules(config: Config) -> list[tuple[str, dict[str, float]]]:
    """Parameter patterns, first match wins: the temporal head and the adapters at their rate, the CLIP towers and
    logit_scale at `optim.clip_lr_scale`, nothing for what is frozen.
    """
    tuning, clip = config.tuning, config.optim.clip_lr_scale
    rates = [(pattern, 0.0) for pattern in tuning.freeze]
    if "lora" in (tuning.vision, tuning.text):
        rates.append(("*.lora_[AB].*", tuning.lr_scale))
    if config.model.layers:
        rates.append(("model.temporal.*", 1.0))
    if tuning.vision != "full":
        rates.append(("model.visual.*", 0.0))
    if tuning.text != "frozen":
        rates.append(("class_features.*.logit_*", 0.0))  # the model has its own; the text tower does not use it
    if tuning.text == "lora":
        rates.append(("class_features.*", 0.0))
    return [(pattern, {"lr_scale": rate}) for pattern, rate in (*rates, ("*", clip))]


def training_dataset(data: DataConfig, records: Sequence[Record], size: int, seed: int) -> VideoDataset:
    """Randomly cropped, flipped and sampled training clips."""
    return VideoDataset(
        records,
        num_frames=data.frames,
        size=data.size or size,
        train=True,
        seed=seed,
        sampling=data.sampling,
        stride=data.stride,
        difference=data.difference,
        near_keyframes=data.near_keyframes,
        scale=data.crop_scale,
        flip=data.flip,
        grayscale=data.grayscale,
        on_error="mark",
        timeout=data.decode_timeout,
    )


def training_loader(config: Config, dataset: SizedDataset, labels: Sequence[int] | None = None) -> DataLoader:
    """Shuffled by (seed, epoch); its batch size is that of one optimizer step, which the loop cuts up.

    `labels`: of every item, where each class is to be drawn equally often.
    """
    sampler = EpochSampler(len(dataset), config.seed) if labels is None else ClassBalancedSampler(labels, config.seed)
    if labels is None and config.data.shuffle_shards is not None and isinstance(dataset, VideoDataset):
        numbers = shard_numbers([record.path for record in dataset.records])
        sampler = EpochSampler(len(dataset), config.seed, groups=numbers, window=config.data.shuffle_shards)
    workers = 0 if isinstance(dataset, FeatureDataset) else config.data.workers
    return make_loader(dataset, config.optim.batch_size, sampler=sampler, workers=workers, drop_last=True)


def evaluation_dataset(
    records: Sequence[Record], settings: EvaluationConfig, data: DataConfig, *, frames: int, size: int, difference: int
) -> VideoDataset:
    """All views of every record; undecodable ones are marked, what to do with them is the caller's decision."""
    return VideoDataset(
        records,
        num_frames=frames,
        size=size,
        train=False,
        num_clips=settings.clips,
        num_crops=settings.crops,
        sampling=data.sampling,
        stride=data.stride,
        difference=difference,
        on_error="mark",
        timeout=data.decode_timeout,
    )


def evaluation_loader(
    dataset: SizedDataset, batch_size: int, workers: int, indices: Sequence[int] | None = None
) -> DataLoader:
    """Every record once, in order, or those at `indices`."""
    sampler = range(len(dataset)) if indices is None else indices
    return make_loader(dataset, batch_size, sampler=sampler, workers=workers, drop_last=False)


@torch.inference_mode()
def cache_features(built: VideoCLIP, loader: DataLoader, labels: Sequence[int], device: torch.device) -> FeatureDataset:
    """Frame features of every record of an evaluation loader (single view), encoded once.

    Raises:
        ValueError: a record could not be decoded.
    """
    from tqdm import tqdm

    parts = []
    for batch in tqdm(loader, desc="encode", unit="batch", disable=None):
        if not batch["valid"].all():
            bad = batch["index"][~batch["valid"]].tolist()
            raise ValueError(f"training clips {bad} (from 0) cannot be decoded; remove them from the list")
        parts.append(built.to(device).eval().encode_frames(batch["frames"][:, 0].to(device)).float().cpu())
    return FeatureDataset(torch.cat(parts).clone(), torch.tensor(labels))

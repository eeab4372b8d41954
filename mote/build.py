"""From configuration to objects: the only translator. Modules get keyword arguments and never see the config."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mote.config import Config, DataConfig, EvaluationConfig, MixingConfig, ModelConfig, SparsityConfig
from mote.datasets.agreement import check_folders
from mote.datasets.images import ImageDataset
from mote.datasets.loader import EpochSampler, FeatureDataset, make_loader
from mote.datasets.manifest import (
    Record,
    manifest_classes,
    read_class_ids,
    read_class_names,
    read_manifest,
    read_templates,
)
from mote.datasets.video import VideoDataset
from mote.mixing import Mixer
from mote.models.checkpoints import LoadedModel, is_reference_checkpoint, load_model, load_reference
from mote.models.clip import Towers, default_templates, load_clip
from mote.models.video_clip import VideoCLIP
from mote.sparsity.groups import find_groups
from mote.sparsity.lasso import GroupLasso
from mote.tasks.video import VideoTask

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
    """A model from an authors' checkpoint, a model folder, or the `best` folder of a run directory."""
    path = Path(path)
    if is_reference_checkpoint(path):
        return load_reference(path)
    inner = path / "best"
    if path.is_dir() and not inner.is_dir() and (path / "config.yaml").is_file():
        raise ValueError(f"{path}: this run has no model yet; let it finish (mote train {path} --resume)")
    return load_model(inner if inner.is_dir() else path)


def towers(clip: str, pretrained: str | None, seed: int) -> Towers:
    """The original CLIP of a run; `seed` makes random weights (pretrained="random") the same ones every time."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return load_clip(clip, pretrained)


def model(config: ModelConfig, towers: Towers) -> VideoCLIP:
    """A new temporal head on the towers' visual tower, or the model of `config.init`.

    Raises:
        ValueError: `config.init` has other sizes than the configuration.
    """
    heads = config.heads or max(1, towers.text_width // 64)
    if config.init is not None:
        loaded = load_folder(config.init).model
        wanted = {"layers": config.layers, "experts": config.experts if config.layers else 1}
        found = {"layers": loaded.num_layers, "experts": loaded.num_experts}
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
        )
    if config.gradient_checkpointing:
        built.set_gradient_checkpointing(True)
    return built


def task(config: Config, built: VideoCLIP, text: Float[Tensor, "K D"]) -> VideoTask:
    """The video task with the loss weights of the configuration."""
    loss = config.loss
    return VideoTask(
        built,
        text,
        merged_weight=loss.merged_weight,
        anchor_weight=loss.anchor_weight,
        anchor=loss.anchor,
        route_temperature=loss.route_temperature,
        merge_temperatures=loss.merge_temperatures,
        r_drop_weight=config.r_drop.weight,
        r_drop_temperature=config.r_drop.temperature,
    )


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
    """Parameter patterns: the temporal head at full rate, the CLIP tower and logit_scale at theirs."""
    clip = ("*", {"lr_scale": config.optim.clip_lr_scale})
    return [("model.temporal.*", {"lr_scale": 1.0}), clip] if config.model.layers else [clip]


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
        scale=data.crop_scale,
        flip=data.flip,
        grayscale=data.grayscale,
        on_error="mark",
        timeout=data.decode_timeout,
    )


def training_loader(config: Config, dataset: SizedDataset) -> DataLoader:
    """Shuffled by (seed, epoch); its batch size is that of one optimizer step, which the loop cuts up."""
    sampler = EpochSampler(len(dataset), config.seed, shuffle=True)
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

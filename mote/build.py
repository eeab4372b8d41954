"""From configuration to objects: lists, models and loaders; tasks and what goes with them: `build_task`.

These two are the only translators: modules get keyword arguments and never see the config.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
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
    ModelConfig,
    TuningConfig,
)

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

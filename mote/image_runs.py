"""What `mote train` and `mote eval` do for task=image: the same loop, the same result files, still pictures."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mote import build
from mote.config import Config
from mote.datasets.images import ImageDataset, ImageList, read_images
from mote.datasets.manifest import read_class_ids, read_class_names
from mote.evaluation.closed_set import Scores, score, summarize
from mote.evaluation.results import provenance, sha256_lines, sha256_tensors, write_results
from mote.models.checkpoints import save_model
from mote.models.clip import encode_classes
from mote.models.image_checkpoints import TIMM, image_classifier, load_net, save_net
from mote.models.image_nets import ImageClassifier
from mote.models.video_clip import VideoCLIP
from mote.runs import check_run, fit_run
from mote.scoring import hash_manifest
from mote.settings import ImageConfig
from mote.tasks.image import ImageTask
from mote.training.distributed import Accelerator, add_up, make_accelerator, on_main


class ClipImages(nn.Module):
    """CLIP on still pictures: images (B, 3, H, W) in 0..255 -> scaled cosines with the class features `text`."""

    text: Tensor

    def __init__(self, clip: VideoCLIP, text: Tensor):
        super().__init__()
        self.clip = clip
        self.register_buffer("text", text.detach().clone())

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K): a picture is a clip of one frame."""
        return self.clip.classify(self.clip.encode_frames(images[:, None]), self.text)


def train_images(config: Config, resume: bool = False) -> Path:
    """Train an image network and leave a run directory; see `mote.runs.train`."""
    out = check_run(config)
    accelerator = make_accelerator(config.optim.precision, cpu=config.run.cpu, trackers=config.run.trackers, out=out)
    settings = config.data
    data = _read(config, settings.train or "", settings.root, settings.split, settings.classes)
    size = picture_size(config, data)
    held_out = None
    if config.evaluation.manifest is not None:  # read now: a mistake in it should not cost a training
        held_out = _evaluation_list(config, data.classes)
    model = build_model(config, data.classes, size, accelerator.device)
    task = ImageTask(model, r_drop_weight=config.r_drop.weight, r_drop_temperature=config.r_drop.temperature)
    meta = {"net": config.image.net, "classes": data.classes, "size": size, "channels": config.image.channels}

    def evaluate_now(task: nn.Module, _epoch: int) -> dict[str, Any]:
        assert held_out is not None
        return evaluate_images(cast(ImageTask, task).model, held_out, size, config, accelerator, out / "evaluations")

    def save(task: nn.Module, selected: str) -> None:
        more = {**meta, "seed": config.seed, "selected": selected}
        _save(out / "best", cast(ImageTask, task).model, more, config)

    rate = config.optim.clip_lr_scale if config.image.net == "clip" else 1.0
    fit_run(
        config,
        task,
        lambda: build.training_loader(config, _dataset(config, data, size, train=True)),
        accelerator,
        rules=[("*", {"lr_scale": rate})],
        num_classes=len(data.classes),
        evaluate=evaluate_now,
        save=save,
        max_skipped=0,
        resume=resume,
    )
    return out


def evaluate_folder(folder: Path, config: Config, accelerator: Accelerator, out: Path) -> dict[str, Any]:
    """Score the image model of a run directory or model folder; returns the summary that was written.

    Raises:
        ValueError: no model there, no list, or one that does not fit its classes.
    """
    best = folder / "best" if (folder / "best").is_dir() else folder
    if config.image.net == "clip":
        loaded = build.load_folder(best)
        assert loaded.classes is not None and loaded.tuned_text is not None  # train_images wrote them
        model: nn.Module = ClipImages(loaded.model, loaded.tuned_text)
        classes, size = loaded.classes, loaded.meta["size"]
    else:
        model, meta = load_net(best)
        classes, size = meta["classes"], meta["size"]
    data = _evaluation_list(config, classes)
    return evaluate_images(model.to(accelerator.device).eval(), data, size, config, accelerator, out)


def evaluate_images(
    model: nn.Module, data: ImageList, size: int, config: Config, accelerator: Accelerator, out: Path
) -> dict[str, Any]:
    """Score `model` on `data`, write `out/NAME.json` and `out/NAME.csv`, return the summary."""
    scores = score_images(model, data, size, config, accelerator)
    summary = summarize(scores, data.classes) | {"warnings": []}
    name, manifest = config.evaluation.name, config.evaluation.manifest or ""
    hashes = {
        "manifest": hash_manifest(manifest, data.records),
        "classes": sha256_lines(data.classes),
        "weights": sha256_tensors(model.state_dict()),
    }
    origin = provenance(config=config.model_dump(), hashes=hashes, seed=config.seed)
    files = {"records": data.records, "classes": data.classes, "scores": scores, "provenance": origin}
    on_main(accelerator, lambda: write_results(out, name, summary, **files))
    return summary


def score_images(model: nn.Module, data: ImageList, size: int, config: Config, accelerator: Accelerator) -> Scores:
    """Probabilities of every image of the list over its classes."""

    own = range(accelerator.process_index, len(data.records), accelerator.num_processes)
    dataset = _dataset(config, data, size, train=False)
    loader = build.evaluation_loader(dataset, config.evaluation.batch_size, config.data.workers, own)
    progress = accelerator.is_main_process and sys.stderr.isatty()

    @torch.inference_mode()
    def scored() -> Iterator[dict[str, Tensor]]:
        for batch in tqdm(loader, desc="evaluate", unit="batch", disable=not progress):
            logits = model(batch.pop("images").to(accelerator.device))
            yield {**batch, "logits": logits[:, None].cpu()}  # (B, 1, K), one view

    return score(
        scored(),
        lambda tensors: add_up(accelerator, tensors),
        total=len(data.records),
        num_classes=len(data.classes),
    )


def build_model(config: Config, classes: list[str], size: int, device: torch.device) -> nn.Module:
    """The network of `config.image`; the same initial weights in every process."""
    image = config.image
    if image.net == "clip":
        towers = build.towers(config.model.clip, config.model.pretrained, config.seed)
        text = encode_classes(towers, classes, build.templates(config.data.templates), device=device)
        plain = config.model.model_copy(update={"layers": 0, "experts": 1})
        return ClipImages(build.model(plain, towers), text)
    torch.manual_seed(config.seed)
    if image.init is not None:
        return _from_folder(image, classes, size)
    return image_classifier(
        image.net,
        len(classes),
        mean=image.mean,
        std=image.std,
        dropout=image.dropout,
        pretrained=image.pretrained,
        in_channels=image.channels,
        size=size,
    )


def _from_folder(image: ImageConfig, classes: list[str], size: int) -> nn.Module:
    """The network of `image.init`, with the dropout of the configuration.

    Raises:
        ValueError: no image network there, or one of another kind, other classes or other pictures.
    """
    folder = Path(image.init or "")
    model, meta = load_net(folder / "best" if (folder / "best").is_dir() else folder)
    wanted = {"net": image.net, "classes": classes, "size": size, "channels": image.channels}
    if odd := [key for key, value in wanted.items() if meta[key] != value]:
        raise ValueError(f"image.init {folder}: has another {', '.join(odd)} than this run ({meta['net']})")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = image.dropout
    return model


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


def _read(config: Config, source: str, root: str | None, split: str | None, file: str | None) -> ImageList:
    names = read_class_names(file) if file is not None else None
    return read_images(source, root, names, split, read_class_ids(file) if file is not None else None)


def _evaluation_list(config: Config, classes: list[str]) -> ImageList:
    settings = config.evaluation
    if settings.manifest is None:
        raise ValueError("evaluation.manifest is not set; give a list of images: evaluation.manifest=test.csv")
    if settings.classes is not None:
        raise ValueError("evaluation.classes is for task=video; an image network knows its own classes only")
    return read_images(settings.manifest, settings.root, classes, settings.split)


def _dataset(config: Config, data: ImageList, size: int, *, train: bool) -> ImageDataset:
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


def _save(folder: Path, model: nn.Module, meta: dict[str, Any], config: Config) -> None:
    if not isinstance(model, ClipImages):
        save_net(folder, cast(ImageClassifier, model), meta)
        return
    templates = build.templates(config.data.templates)
    more = {"clip": config.model.clip, "pretrained": config.model.pretrained, "templates": templates, "frames": 1}
    save_model(folder, model.clip, {**meta, **more}, {"tuned_text": model.text})

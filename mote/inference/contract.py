"""How a model is used: its own way of making clips and gating, unless a configuration asks for another.

A model carries the frames, sampling, pixels, decoder and modulation of its training (`VideoClassifier.recipe`), so that
`eval RUN`, `eval RUN/best`, an export, a shared folder, `predict`, `frontier` and protocols see the same clips.
`as_asked` changes a model where a configuration says so, or refuses; `check_named` refuses what changes nothing; and
`settled` is the configuration as it was used.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from mote.config import Config
from mote.files.preprocessing import CUT_FIRST, Preprocessing
from mote.inference.classifier import VideoClassifier
from mote.inference.images import ImageClassifier
from mote.inference.latent import LatentModel
from mote.inference.model import Model
from mote.models.feature_maps import CLIPImages

LIST = "run.cpu data.train data.root data.split data.classes data.workers data.interpolation data.resize data.fill "
CLIPS = "data.frames data.size data.mean data.std data.sampling data.stride data.difference data.decoder "
CLIPS += "data.decode_timeout "
_ALL = LIST + "evaluation.manifest evaluation.root evaluation.split evaluation.batch_size evaluation.page "
_ALL += "evaluation.name "
TASKS = {"video": ("video",), "image": ("image", "expression"), "autoencoder": ("autoencoder",)}  # by kind of model
READ = {  # kind of model -> patterns of the settings that reach its evaluation; evaluation.every is of training
    "video": _ALL + CLIPS + "evaluation.[!e]* imbalance.posthoc imbalance.posthoc_tau",
    "image": _ALL + "data.size evaluation.classes",
    "autoencoder": _ALL + "evaluation.classes autoencoder.judge optim.batch_size optim.accumulation",
}
NAMED = ("frames", "sampling", "stride", "difference", "decoder")  # of `data`: their defaults ask for nothing


def as_asked(model: VideoClassifier, config: Config, named: Collection[str] = ()) -> VideoClassifier:
    """The model, with clips made and gated as `config` asks; the model itself where that is its own way.

    Args:
        model: not changed.
        config: settings that may be null ask for something where they are not.
        named: `section.key` of the settings that the user gave; of those in `NAMED` no others count.

    Raises:
        ValueError: what the model cannot follow.
    """
    data, asked = config.data, config.evaluation
    changes: dict[str, Any] = {key: getattr(data, key) for key in NAMED if f"data.{key}" in named}
    changes["size"] = model.size if data.size is None else data.size
    changes["modulation"] = model.modulation if asked.modulation is None else asked.modulation
    changes["modulation_gate"] = model.modulation_gate.changed(asked.modulation_k, asked.modulation_gamma)
    pixels = {**data.preprocessing, "mean": data.mean, "std": data.std}
    if any(value is not None for value in pixels.values()):
        changes["model"] = model.model.sharing_parameters()
        changes["model"].set_pixels(**pixels)
    changed = replace(model, **changes)
    gating = ("modulation", "modulation_gate")
    if changed.recipe == model.recipe and all(getattr(changed, key) == getattr(model, key) for key in gating):
        changed = model
    head = model.model.temporal
    if head is not None and changed.frames > len(head.position):
        raise ValueError(
            f"data.frames={changed.frames}: the temporal head of this model has positions for {len(head.position)} "
            "frames; take at most so many"
        )
    if changed.size != model.size:
        images = torch.zeros(1, 3, changed.size, changed.size, dtype=torch.uint8, device=model.device)
        check_size(model.model.visual, lambda frames: model.model.encode_frames(frames[:, None]), images)
    return changed


def images_as_asked(model: ImageClassifier, config: Config) -> ImageClassifier:
    """A network for still images that sees them as `config` asks, see `as_asked`."""
    data = config.data
    changed = model.preprocessing.changed(**data.preprocessing)
    size = model.size if data.size is None else data.size
    if size != model.size:
        check_size(model.net, model.logits, torch.zeros(1, model.meta["channels"], size, size, dtype=torch.uint8))
    net = model.net
    if isinstance(net, CLIPImages) and (data.mean is not None or data.std is not None):
        backbone = net.backbone.sharing_parameters()
        backbone.set_pixels(mean=data.mean, std=data.std)
        net = CLIPImages(backbone, net.text).eval()
    return replace(model, net=net, meta={**model.meta, "size": size}, pixels=changed)


def check_named(model: Model, config: Config, own: Config, named: Collection[str], read: str | None = None) -> None:
    """Refuse settings that the user gave and that change nothing of what is done with a trained model.

    Args:
        model: as `config` asks, see `as_asked`.
        config: the settings that it is evaluated under.
        own: the same without those of the user: what the run was trained with, or the defaults.
        named: `section.key` of the settings that the user gave.
        read: patterns of the settings that count, with blanks between them; None: those of an evaluation.

    Raises:
        ValueError: naming those that differ from `own` and have no effect, and why.
    """

    def value(tree: Config, name: str) -> object:
        section, _, key = name.partition(".")
        return getattr(getattr(tree, section), key)

    if not config.is_like(own, TASKS[model.kind]):
        raise ValueError(f"task={config.task}: this model is of task={own.task}; leave it out")
    differing = [name for name in sorted(named) if value(config, name) != value(own, name)]
    reasons = {name: why for name in differing if (why := _idle(name, model, config, read))}
    if reasons:
        why = next(iter(reasons.values()))
        names = [name for name in reasons if reasons[name] == why]
        given = ", ".join(f"{name}={value(config, name)}" for name in names[:4])
        more = f" and {len(reasons) - len(names[:4])} more" if len(reasons) > len(names[:4]) else ""
        raise ValueError(f"{given}{more}: nothing would change: {why}; leave out what does not count here")


def _idle(name: str, model: Model, config: Config, read: str | None) -> str:
    """Why a setting changes nothing of what is done with `model`; "" where it does. read: see `check_named`."""
    if read is None:
        counted = isinstance(model, ImageClassifier) and model.counts is not None
        read = READ[model.kind] + (" imbalance.posthoc imbalance.posthoc_tau" if counted else "")
    if isinstance(model, ImageClassifier) and isinstance(model.net, CLIPImages):
        read += " data.mean data.std"
    if not any(fnmatchcase(name, pattern) for pattern in read.split()):
        if name == "run.out":
            return "a result is written to --out"
        if isinstance(model, ImageClassifier) and name in ("image.mean", "image.std", "data.mean", "data.std"):
            return "mean and standard deviation of its pixels are part of this network, as it was trained"
        what = {"video": "a video model", "image": "a network for still images", "autoencoder": "an autoencoder"}
        return f"what is done here with {what[model.kind]} that is trained does not depend on it"
    if name == "data.fill" and _pixels(model, config).resize != "longest":
        return "only data.resize=longest has bars to fill"
    if name == "data.stride" and isinstance(model, VideoClassifier) and model.sampling != "dense":
        return "clips of this model are sampled by segments, which have no stride (data.sampling=dense has)"
    if name == "evaluation.places" and config.evaluation.clips * config.evaluation.crops == 1:
        return "one clip and one crop lie in the same place either way"
    if name == "evaluation.accept" and config.evaluation.unknown is None:
        return "it is used with evaluation.unknown only"
    if name == "imbalance.posthoc_tau" and config.imbalance.posthoc == "none":
        return "imbalance.posthoc is none"
    return ""


def _pixels(model: Model, config: Config) -> Preprocessing:
    """How frames or images are resized for `model`."""
    own = CUT_FIRST
    if isinstance(model, VideoClassifier):
        own = model.model.preprocessing
    elif isinstance(model, ImageClassifier | LatentModel):
        own = model.preprocessing
    return own.changed(**config.data.preprocessing)


def other_clips(used: Mapping[str, Any], own: Mapping[str, Any], fixed: Collection[str] = ()) -> list[str]:
    """In what clips are made otherwise than in a model's own way, a line each.

    Args:
        used: the `recipe` by which they are made.
        own: that of the model.
        fixed: `data.KEY` of what is left out.
    """
    counts = {"stride": used["sampling"] == "dense", "fill": used["resize"] == "longest"}

    def in_words(value: object) -> str:
        return f"[{', '.join(f'{x:.6g}' for x in value)}]" if isinstance(value, tuple) else str(value)

    return [
        f"data.{key}={in_words(value)}, the model's own is {in_words(own[key])}"
        for key, value in used.items()
        if value != own[key] and counts.get(key, True) and f"data.{key}" not in fixed
    ]


def settled(config: Config, model: Model) -> Config:
    """The configuration with what `model` really does in the place of what was left open or does not reach it."""
    if isinstance(model, VideoClassifier):
        gate = model.modulation_gate
        used = {"modulation": model.modulation, "modulation_k": gate.k, "modulation_gamma": gate.gamma}
        changes = {
            "data": config.data.model_copy(update=model.recipe),
            "evaluation": config.evaluation.model_copy(update=used),
        }
        return config.model_copy(update=changes)
    seen: dict[str, Any] = _pixels(model, config)._asdict()
    image: dict[str, Any] = {}
    task = config.task  # of a folder that was moved without its run, the default
    if isinstance(model, ImageClassifier):
        task = "image" if model.counts is None else "expression"
        clip = isinstance(model.net, CLIPImages)
        numbers: Any = model.net.backbone if clip else model.net
        statistics = {name: tuple(getattr(numbers, name).flatten().tolist()) for name in ("mean", "std")}
        seen |= {"size": model.size, **(statistics if clip else {})}
        image = {"channels": model.meta["channels"], **({} if clip else statistics)}
    elif isinstance(model, LatentModel):
        task = "autoencoder"
        seen |= {"size": model.model.sizes["size"]}
        image = {"channels": model.model.sizes["channels"]}
    changes = {"data": config.data.model_copy(update=seen), "image": config.image.model_copy(update=image)}
    return config.model_copy(update={"task": task, **changes})


def check_size(tower: nn.Module, run: Callable[[Tensor], Tensor], images: Tensor) -> None:
    """Raise ValueError where a network does not take images (1, C, S, S) of this size, by running it on them.

    Args:
        tower: its modules; one that cuts images into patches needs a multiple of their side, else it drops the rest.
        run: the network.
        images: of the size in question.
    """
    size = images.shape[-1]
    first = next((module for module in tower.modules() if isinstance(module, nn.Conv2d)), None)
    patch = first.stride[0] if first is not None and first.kernel_size == first.stride else 1
    problem = f"it is no multiple of {patch}, the side of its patches" if size % patch else ""
    try:
        if not problem:
            with torch.inference_mode():
                run(images)
    except (RuntimeError, AssertionError, ValueError) as error:
        problem = " ".join(str(error).split())[:200]
    if problem:
        raise ValueError(f"data.size={size}: this network cannot take images of {size} x {size} pixels: {problem}")

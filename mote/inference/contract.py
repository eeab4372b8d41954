"""How a model is used: its own way of making clips and gating, unless a configuration asks for another.

A model carries the frames, sampling, pixels, decoder and modulation of its training (`VideoClassifier.recipe`), so that
`eval RUN`, `eval RUN/best`, an export, a shared folder, `predict`, `frontier` and protocols see the same clips.
`as_asked` changes a model where a configuration says so, or refuses; `settled` is the configuration as it was used.
"""

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mote.config import Config
from mote.config import load as load_config
from mote.config.sections import ImbalanceConfig
from mote.files.run_directory import settings_file
from mote.inference.classifier import VideoClassifier
from mote.inference.images import ImageClassifier
from mote.inference.model import Model, Namer
from mote.models.feature_maps import CLIPImages

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
    if isinstance(model, ImageClassifier):
        seen = {"size": model.size, **model.preprocessing._asdict()}
        channels = {"channels": model.meta["channels"]}
        changes = {
            "data": config.data.model_copy(update=seen),
            "image": config.image.model_copy(update=channels),
        }
        return config.model_copy(update=changes)
    return config


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


def posthoc(model: Model) -> ImbalanceConfig:
    """The correction after training that the configuration of the model's run asks for."""
    file = settings_file(model.source.model) if model.source is not None else None
    return ImbalanceConfig() if file is None else load_config([file]).imbalance


def corrected(model: Namer, class_names: Sequence[str]) -> Namer:
    """The model corrected as its run is evaluated; other class names than its own cannot be, which a warning says."""
    settings = posthoc(model)
    if settings.posthoc != "none" and [*class_names] != model.classes:
        warnings.warn(f"imbalance.posthoc={settings.posthoc} is for the run's own classes: not applied", stacklevel=2)
        return model
    return model.corrected(settings, class_names)

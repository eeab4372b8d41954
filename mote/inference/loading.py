"""A `VideoClassifier` from any kind of model: run, folder, file, published checkpoint, plain CLIP, Hugging Face Hub."""

from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional as F

from mote.config import Config
from mote.config import load as load_config
from mote.datasets.lists.manifest import read_class_names, read_templates
from mote.files.run_directory import model_folder, read_description, settings_file
from mote.files.shipped import data_file
from mote.inference.classifier import VideoClassifier
from mote.inference.hub import download, is_local, is_repo_id
from mote.inference.images import ImageClassifier, load_images
from mote.inference.latent import LatentModel, load_latent
from mote.inference.model import Source
from mote.models.autoencoder import is_autoencoder
from mote.models.checkpoints import LoadedModel, is_reference_checkpoint
from mote.models.clip import Towers, load_backbone, parse_model_name
from mote.models.folders import load_folder, towers
from mote.models.image_checkpoints import is_image_model
from mote.models.modulation import GATE
from mote.models.video_clip import VideoCLIP

KINDS = {"video": "a video model", "image": "a network for still images", "autoencoder": "an autoencoder"}
KINDS["clip images"] = KINDS["image"]


def load(
    model: str,
    pretrained: str | None = None,
    *,
    backbone: str | None = None,
    templates: str | Path | None = None,
    device: str | torch.device | None = None,
) -> VideoClassifier | ImageClassifier | LatentModel:
    """Any kind of model, in evaluation mode.

    Args:
        model: run directory or its `best` folder; file of `mote export --format safetensors`; authors' checkpoint file
            (.pt, .pth); `tiny`; an open_clip architecture, with its tag as `name:tag` or in `pretrained`; or the id
            `organisation/name` of a model on the Hugging Face Hub, see `mote.inference.hub`.
        pretrained: open_clip tag or local CLIP checkpoint, for an open_clip architecture.
        backbone: `name:tag` of the text tower for an authors' checkpoint; None = by the width of its visual tower.
        templates: prompt-template file; None = the model's own, else the 28 of the method.
        device: where to run; None = the first GPU, else the CPU.

    Raises:
        ValueError, FileNotFoundError: unknown name, damaged or missing files, or an option that this kind of model does
            not take; one line.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    source = Source(model, backbone)
    if (kind := folder_kind(Path(model))) != "video":
        options = {"pretrained": pretrained, "backbone": backbone, "templates": templates}
        if given := [name for name, value in options.items() if value is not None]:
            raise ValueError(f"{model}: holds {KINDS[kind]}, which has no text tower; leave {given[0]} out")
        if kind == "autoencoder":
            latent = load_latent(Path(model))
            latent.model.to(where).requires_grad_(False)
            return replace(latent, source=source)
        images = load_images(Path(model), clip_images=kind == "clip images")
        images.net.to(where).requires_grad_(False)
        return replace(images, device=where, source=source)
    classifier = _video(model, pretrained, backbone)
    if templates is not None:
        classifier.templates = read_templates(templates)
    classifier.device, classifier.source = where, source
    classifier.model.to(where).eval().requires_grad_(False)
    return classifier


def load_video(
    model: str,
    *,
    backbone: str | None = None,
    templates: str | Path | None = None,
    device: str | torch.device | None = None,
) -> VideoClassifier:
    """A video model, see `load`; raises ValueError for any other kind."""
    found = load(model, backbone=backbone, templates=templates, device=device)
    if not isinstance(found, VideoClassifier):
        raise ValueError(f"{model}: holds {KINDS[found.kind]}, and this needs a video model")
    return found


def folder_kind(path: Path) -> str:
    """A key of KINDS for a run directory or model folder; "video" for anything else that can be named."""
    folder = model_folder(path)
    if is_autoencoder(folder):
        return "autoencoder"
    if is_image_model(folder):
        return "image"
    try:
        return "clip images" if "net" in read_description(folder) else "video"  # written by experiments.images
    except (OSError, ValueError):
        return "video"


def _video(model: str, pretrained: str | None, backbone: str | None) -> VideoClassifier:
    path = Path(model)
    if is_reference_checkpoint(path):
        return _from_reference(load_folder(path), backbone)
    if path.is_dir() or path.suffix == ".safetensors":
        return _from_folder(load_folder(path), settings_file(path))
    if pretrained is None and is_local(model):
        raise FileNotFoundError(f"{model}: there is no such run directory, model folder or file")
    if pretrained is None and is_repo_id(model):
        return _from_folder(load_folder(download(model)))
    name, tag = parse_model_name(model)
    return _from_backbone(load_backbone(name, pretrained or tag))


def _from_folder(loaded: LoadedModel, settings: Path | None = None) -> VideoClassifier:
    """`settings`: configuration of its run, which says what folders written earlier did not."""
    meta = loaded.meta
    run = load_config([settings]) if settings is not None and "decoder" not in meta else Config()
    asked = run.evaluation
    k, gamma = (meta.get(name, getattr(asked, name)) for name in ("modulation_k", "modulation_gamma"))
    return VideoClassifier(
        loaded.model.fold(loaded.merge_routing),
        lambda: towers(meta["backbone"], meta["pretrained"], meta["seed"], loaded.text_weights),
        classes=loaded.classes,
        tuned_text=loaded.tuned_text,
        templates=meta["templates"],
        frames=meta["frames"],
        size=meta["size"],
        sampling=meta.get("sampling", "segment"),
        stride=meta.get("stride", 4),
        difference=meta.get("difference", 0),
        decoder=meta.get("decoder", run.data.decoder),
        modulation=meta.get("modulation", asked.modulation),
        modulation_gate=GATE.changed(k, gamma),
        tuned_templates=meta.get("tuned_templates"),
        labels=meta.get("labels"),
        meta=meta,
        class_features={} if loaded.text is None else {(tuple(meta["labels"]), tuple(meta["templates"])): loaded.text},
    )


def _from_reference(loaded: LoadedModel, backbone: str | None) -> VideoClassifier:
    name, tag = parse_model_name(backbone) if backbone else (loaded.meta["backbone"], loaded.meta["pretrained"])

    def original() -> Towers:
        if name is None:
            raise ValueError("the text tower of this checkpoint is not known; name its CLIP as backbone='name:tag'")
        return load_backbone(name, tag)

    count = 0 if loaded.tuned_text is None else len(loaded.tuned_text)
    kinetics = read_class_names(data_file("classes/kinetics400.txt"))
    classes = kinetics if count == len(kinetics) else [f"class {i}" for i in range(count)]
    return VideoClassifier(
        loaded.model.fold(loaded.merge_routing),
        original,
        classes=classes or None,
        tuned_text=None if loaded.tuned_text is None else F.normalize(loaded.tuned_text, dim=-1),
        size=loaded.meta["architecture"]["vision_cfg"]["image_size"],
        meta={**loaded.meta, "backbone": name, "pretrained": tag, "seed": 0},
    )


def _from_backbone(towers: Towers) -> VideoClassifier:
    meta = {"backbone": towers.name, "pretrained": towers.pretrained, "seed": 0}
    return VideoClassifier(build_plain(towers), lambda: towers, size=towers.image_size, meta=meta)


def build_plain(towers: Towers) -> VideoCLIP:
    """CLIP as it is, mean over frames: no temporal layers."""
    pixels = {"mean": towers.mean, "std": towers.std, "preprocessing": towers.preprocessing}
    return VideoCLIP(towers.visual, towers.logit_scale, embed_dim=towers.embed_dim, **pixels)

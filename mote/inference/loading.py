"""A `VideoClassifier` from any kind of model: run, folder, file, published checkpoint, plain CLIP, Hugging Face Hub."""

import os
from dataclasses import replace
from pathlib import Path

import torch

from mote.config import Config
from mote.config import load as load_config
from mote.datasets.lists.manifest import read_templates
from mote.files.absent import absent
from mote.files.run_directory import DESCRIPTION, model_folder, settings_file
from mote.inference.asked import Source
from mote.inference.classifier import VideoClassifier
from mote.inference.finding import KINDS, check_no_text, folder_kind, place_of
from mote.inference.hub import download
from mote.inference.images import ImageClassifier, load_images
from mote.inference.latent import LatentModel, load_latent
from mote.models.checkpoints import LoadedModel
from mote.models.clip import Towers, load_backbone
from mote.models.description import check_present
from mote.models.folders import check_backbone, fitting_towers, load_folder, towers, with_assumptions
from mote.models.modulation import GATE
from mote.models.names import SCHEMAS, is_known, parse_model_name
from mote.models.video_clip import VideoCLIP


def load(
    model: str | Path,
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
        FileNotFoundError: nothing has this name, or a file of it is missing; one line.
        ValueError: a damaged file, unknown weights, or an option that this kind of model does not take; one line.
    """
    model = os.fspath(model)
    if templates is not None and not Path(templates).is_file():
        raise FileNotFoundError(absent(templates, "file"))
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    source = Source(model, backbone)
    if (kind := folder_kind(Path(model))) != "video":
        check_no_text(model, kind, {"pretrained": pretrained, "backbone": backbone, "templates": templates})
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


def _video(model: str, pretrained: str | None, backbone: str | None) -> VideoClassifier:
    path, place = Path(model), place_of(model, pretrained, backbone)
    if place == "reference":
        return _from_reference(with_assumptions(load_folder(path)), backbone, path)
    if place == "folder":
        return _from_folder(load_folder(path), path)
    if place == "hub":
        return _from_folder(load_folder(download(model)), path)
    name, tag = parse_model_name(model)
    return _from_backbone(load_backbone(name, pretrained or tag))


def _from_folder(loaded: LoadedModel, place: Path) -> VideoClassifier:
    meta = loaded.meta
    settings, place = settings_file(place), model_folder(place) / DESCRIPTION if place.is_dir() else place
    check_present(meta, ("templates", "frames", "size"), place)
    if (name := meta.get("backbone")) is not None and is_known(name):
        check_backbone(name, loaded, place)

    def original() -> Towers:
        if name is None:
            raise ValueError(f"{place}: does not say whose text tower belongs to it (backbone), which new names need")
        found = towers(name, meta.get("pretrained"), meta.get("seed", 0), loaded.text_weights)
        return fitting_towers(found, loaded.model.embed_dim, place)

    run = load_config([settings]) if settings is not None and "decoder" not in meta else Config()
    asked = run.evaluation
    k, gamma = (meta.get(name, getattr(asked, name)) for name in ("modulation_k", "modulation_gamma"))
    return VideoClassifier(
        loaded.model.fold(loaded.merge_routing),
        original,
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


def _from_reference(loaded: LoadedModel, backbone: str | None, place: Path) -> VideoClassifier:
    name, tag = parse_model_name(backbone) if backbone else (loaded.meta["backbone"], loaded.meta["pretrained"])
    if name is not None:
        check_backbone(name, loaded, place, same_size=loaded.meta["backbone"] is not None)

    def original() -> Towers:
        if name is None:
            raise ValueError(
                "the text tower of this checkpoint is not known; name its CLIP as backbone='name:tag' (--backbone)"
            )
        try:
            towers = load_backbone(name, tag)
        except RuntimeError as error:  # it would have to be fetched
            if name.startswith(SCHEMAS):
                raise
            wanted = f"{place} needs the original CLIP; give a file of its weights: --backbone {name}:FILE"
            cause = str(error).partition("; without network")[0]
            raise RuntimeError(f"{wanted} ({cause})") from error
        return fitting_towers(towers, loaded.model.embed_dim, place)

    return VideoClassifier(
        loaded.model.fold(loaded.merge_routing),
        original,
        classes=loaded.classes,
        tuned_text=loaded.tuned_text,
        templates=loaded.meta["templates"],
        frames=loaded.meta["frames"],
        size=loaded.meta["size"],
        meta={**loaded.meta, "backbone": name, "pretrained": tag, "seed": 0},
    )


def _from_backbone(towers: Towers) -> VideoClassifier:
    meta = {"backbone": towers.name, "pretrained": towers.pretrained, "seed": 0}
    return VideoClassifier(build_plain(towers), lambda: towers, size=towers.image_size, meta=meta)


def build_plain(towers: Towers) -> VideoCLIP:
    """CLIP as it is, mean over frames: no temporal layers."""
    pixels = {"mean": towers.mean, "std": towers.std, "preprocessing": towers.preprocessing}
    return VideoCLIP(towers.visual, towers.logit_scale, embed_dim=towers.embed_dim, **pixels)

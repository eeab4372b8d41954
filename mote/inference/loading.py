"""A `Classifier` from any kind of model: run, folder, file, published checkpoint, plain CLIP, Hugging Face Hub."""

from pathlib import Path

import torch
from torch.nn import functional as F

from mote.datasets.lists.manifest import read_class_names, read_templates
from mote.files.shipped import data_file
from mote.inference.classifier import Classifier
from mote.inference.hub import download, is_local, is_repo_id
from mote.models.checkpoints import LoadedModel, is_reference_checkpoint
from mote.models.clip import Towers, load_backbone, parse_model_name
from mote.models.folders import load_folder, towers
from mote.models.video_clip import VideoCLIP


def load(
    model: str,
    pretrained: str | None = None,
    *,
    backbone: str | None = None,
    templates: str | Path | None = None,
    device: str | torch.device | None = None,
) -> Classifier:
    """A `Classifier` from any kind of model.

    Args:
        model: run directory or its `best` folder; file of `mote export --format safetensors`; authors' checkpoint file
            (.pt, .pth); `tiny`; an open_clip architecture, with its tag as `name:tag` or in `pretrained`; or the id
            `organisation/name` of a model on the Hugging Face Hub, see `mote.inference.hub`.
        pretrained: open_clip tag or local CLIP checkpoint, for an open_clip architecture.
        backbone: `name:tag` of the text tower for an authors' checkpoint; None = by the width of its visual tower.
        templates: prompt-template file; None = the model's own, else the 28 of the method.
        device: where to run; None = the first GPU, else the CPU.

    Raises:
        ValueError, FileNotFoundError: unknown name, or damaged or missing files; one line.
    """
    path = Path(model)
    if is_reference_checkpoint(path):
        classifier = _from_reference(load_folder(path), backbone)
    elif path.is_dir() or path.suffix == ".safetensors":
        classifier = _from_folder(load_folder(path))
    elif pretrained is None and is_local(model):
        raise FileNotFoundError(f"{model}: there is no such run directory, model folder or file")
    elif pretrained is None and is_repo_id(model):
        classifier = _from_folder(load_folder(download(model)))
    else:
        name, tag = parse_model_name(model)
        classifier = _from_backbone(load_backbone(name, pretrained or tag))
    if templates is not None:
        classifier.templates = read_templates(templates)
    classifier.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    classifier.model.to(classifier.device).eval().requires_grad_(False)
    return classifier


def _from_folder(loaded: LoadedModel) -> Classifier:
    meta = loaded.meta
    return Classifier(
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
        tuned_templates=meta.get("tuned_templates"),
        labels=meta.get("labels"),
        meta=meta,
        class_features={} if loaded.text is None else {(tuple(meta["labels"]), tuple(meta["templates"])): loaded.text},
    )


def _from_reference(loaded: LoadedModel, backbone: str | None) -> Classifier:
    name, tag = parse_model_name(backbone) if backbone else (loaded.meta["backbone"], loaded.meta["pretrained"])

    def original() -> Towers:
        if name is None:
            raise ValueError("the text tower of this checkpoint is not known; name its CLIP as backbone='name:tag'")
        return load_backbone(name, tag)

    count = 0 if loaded.tuned_text is None else len(loaded.tuned_text)
    kinetics = read_class_names(data_file("classes/kinetics400.txt"))
    classes = kinetics if count == len(kinetics) else [f"class {i}" for i in range(count)]
    return Classifier(
        loaded.model.fold(loaded.merge_routing),
        original,
        classes=classes or None,
        tuned_text=None if loaded.tuned_text is None else F.normalize(loaded.tuned_text, dim=-1),
        size=loaded.meta["architecture"]["vision_cfg"]["image_size"],
        meta={**loaded.meta, "backbone": name, "pretrained": tag, "seed": 0},
    )


def _from_backbone(towers: Towers) -> Classifier:
    meta = {"backbone": towers.name, "pretrained": towers.pretrained, "seed": 0}
    return Classifier(build_plain(towers), lambda: towers, size=towers.image_size, meta=meta)


def build_plain(towers: Towers) -> VideoCLIP:
    """CLIP as it is, mean over frames: no temporal layers."""
    return VideoCLIP(towers.visual, towers.logit_scale, embed_dim=towers.embed_dim, mean=towers.mean, std=towers.std)

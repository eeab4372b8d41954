"""Small model folders of every kind, and one changed field or tensor in them; for the tests of what is refused."""

import json
from pathlib import Path

import torch
from oracles import mote_reference
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from mote.models.autoencoder import ImageAutoencoder, save_autoencoder
from mote.models.checkpoints import save_model
from mote.models.image_checkpoints import image_classifier, save_net
from mote.models.temporal import TemporalHead
from mote.models.video_clip import VideoCLIP
from mote.models.visual import build_visual
from mote.regularizers.gaussian_mixture import isotropic

VISION = {"image_size": 16, "patch_size": 8, "layers": 2, "width": 32, "head_width": 16}
ARCHITECTURE = {"embed_dim": 24, "vision_cfg": VISION, "quick_gelu": True}
NAMES = ["run", "jump", "sit"]
KINDS = ("video", "export", "image", "autoencoder")


def make(kind: str, folder: Path) -> Path:
    """Write a model of this kind below `folder`; the result is the model folder or, for an export, the file."""
    torch.manual_seed(0)
    place = folder / ("export.safetensors" if kind == "export" else kind)
    if kind == "image":
        net = image_classifier("resnet8", 3, mean=(0.2,), std=(0.3,), in_channels=1, size=16).eval()
        save_net(place, net, {"net": "resnet8", "classes": NAMES, "size": 16, "channels": 1, "counts": [3, 2, 1]})
    elif kind == "autoencoder":
        meta = {"method": "gm", "conditional": True, "classes": NAMES, "seed": 0, "selected": "last"}
        prior = isotropic(torch.randn(3, 4))._asdict()
        save_autoencoder(place, ImageAutoencoder(size=8, latent=4, width=4).eval(), prior, meta)
    else:
        head = TemporalHead(24, num_layers=2, num_heads=4, num_experts=2, max_frames=9)
        visual = build_visual(ARCHITECTURE)
        model = VideoCLIP(visual, torch.tensor(1.5), head, embed_dim=24, mean=(0.5,) * 3, std=(0.25,) * 3).eval()
        meta = {"backbone": None, "pretrained": None, "architecture": ARCHITECTURE, "classes": NAMES, "seed": 0}
        meta |= {"templates": ["{}"], "frames": 4, "size": 16, "sampling": "segment", "stride": 4, "difference": 0}
        meta |= {"counts": [3, 2, 1], "method": "none", "selected": "last"}
        tensors = {"tuned_text": F.normalize(torch.randn(3, 24), dim=-1)}
        if kind == "export":
            meta |= {"labels": ["walk", "swim"], "tuned_templates": ["{}"]}
            tensors["text"] = F.normalize(torch.randn(2, 24), dim=-1)
        save_model(place, model, meta, tensors)
    return place


def checkpoint(folder: Path) -> Path:
    """A checkpoint in the authors' format."""
    sizes = {"embed": 32, "width": 32, "layers": 2, "experts": 2, "classes": 3}
    torch.save(mote_reference.random_checkpoint(torch.Generator().manual_seed(1), **sizes), folder / "authors.pt")
    return folder / "authors.pt"


def fields(place: Path) -> dict:
    """The content of model.json, or of the metadata of an exported file."""
    if place.is_dir():
        return json.loads((place / "model.json").read_text())
    with safe_open(place, "pt") as file:
        return json.loads(file.metadata()["model"])


def tensors(place: Path) -> dict[str, torch.Tensor]:
    """The tensors of a model folder or file."""
    return load_file(place / "model.safetensors" if place.is_dir() else place)


def written(place: Path, folder: Path, meta: dict | str | None = None, state: dict | None = None) -> Path:
    """A copy of the model at `place` in `folder`, with other fields or tensors."""
    text = meta if isinstance(meta, str) else json.dumps(fields(place) if meta is None else meta)
    state = tensors(place) if state is None else state
    target = folder / place.name
    if not place.is_dir():
        save_file(state, target, {"model": text})
        return target
    target.mkdir(exist_ok=True)
    (target / "model.json").write_text(text)
    save_file(state, target / "model.safetensors")
    return target

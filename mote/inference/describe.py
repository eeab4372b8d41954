"""What models say of themselves, in a few lines: `repr` of what `mote.load` gives."""

from collections.abc import Mapping, Sequence
from typing import Any


def described(model: Any) -> str:
    """What a model is and where it comes from, then a line each for backbone, input, classes and device."""
    origin = "in training" if model.source is None else f"from {model.source.model}"
    facts = {"video": _video, "image": _images, "autoencoder": _autoencoder}[model.kind](model)
    shown = {**facts, "classes": _some(model.classes), "device": model.device}
    lines = [f"  {name:<10}{text}" for name, text in shown.items()]
    return "\n".join([f"{type(model).__name__} ({origin})", *lines])


def _video(model: Any) -> Mapping[str, str]:
    name, tag, layers = model.meta.get("backbone") or "unknown", model.meta.get("pretrained"), model.model.num_layers
    how = {"segment": "one from each equal part", "dense": f"every {model.stride}th"}[model.sampling]
    return {
        "backbone": name if tag is None else f"{name}:{tag}",
        "head": f"{layers} temporal layers, experts merged" if layers else "none, a mean over frames",
        "frames": f"{model.frames} ({how}) of {model.size} x {model.size} pixels",
    }


def _images(model: Any) -> Mapping[str, str]:
    net = model.meta.get("net", type(model.net).__name__)
    return {"backbone": net, "images": _pictures(model.size, model.meta.get("channels", 3))}


def _autoencoder(model: Any) -> Mapping[str, str]:
    sizes = model.model.sizes
    what = f"autoencoder ({model.method}), codes of {sizes['latent']} dimensions"
    return {"backbone": what, "images": _pictures(sizes["size"], sizes["channels"])}


def _pictures(size: int, channels: int) -> str:
    return f"{size} x {size} pixels, {'gray' if channels == 1 else 'colour'}"


def _some(names: Sequence[str] | None) -> str:
    """How many names, and the first of them."""
    if not names:
        return "none of its own; name them in each call"
    return f"{len(names)}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"

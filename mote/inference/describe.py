"""What models say of themselves, in a few lines: `repr` of what `mote.load` gives."""

from collections.abc import Mapping, Sequence
from typing import Any

from mote.inference.model import Model


def video(self: Any) -> str:
    """`repr` of a `VideoClassifier`: backbone, temporal head, frames, classes, where it comes from."""
    name, tag, layers = self.meta.get("backbone") or "unknown", self.meta.get("pretrained"), self.model.num_layers
    how = {"segment": "one from each equal part", "dense": f"every {self.stride}th"}[self.sampling]
    facts = {
        "backbone": name if tag is None else f"{name}:{tag}",
        "head": f"{layers} temporal layers, experts merged" if layers else "none, a mean over frames",
        "frames": f"{self.frames} ({how}) of {self.size} x {self.size} pixels",
    }
    return _described(self, facts)


def images(self: Any) -> str:
    """`repr` of an `ImageClassifier`: network, images, classes, where it comes from."""
    facts = {
        "backbone": self.meta.get("net", type(self.net).__name__),
        "images": _pictures(self.size, self.meta.get("channels", 3)),
    }
    return _described(self, facts)


def autoencoder(self: Any) -> str:
    """`repr` of a `LatentModel`: method, images, classes, where it comes from."""
    sizes = self.model.sizes
    facts = {
        "backbone": f"autoencoder ({self.method}), codes of {sizes['latent']} dimensions",
        "images": _pictures(sizes["size"], sizes["channels"]),
    }
    return _described(self, facts)


def _described(model: Model, facts: Mapping[str, object]) -> str:
    """What the model is and where it comes from, then a line for each of `facts`, its classes and its device."""
    origin = "in training" if model.source is None else f"from {model.source.model}"
    shown = {**facts, "classes": _some(model.classes), "device": model.device}
    lines = [f"  {name:<10}{text}" for name, text in shown.items()]
    return "\n".join([f"{type(model).__name__} ({origin})", *lines])


def _pictures(size: int, channels: int) -> str:
    return f"{size} x {size} pixels, {'gray' if channels == 1 else 'colour'}"


def _some(names: Sequence[str] | None) -> str:
    """How many names, and the first of them."""
    if not names:
        return "none of its own; name them in each call"
    return f"{len(names)}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"

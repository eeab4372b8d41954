"""Image-text models for video: mixture of temporal experts, trained, merged and evaluated."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from mote.inference.asked import Prediction, Views
    from mote.inference.classifier import VideoClassifier
    from mote.inference.images import ImageClassifier
    from mote.inference.latent import LatentModel
    from mote.inference.model import Model

__version__ = "0.1.0"
__all__ = [
    "ImageClassifier",
    "LatentModel",
    "Model",
    "Prediction",
    "VideoClassifier",
    "Views",
    "__version__",
    "load",
]
PLACES = {  # name -> module that it is imported from when it is first asked for: `import mote` needs no torch
    "ImageClassifier": "images",
    "LatentModel": "latent",
    "Model": "model",
    "Prediction": "asked",
    "VideoClassifier": "classifier",
    "Views": "asked",
}


def load(
    model: str | Path,
    pretrained: str | None = None,
    *,
    backbone: str | None = None,
    templates: str | Path | None = None,
    device: "str | torch.device | None" = None,
) -> "VideoClassifier | ImageClassifier | LatentModel":
    """A model ready for use.

    Args:
        model: a run directory or its `best` folder; a file of `mote export --format safetensors`; an authors'
            checkpoint (.pt, .pth); `tiny`, which is built in; an open_clip architecture, with its tag as `name:tag` or
            in `pretrained`; or `organisation/name`, a model on the Hugging Face Hub.
        pretrained: open_clip tag or file of CLIP weights, for an open_clip architecture.
        backbone: `name:tag` of the text tower, for an authors' checkpoint; None = by the width of its visual tower.
        templates: prompt-template file, one {} per line; None = the model's own, else the 28 of the method.
        device: where it runs, such as "cpu" or "cuda:1"; None = the first GPU, else the CPU.

    Raises:
        FileNotFoundError: nothing has this name, or a file of it is missing; one line.
        ValueError: a damaged file, unknown weights, or an option that this kind of model does not take; one line.
    """
    from mote.inference.loading import load as load_model

    return load_model(model, pretrained, backbone=backbone, templates=templates, device=device)


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module 'mote' has no attribute {name!r}; its names are {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(f"mote.inference.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

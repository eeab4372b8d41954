"""Image-text models for video: mixture of temporal experts, trained, merged and evaluated."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mote.inference.model import Model

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(model: str, pretrained: str | None = None, **settings: Any) -> "Model":
    """A model ready for use, from a run directory, an authors' checkpoint (.pt), `tiny`, or an open_clip name.

    `model` may carry its tag (`ViT-B-16-quickgelu:openai`) or `pretrained` gives it. For all arguments see
    `mote.inference.loading.load`.
    """
    from mote.inference.loading import load as load_model

    return load_model(model, pretrained, **settings)

"""Image-text models for video: mixture of temporal experts, trained, merged and evaluated."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mote.inference.classifier import Classifier

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(model: str, pretrained: str | None = None, **settings: object) -> "Classifier":
    """A ready classifier from a run directory, an authors' checkpoint (.pt), `tiny`, or an open_clip model.

    `model` may carry its tag (`ViT-B-16-quickgelu:openai`) or `pretrained` gives it. See `mote.load`.
    """
    from mote.inference.loading import load as load_classifier

    return load_classifier(model, pretrained, **settings)  # pyright: ignore[reportArgumentType]

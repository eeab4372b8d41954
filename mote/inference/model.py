"""A trained model in use: what `mote.load` gives, whatever lies in the folder.

`mote.evaluation.evaluate` scores any of them; `mote predict` takes those that name files.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch

from mote.config.sections import ImbalanceConfig
from mote.inference.asked import ONE_VIEW, Source, Views


@runtime_checkable
class Model(Protocol):
    """A trained model, in evaluation mode, with what belongs to it."""

    @property
    def kind(self) -> Literal["video", "image", "autoencoder"]:
        """What it takes and what it is for."""
        ...

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes it was trained on."""
        ...

    @property
    def meta(self) -> Mapping[str, Any]:
        """Content of its model.json."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        ...

    @property
    def source(self) -> Source | None:
        """What it was loaded from; None while it is being trained."""
        ...


@runtime_checkable
class Namer(Model, Protocol):
    """A model that names files: `mote predict` needs no more."""

    def chosen(self, class_names: Sequence[str] | None) -> list[str]:
        """The class names to choose among, checked; raises ValueError where the model cannot."""
        ...

    def corrected(self, settings: ImbalanceConfig, class_names: Sequence[str]) -> "Namer":
        """The model with the correction of `imbalance.posthoc`; raises ValueError where it cannot be corrected."""
        ...

    def hashes(self, class_names: Sequence[str]) -> dict[str, str]:
        """SHA-256 of what the scores depend on: weights, class names, and prompt templates where there are any."""
        ...

    def outcomes(
        self, files: Iterable[str | Path], class_names: Sequence[str], views: Views = ONE_VIEW, **options: Any
    ) -> Iterator[tuple[str | Path, dict[str, float] | Exception]]:
        """{class name: probability} of each file, most probable first, or what is wrong with it."""
        ...

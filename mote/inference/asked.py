"""What is asked of a model, and its answer, as values: where it comes from, views of a file, scores. No torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from mote.config import Config


class Source(NamedTuple):
    """Where a model was loaded from: a path or name, and the CLIP that an authors' checkpoint was given."""

    model: str
    backbone: str | None = None


class Entry(NamedTuple):
    """A model by name, the configuration that it is scored under, which of its settings the user gave, and its own
    configuration without these.
    """

    source: Source
    config: Config
    named: frozenset[str] = frozenset()
    own: Config = Config()


class Views(NamedTuple):
    """How often a file is looked at: temporal clips, spatial crops (1 or 3), whether only at its largest face.

    places: where several clips and crops lie, see `VideoDataset`.
    """

    clips: int = 1
    crops: int = 1
    faces: bool = False
    places: Literal["even", "released"] = "even"


ONE_VIEW = Views()


@dataclass
class Prediction:
    """Scores of one file, most probable first, or why there are none.

    name: the answer; None where there is none, or no class is probable enough. start, end: seconds; None = the whole.
    """

    path: str | Path
    scores: dict[str, float]
    error: str | None = None
    name: str | None = None
    start: float | None = None
    end: float | None = None

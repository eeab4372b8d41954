"""Features of the frames of timelines in the feature cache: what was encoded is not encoded again.

A video is a namespace of its own, a frame an entry (1, 1, D): so other windows find the frames that they share, and
a process knows the entries of one video at a time (an entry takes 0.4 kB of memory, a frame of ViT-B/32 2 kB of disk).
A feature is that of a call of the tower of as many images as a timeline gives it, of which it does not depend on the
others (see `timeline`), so its bits are those of an encoding. Frames are decoded all the same: only so is it known that
a file has the frames that it says. One that has others is not kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mote.datasets.cache.feature_cache import FeatureCache, entry_key, namespace_key
from mote.inference.classifier import VideoClassifier
from mote.inference.features import keep, tower_facts

Row = Float[Tensor, "D"]


class KnownFrames:
    """The features of the frames of one video: those that are kept, and those that were encoded since."""

    def __init__(self, cache: FeatureCache | None = None, file: str = ""):
        self._cache, self._file, self._new = cache, file, dict[int, Row]()

    def get(self, number: int) -> Row | None:
        """The feature of frame `number`; None where it has to be encoded."""
        row = None if self._cache is None else self._cache.read(entry_key(self._file, [number]))
        return None if row is None else torch.from_numpy(row)[0, 0]

    def add(self, number: int, row: Row) -> None:
        """Take one that was encoded, to be kept."""
        if self._cache is not None:
            self._new[number] = row

    def forget(self) -> None:
        """Neither find nor keep any: their numbers turned out to be of other frames."""
        self._cache, self._new = None, {}

    def save(self) -> None:
        """Keep those that were added; where the cache cannot be written, say so."""
        for number, row in self._new.items():
            if self._cache is not None:
                self._cache = keep(self._cache, entry_key(self._file, [number]), row[None, None])


class TimelineCache:
    """A folder of the feature cache, for the tower of a classifier and calls of `call` images."""

    def __init__(self, folder: Path, classifier: VideoClassifier, call: int):
        facts = tower_facts(classifier, classifier.decoder, classifier.model.preprocessing)
        self._facts = {**facts, "size": classifier.size, "difference": classifier.difference, "call": call}
        self._files = FeatureCache(folder, namespace_key(**self._facts))

    @contextmanager
    def frames_of(self, path: str) -> Iterator[KnownFrames]:
        """Context of the known frames of a video, which keeps the new ones at its end if the file is still the same."""
        try:
            file = self._files.file_key(path)
        except OSError:  # what is wrong with it is said where it is decoded
            yield KnownFrames()
            return
        with FeatureCache(self._files.folder, namespace_key(**self._facts, file=file)) as cache:
            known = KnownFrames(cache, file)
            yield known
            with suppress(OSError):  # it went away meanwhile: its windows are scored, its features not kept
                if self._files.file_key(path) == file:
                    known.save()

"""Evaluation protocols as named, versioned values: everything a zero-shot or closed-set number depends on.

A protocol says which lists are scored (files in the user's list folder), over which classes and prompt templates, with
how many frames and views, how views are fused, whether temporal feature modulation gates the temporal branch, which
weight interpolation with the original CLIP is used (alpha = 1: none), and how the numbers of several lists are joined.
Those called released evaluate as the test scripts that the authors published with their checkpoints.
With `subsets="folds"` the lists are .csv files whose test rows are scored, each by the model that was trained on its
training rows. `identifier` is `name@version`; a change of any field that can change a number is a new version.
`digest` hashes the fields together with the class and template files, so two results with equal digests obeyed the same
rules.

Sources: Zhu et al., NeurIPS 2024 (MoTE), section 4 and its released lists; half-class evaluation as in Text4Vis and
BIKE (Wu et al., AAAI and CVPR 2023); counts of videos are those of the released lists.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from mote.files.shipped import data_file
from mote.models.gate import Gate


@dataclass(frozen=True)
class Protocol:
    """One protocol; see the top of this file for what the fields mean."""

    name: str
    version: int
    dataset: str
    task: Literal["closed_set", "zero_shot"]
    lists: tuple[str, ...]  # file names in the list folder; several give mean and population std
    classes: tuple[str, ...] = ()  # data file or files (one per list) of class names; empty: the user's
    num_classes: int | None = None  # expected number of the user's classes
    templates: str = "templates/kinetics28.txt"
    frames: int | None = 8  # None: what the model was tuned with
    sampling: Literal["segment", "dense"] = "segment"
    clips: int = 1
    crops: Literal[1, 3] = 1
    fusion: Literal["mean_softmax", "reference", "mean_logits"] = "mean_softmax"
    modulation: bool = False
    modulation_k: int = Gate.k
    modulation_gamma: float = Gate.gamma
    alpha: float = 1.0
    decoder: Literal["pyav", "decord", "decord_single"] | None = None  # None: the model's own
    places: Literal["even", "released"] = "even"
    # "halves": the temporal gate sees all class names, as in the field; "folds": a model for each list, see below
    subsets: Literal["all", "halves", "folds"] = "all"
    videos: tuple[int, ...] = ()  # expected number of videos of each list; empty: not known
    variants: tuple[tuple[str, tuple[int, ...]], ...] = ()  # sets of videos in use, with their numbers: see `declared`
    subset: str = ""  # which of them
    notes: str = field(default="", compare=False)

    @property
    def identifier(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    def declared(self, subset: str | None) -> "Protocol":
        """This protocol on one of the sets of videos that go by its name.

        Raises:
            ValueError: `subset` is none of `variants`, missing where there are some, or given where there are none.
        """
        if not self.variants and subset is None:
            return self
        videos = dict(self.variants).get(subset or "")
        if videos is None:
            choice = " or ".join(name for name, _ in self.variants)
            what = f"say which videos its lists hold: {choice}" if choice else "it has no subsets"
            raise ValueError(f"{self.identifier}: {what}; got {f'subset {subset!r}' if subset else 'no subset'}")
        return replace(self, variants=(), subset=subset, videos=videos)

    def settings(self) -> dict[str, object]:
        """What it fixes of a configuration, `section.key` -> value, without the files."""
        keys = ("clips", "crops", "places", "fusion", "modulation", "modulation_k", "modulation_gamma", "alpha")
        settled: dict[str, object] = {f"evaluation.{key}": getattr(self, key) for key in keys}
        clips = {"data.sampling": self.sampling, "data.frames": self.frames, "data.decoder": self.decoder}
        return settled | {key: value for key, value in clips.items() if value is not None}

    def differences(self) -> list[str]:
        """Fields in which it differs from the protocol that its identifier names, where a study changed some."""
        fields = {**asdict(PROTOCOLS[self.name]), "variants": (), "subset": self.subset, "videos": self.videos}
        own = asdict(self) | {"variants": ()}
        return [f"{key} is {own[key]!r}, not {fields[key]!r}" for key in own if own[key] != fields[key]]

    def digest(self, files: Mapping[str, Path] = MappingProxyType({})) -> str:
        """SHA-256 over the fields and the contents of its class and template files.

        Args:
            files: name in `classes` or `templates` -> path, for files to take in the place of the installed ones.
        """
        own = asdict(self)
        fields = {key: own[key] for key in own if key != "notes" and (key not in LATER or own[key] != LATER[key])}
        places = {name: files.get(name) or data_file(name) for name in self.files()}
        contents = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in places.items()}
        return hashlib.sha256(json.dumps([fields, contents], sort_keys=True).encode()).hexdigest()

    @property
    def split(self) -> str | None:
        """Which rows of a list are scored; None: all."""
        return "test" if self.subsets == "folds" else None

    def files(self) -> tuple[str, ...]:
        """Names of the data files that the protocol reads."""
        return (*self.classes, self.templates)


LATER = {"decoder": None, "places": "even"}  # fields that came later: at these values, digests are what they were


def _kinetics(name: str, clips: int, crops: Literal[1, 3]) -> Protocol:
    classes = ("classes/kinetics400.txt",)
    return Protocol(name, 1, "Kinetics-400", "closed_set", ("val.txt",), classes, frames=None, clips=clips, crops=crops)


def _faces(name: str, dataset: str, classes: int, lists: tuple[str, ...], videos: tuple[int, ...] = ()) -> Protocol:
    protocol = Protocol(name, 1, dataset, "closed_set", lists, num_classes=classes, frames=None)
    return replace(protocol, videos=videos, subsets="folds", notes=FOLDS)


def _zero_shot(name: str, dataset: str, lists: tuple[str, ...], videos: tuple[int, ...]) -> Protocol:
    classes = (f"classes/{name.split('-')[0]}.csv",)
    return Protocol(name, 1, dataset, "zero_shot", lists, classes, clips=3, modulation=True, videos=videos)


def _halves(name: str, dataset: str, videos: int) -> Protocol:
    return replace(_zero_shot(name, dataset, ALL, (videos,)), subsets="halves", fusion="mean_logits", notes=HALVES)


def _released(protocol: Protocol, videos: tuple[int, ...], subset: str = "") -> Protocol:
    """A protocol with the rules of the authors' test scripts."""
    protocol = replace(protocol, name=f"{protocol.name}-released", variants=(), subset=subset, videos=videos, frames=8)
    rules = replace(protocol, fusion="reference", modulation=True, alpha=0.99, notes=RELEASED)
    return replace(rules, decoder="decord_single", places="released")


SPLITS, ALL = ("test1.txt", "test2.txt", "test3.txt"), ("all.txt",)
HALVES = (
    "ten random halves of the classes, NumPy legacy seeds 0..9; views fused by the mean of their cosines; "
    "temporal feature modulation sees the names of all classes, not of the half"
)
FIVE = tuple(f"fold{k}.csv" for k in range(1, 6))
FOLDS = (
    "as mote data prepare leaves the lists; overall accuracy (WAR) and mean class recall (UAR), mean and population "
    "std over the folds; one centred view, the model's own number of frames"
)
RELEASED = (
    "as the authors' test scripts do; not repeated are what they count twice or replace: videos that several processes "
    "pad the list with, and others in the place of undecodable ones"
)
_OWN = (
    _kinetics("k400-closed-1x1", 1, 1),
    _kinetics("k400-closed-4x3", 4, 3),
    _zero_shot("ucf101-zs", "UCF101", SPLITS, (3783, 3734, 3696)),
    _zero_shot("hmdb51-zs", "HMDB51", SPLITS, (1530, 1530, 1530)),
    _zero_shot("ucf101-zs-full", "UCF101", ALL, (13320,)),
    _zero_shot("hmdb51-zs-full", "HMDB51", ALL, (6766,)),
    _halves("ucf101-half", "UCF101", 13320),
    _halves("hmdb51-half", "HMDB51", 6766),
    Protocol(
        "k600-zs",
        1,
        "Kinetics-600, 160 of its 220 new classes (Chen and Huang, ICCV 2021)",
        "zero_shot",
        ("split1.txt", "split2.txt", "split3.txt"),
        num_classes=160,
        clips=3,
        modulation=True,
        variants=(("validation", (7276, 7226, 7261)), ("test", (14858, 14750, 14874))),
        notes="beside each list its class file, split1_classes.csv and so on; published numbers come from the "
        "validation videos or from the test videos: say which with --subset",
    ),
    _faces("dfew", "DFEW, single-labelled clips", 7, FIVE),
    _faces("mafw", "MAFW, single expressions", 11, FIVE),
    _faces("ferv39k", "FERV39k", 7, ("faces.csv",), (7847,)),
    Protocol("folder-zs", 1, "your own", "zero_shot", ("test.txt",), clips=3, modulation=True),
)
_BY_NAME = {protocol.name: protocol for protocol in _OWN}
_AUTHORS = (
    _released(_BY_NAME["ucf101-zs"], _BY_NAME["ucf101-zs"].videos),
    _released(_BY_NAME["hmdb51-zs"], _BY_NAME["hmdb51-zs"].videos),
    _released(_BY_NAME["k600-zs"], (14858, 14750, 14874), "test"),
    _released(_BY_NAME["k400-closed-1x1"], (19877,)),
    _released(_BY_NAME["k400-closed-4x3"], (19877,)),
)
PROTOCOLS = _BY_NAME | {protocol.name: protocol for protocol in _AUTHORS}


def protocol_named(text: str) -> Protocol:
    """The protocol of `name` or `name@version`.

    Raises:
        ValueError: an unknown name or version; the message lists what there is.
    """
    name, _, version = text.partition("@")
    found = PROTOCOLS.get(name)
    if found is None or version not in ("", str(found.version)):
        close = [PROTOCOLS[one].identifier for one in difflib.get_close_matches(name, PROTOCOLS, n=2)]
        meant = f"did you mean {' or '.join(close)}? There are" if close else "choose from"
        raise ValueError(f"unknown protocol {text!r}; {meant} {', '.join(p.identifier for p in PROTOCOLS.values())}")
    return found

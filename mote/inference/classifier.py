"""From a video file and a list of names to probabilities: what `mote predict` and `mote.load` use.

A `VideoClassifier` is a folded model (experts merged once), the text tower that class names are encoded with, and the
sampling it was tuned for. Scores are the mean over views of softmax(logit_scale * cosine).
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from mote.config.sections import ImbalanceConfig
from mote.datasets.lists.manifest import Record
from mote.datasets.video import VideoDataset
from mote.files.hashes import sha256_lines
from mote.files.names import check_names, plain
from mote.files.shipped import default_templates
from mote.files.tensor_hashes import sha256_tensors
from mote.inference.asked import ONE_VIEW, Source, Views
from mote.inference.pipeline import File, NamesFiles, Outcome, name_videos
from mote.models.clip import Towers, encode_classes
from mote.models.modulation import GATE, Gate
from mote.models.precision import in_bf16
from mote.models.video_clip import VideoCLIP
from mote.models.view_scorer import Batch, autocast, encode_views, in_calls, view_scorer
from mote.parallel.precision import Precision, resolve_precision
from mote.regularizers.long_tail import adjust_logits, checked_counts


@dataclass(repr=False)
class VideoClassifier(NamesFiles):
    """A model that names videos. Attributes are what it was tuned on; see `load`."""

    model: VideoCLIP
    towers: Callable[[], Towers]  # the original CLIP; called when its text tower or weights are needed
    classes: list[str] | None = None  # names the model was tuned on
    tuned_text: Float[Tensor, "F D"] | None = None
    templates: list[str] = field(default_factory=default_templates)
    tuned_templates: list[str] | None = None  # those of tuned_text; None = `templates` as they are now
    frames: int = 8
    size: int = 224
    sampling: Literal["segment", "dense"] = "segment"
    stride: int = 4
    difference: int = 0  # see VideoDataset
    decoder: str = "pyav"  # see read_frames
    modulation: bool | None = None  # where a call does not say; None = for other classes than those of tuning
    modulation_gate: Gate = GATE  # its settings
    gate: float = 1.0  # factor of the temporal branch where temporal feature modulation does not set it
    precision: Precision = "fp32"  # see in_precision
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    offset: Float[Tensor, "K"] | None = None  # added to the logits of the classes of tuning, see `adjusted`
    labels: list[str] | None = None  # names to choose among when none are given; None = `classes`
    meta: dict[str, Any] = field(default_factory=dict)  # of its model folder: backbone, pretrained, ...
    class_features: dict[tuple[tuple[str, ...], tuple[str, ...]], Tensor] = field(default_factory=dict)  # met so far
    source: Source | None = None  # None while it is being trained
    kind: Literal["video"] = "video"

    def __post_init__(self):
        self.tuned_templates = list(self.templates) if self.tuned_templates is None else self.tuned_templates

    def text_features(self, class_names: Sequence[str]) -> Float[Tensor, "K D"]:
        """Class features, encoded once; the stored ones when class names and templates are those of tuning."""
        key = tuple(class_names), tuple(self.templates)
        if key not in self.class_features:
            found = self.stored_text(class_names)
            if found is None:
                found = encode_classes(self.towers(), list(class_names), self.templates, device=self.device)
            self.class_features[key] = found.to(self.device)
        return self.class_features[key]

    def stored_text(self, class_names: Sequence[str]) -> Float[Tensor, "K D"] | None:
        """The class features that came with the model, where class_names and templates are those of tuning.

        Those that were fitted to videos depend on no templates.
        """
        tuned = self.is_tuned_on(class_names) and (self.is_fitted or self.templates == self.tuned_templates)
        return self.tuned_text if tuned else None

    def is_tuned_on(self, class_names: Sequence[str]) -> bool:
        """Whether `class_names` are the classes of fine-tuning, in their order."""
        return self.classes is not None and [*map(plain, class_names)] == [*map(plain, self.classes)]

    @property
    def is_fitted(self) -> bool:
        """Whether `tuned_text` was fitted to videos (`mote fit`): weights, and no features of names."""
        return bool(self.meta.get("fitted"))

    @property
    def can_gate(self) -> bool:
        """Whether temporal feature modulation works: what it compares with is stored, or there is nothing to damp."""
        return self.model.temporal is None or (self.tuned_text is not None and not self.is_fitted)

    @property
    def recipe(self) -> dict[str, Any]:
        """How clips are made for it: the settings of `data` that decide it, by name."""
        names = ("frames", "size", "sampling", "stride", "difference", "decoder")
        pixels = {name: tuple(getattr(self.model, name).flatten().tolist()) for name in ("mean", "std")}
        return {name: getattr(self, name) for name in names} | self.model.preprocessing._asdict() | pixels

    def clips_of(self, records: Sequence[Record], views: Views = ONE_VIEW, **options: Any) -> VideoDataset:
        """Views of videos, made as `recipe` says; `options`: more of `VideoDataset`."""
        return VideoDataset(
            records,
            num_frames=self.frames,
            size=self.size,
            train=False,
            num_clips=views.clips,
            num_crops=views.crops,
            places=views.places,
            sampling=self.sampling,
            stride=self.stride,
            difference=self.difference,
            decoder=self.decoder,
            preprocessing=self.model.preprocessing,
            faces=views.faces,
            **options,
        )

    def gate_text(self, class_names: Sequence[str], modulation: bool | None = None) -> Float[Tensor, "F D"] | None:
        """The tuned class features that temporal feature modulation needs, None where it is off; see `scorer`."""
        modulation = self.modulation if modulation is None else modulation
        if self.model.temporal is None:  # there is nothing that a gate could damp
            return None
        if modulation and not self.can_gate:
            raise ValueError(
                "temporal feature modulation compares with the classes of tuning, of which this model stores no "
                "features; leave it off (evaluation.modulation=false)"
            )
        gated = not self.is_tuned_on(class_names) if modulation is None else modulation
        return self.tuned_text.to(self.device) if gated and self.tuned_text is not None else None

    def scorer(
        self,
        class_names: Sequence[str],
        modulation: bool | None = None,
        *,
        gate: Gate | None = None,
    ) -> Callable[[Batch], Float[Tensor, "B V K"]]:
        """`view_scorer` for `class_names`.

        `modulation`, `gate`: None = as the model's own `modulation` and `modulation_gate` say. A model that stores no
        features of the tuned classes cannot gate: None does not, True raises ValueError.
        """
        tuned = self.gate_text(class_names, modulation)
        return view_scorer(
            self.model,
            self.text_features(class_names),
            tuned,
            gate=gate or self.modulation_gate,
            factor=self.gate,
            precision=self.precision,
            offset=self.offset if self.is_tuned_on(class_names) else None,
        )

    @torch.inference_mode()
    def encode(self, frames: UInt8[Tensor, "B V T 3 H W"]) -> Float[Tensor, "B V T D"]:
        """Frame features in float32, which `scorer` takes in the place of frames."""
        with autocast(self.precision, self.device):
            return encode_views(self.model, frames.to(self.device))

    @torch.inference_mode()
    def embed(self, features: Float[Tensor, "B V T D"]) -> Float[Tensor, "B D"]:
        """What is compared with class features, of length 1: the mean over views, with the temporal branch in full."""
        with autocast(self.precision, self.device):
            video = in_calls(partial(self.model.head, gate=self.gate), features.flatten(0, 1).to(self.device))
        pooled = self.model.pool(video).unflatten(0, features.shape[:2])
        return pooled[:, 0] if pooled.shape[1] == 1 else F.normalize(pooled.mean(dim=1), dim=-1)

    def in_precision(self, precision: Literal["fp32", "bf16", "auto"]) -> "VideoClassifier":
        """This classifier, its matrix products in bfloat16 where that is asked for, see `mote.models.precision`.

        The text tower stays in float32: it runs once for a vocabulary.
        """
        if resolve_precision(precision, self.device) == self.precision:
            return self
        if self.precision == "bf16":
            raise ValueError("a classifier in bf16 has lost its float32 weights; begin with the one it was made from")
        model = self.model.sharing_parameters()
        if model.temporal is not None:
            model.temporal = in_bf16(model.temporal)
        return replace(self, model=model, precision="bf16")

    def for_encoding(self) -> "VideoClassifier":
        """This classifier with its visual tower made ready for many calls of `encode`, at the price of a copy."""
        if self.precision == "fp32":
            return self
        model = self.model.sharing_parameters()
        model.visual = in_bf16(model.visual)
        return replace(self, model=model)

    def classify_video(
        self,
        path: str | Path,
        class_names: Sequence[str] | None = None,
        *,
        clips: int = 1,
        crops: int = 1,
        modulation: bool | None = None,
        faces: bool = False,
    ) -> dict[str, float]:
        """{class name: probability} of one video file, most probable first; they sum to one.

        modulation: None = as the model's own setting says. All else as for `predict`. A missing file raises
        FileNotFoundError, one that cannot be used DecodeError, one without a face ValueError.
        """
        return self.scores(path, self.chosen(class_names), Views(clips, crops, faces), modulation=modulation)

    def outcomes(
        self, files: Iterable[File], class_names: Sequence[str], views: Views = ONE_VIEW, **options: Any
    ) -> Iterator[tuple[File, Outcome]]:
        """See `name_videos`."""
        return name_videos(self, files, class_names, views, **options)

    def with_templates(self, templates: Sequence[str]) -> "VideoClassifier":
        """This classifier with other prompts: every vocabulary is encoded with them, that of tuning included.

        `tuned_text`, which temporal feature modulation compares with, stays what the model was tuned on.
        """
        if list(templates) == self.templates:
            return self
        return replace(self, templates=list(templates), class_features={})

    def interpolated(self, alpha: float) -> "VideoClassifier":
        """This classifier with alpha * own + (1 - alpha) * original CLIP weights in visual tower and logit scale.

        The temporal head stays. alpha in [0, 1]; the authors' test scripts use 0.99. Raises as `original_weights` does.
        """
        model = copy.deepcopy(self.model)
        state = model.state_dict()
        for name, tensor in self.original_weights().items():
            if tensor.is_floating_point():
                state[name].copy_(torch.lerp(tensor.to(state[name]), state[name], alpha))
        return replace(self, model=model)

    def original_weights(self) -> dict[str, Tensor]:
        """Visual tower and logit scale of the original CLIP under the names that they have in the model.

        Raises:
            ValueError: the original has another visual tower, or the model's has lost parts.
        """
        original, state = self.towers(), self.model.state_dict()
        theirs = {f"visual.{name}": tensor for name, tensor in original.visual.state_dict().items()}
        theirs["logit_scale"] = original.logit_scale
        ours = {name: tensor.shape for name, tensor in state.items() if not name.startswith("temporal.")}
        if {name: tensor.shape for name, tensor in theirs.items()} != ours:
            removed = any(name.startswith("visual.") for name in self.model.widths)
            what = "from which parts were removed" if removed else f"that {original.name} does not have"
            needed = "interpolation needs the visual tower of the original CLIP, and this model has one"
            raise ValueError(f"alpha: {needed} {what}; leave alpha at 1")
        return theirs

    def adjusted(self, tau: float) -> "VideoClassifier":
        """This classifier with the logits of its own classes corrected by their training counts, z - tau log p.

        Raises:
            ValueError: it does not know the counts, or one of them is 0.
        """
        if self.classes is None or "counts" not in self.meta:
            raise ValueError("the model does not say how many clips of each class it was tuned on; train it anew")
        zeros = torch.zeros(len(self.classes), dtype=torch.float64, device=self.device)
        counts = checked_counts(self.meta["counts"], self.classes).to(self.device)
        return replace(self, offset=adjust_logits(zeros, counts, tau).float())

    def corrected(self, settings: ImbalanceConfig, class_names: Sequence[str]) -> "VideoClassifier":
        """This classifier with the correction after training that `imbalance.posthoc` asks for.

        Raises:
            ValueError: `class_names` are not the classes of tuning, or their counts are not known.
        """
        if settings.posthoc == "none":
            return self
        if not self.is_tuned_on(class_names):
            raise ValueError(
                f"imbalance.posthoc={settings.posthoc} is for the classes that the model was tuned on; leave it at none"
            )
        return self.adjusted(settings.posthoc_tau)

    def hashes(self, class_names: Sequence[str]) -> dict[str, str]:
        """SHA-256 of weights, what was fitted to videos included, of class names and of prompt templates."""
        text = {"classes": sha256_lines(class_names), "templates": sha256_lines(self.templates)}
        fitted = {"fitted": self.tuned_text} if self.is_fitted and self.tuned_text is not None else {}
        return {"weights": sha256_tensors({**self.model.state_dict(), **fitted}), **text}

    def chosen(self, class_names: Sequence[str] | None) -> list[str]:
        """`class_names` as a checked list, or the model's own when None; raises ValueError."""
        own = self.classes if self.labels is None else self.labels
        if (names := own if class_names is None else class_names) is None:
            raise ValueError("this model has no classes of its own; give the labels to choose among")
        chosen = list(names)
        if not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(f"expected at least one label and no duplicates, got {chosen}")
        check_names(chosen, "labels")
        return chosen

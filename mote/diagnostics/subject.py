"""What `mote diagnose` measures: the network of a run as a function of its inputs, and the samples it is measured on.

Inputs are `features`, cached frame features (T, D) that the temporal head alone is measured on, or `pixels` in 0..1:
frames (T, 3, S, S), or images (C, S, S). Networks are as they are deployed: in eval mode, experts folded, adapters
merged, in float32. The temperature of CLIP's logits is part of the network, but not among the measured parameters.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from tqdm import tqdm

from mote.config import Config
from mote.config import load as load_config
from mote.datasets.lists.manifest import Record
from mote.datasets.video import VideoDataset
from mote.diagnostics.request import Inputs, Request
from mote.evaluation.listings import training_list, training_listing
from mote.evaluation.views import image_dataset, views_of
from mote.files.hashes import sha256_lines
from mote.files.run_directory import config_file
from mote.files.tensor_hashes import sha256_tensors
from mote.inference.classifier import VideoClassifier
from mote.inference.contract import CLIPS, LIST, as_asked, check_named, images_as_asked, settled
from mote.inference.features import Load, cache_folder, frame_features, open_cache
from mote.inference.images import ImageClassifier
from mote.inference.loading import load
from mote.models.video_clip import VideoCLIP
from mote.parallel.accelerator import Accelerator
from mote.parallel.cores import all_cores

READ = LIST + "evaluation.batch_size evaluation.cache optim.lr optim.batch_size "  # the settings that count here


class VideoLogits(nn.Module):
    """Inputs of a video model -> logits (B, K).

    Args:
        model: folded, so that it has one expert.
        text: class features.
        features_of: inputs -> frame features (B, T, D).
    """

    text: Tensor

    def __init__(self, model: VideoCLIP, text: Float[Tensor, "K D"], features_of: Callable[[Tensor], Tensor]):
        super().__init__()
        self.model, self.features_of = model, features_of
        self.register_buffer("text", text)

    def forward(self, inputs: Tensor, residual: Tensor | None = None) -> Tensor:
        """Logits; `residual`: features (B, T, D) that bypass the temporal branch, where they are not those it gets."""
        features = self.features_of(inputs)
        video = self.model.head(features)
        return self.model.classify(video if residual is None else video - features + residual, self.text)


class ImageLogits(nn.Module):
    """Images (B, C, S, S) in 0..1 -> logits (B, K), by a network that takes 0..255."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.net(255 * images)


@dataclass(frozen=True)
class Subject:
    """A network and this process's samples.

    Args:
        module: the network in eval mode, inputs (B, ...) in float32 -> logits (B, K).
        kind: "features" or "pixels".
        names: parameters that are measured.
        inputs: features, or pixels as uint8, (n, ...).
        label: class of each sample.
        index: place of each sample among the `total` that are measured.
        total: number of samples of all processes.
        listed: length of the list that they were drawn from.
        classes: class names.
        frames: whether the second axis of the inputs is that of the frames.
        two_paths: (features of the branch, features that bypass it) -> logits, where there is such a bypass.
        hashes: SHA-256 of weights and samples.
        device: where the network is.
        config: the configuration as it was used, see `mote.inference.contract.settled`.
    """

    module: nn.Module
    kind: Inputs
    names: list[str]
    inputs: Tensor
    label: Int64[Tensor, "n"]
    index: Int64[Tensor, "n"]
    total: int
    listed: int
    classes: list[str]
    frames: bool
    two_paths: Callable[[Tensor, Tensor], Tensor] | None
    hashes: dict[str, str]
    device: torch.device
    config: Config

    def batches(self, size: int) -> "Batches":
        """The samples in batches of `size`, see `Batches`."""
        return Batches(self, size)


class Batches:
    """Batches (inputs in float32, label, index) on the device; can be iterated over again, and may move a `bar`."""

    def __init__(self, subject: Subject, size: int, bar: tqdm | None = None):
        self.subject, self.size, self.bar = subject, size, bar

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        of, device = self.subject, self.subject.device
        for start in range(0, len(of.label), self.size):
            part = slice(start, start + self.size)
            inputs = of.inputs[part].to(device)
            inputs = inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs
            yield inputs, of.label[part].to(device), of.index[part].to(device)
            if self.bar is not None:
                self.bar.update(len(of.label[part]))


class Listed(NamedTuple):
    """A network and the list that its samples are drawn from; `read`: positions in the list -> inputs (n, ...)."""

    module: nn.Module
    kind: Inputs
    records: Sequence[Record]
    classes: list[str]
    read: Callable[[list[int]], Tensor]
    config: Config


def subject(run: Path, config: Config, accelerator: Accelerator, request: Request) -> Subject:
    """The network of `run` and samples of `config.data.train`, all of them where the list is short.

    Raises:
        ValueError, DecodeError, OSError: a run, list or setting that cannot be used; one line.
    """
    if config.data.train is None:
        raise ValueError("data.train is not set; name the list to measure on, for example data.train=train.txt")
    listed = _listed(run, config, accelerator, request)
    module, records, number = listed.module.eval(), listed.records, accelerator.num_processes
    chosen = np.sort(np.random.default_rng(request.seed).permutation(len(records))[: request.samples]).tolist()
    if len(chosen) < max(2, number):
        raise ValueError(f"{len(records)} samples listed for {number} processes; expected at least 2")
    own = range(accelerator.process_index, len(chosen), number)
    names = [name for name, _ in module.named_parameters() if not name.endswith("logit_scale")]
    if listed.kind == "features":
        names = [name for name in names if ".temporal." in name]
    if request.parameters is not None:
        names = [name for name in names if fnmatch(name, request.parameters)]
        if not names:
            known = ", ".join(name for name, _ in module.named_parameters())
            raise ValueError(f"--parameters {request.parameters}: matches nothing; there are {known}")
    lines = [f"{records[i].path} {records[i].label}" for i in chosen]
    return Subject(
        module=module,
        kind=listed.kind,
        names=names,
        inputs=listed.read([chosen[place] for place in own]),
        label=torch.tensor([records[chosen[place]].label for place in own]),
        index=torch.tensor(own),
        total=len(chosen),
        listed=len(records),
        classes=listed.classes,
        frames=isinstance(module, VideoLogits),
        two_paths=module if listed.kind == "features" else None,
        hashes={"weights": sha256_tensors(module.state_dict()), "samples": sha256_lines(lines)},
        device=accelerator.device,
        config=listed.config,
    )


def _listed(run: Path, config: Config, accelerator: Accelerator, request: Request) -> Listed:
    """The network and its list; the only place that asks what kind of model it is."""
    model, file = load(str(run), device=accelerator.device), config_file(run)
    own = Config() if file is None else load_config([file])
    if not isinstance(model, VideoClassifier | ImageClassifier):
        raise ValueError(f"{run}: an autoencoder has no classes, hence no margins to diagnose")
    if isinstance(model, VideoClassifier):
        classifier = as_asked(model, config, request.named)
        check_named(classifier, config, own, request.named, READ + CLIPS)
        return _video(classifier, settled(config, classifier), accelerator, request.inputs)
    assert isinstance(model, ImageClassifier)
    if request.inputs == "features":
        raise ValueError("--inputs features is for task=video; images are measured by their pixels")
    images = images_as_asked(model, config)
    check_named(images, config, own, request.named, READ + "data.size")
    return _image(images, settled(config, images), accelerator)


def _video(classifier: VideoClassifier, config: Config, accelerator: Accelerator, inputs: Inputs | None) -> Listed:
    data, classes, model = config.data, classifier.classes, classifier.model
    run = "" if classifier.source is None else f"{classifier.source.model}: "
    if classes is None:
        raise ValueError(f"{run}this model has no classes of its own; diagnose a run that was trained")
    inputs = inputs or ("pixels" if model.temporal is None else "features")
    if inputs == "features" and model.temporal is None:
        raise ValueError(f"{run}has no temporal head to measure alone; give --inputs pixels")
    records = training_listing(data).records(classes)
    dataset = views_of(classifier, records, config.evaluation.model_copy(update={"clips": 1, "crops": 1}), data)
    text = classifier.text_features(classes)
    if inputs == "features":
        head = VideoLogits(model, text, lambda features: features)
        return Listed(
            head, inputs, records, classes, partial(_features, classifier, dataset, config, accelerator), config
        )
    whole = VideoLogits(model, text, lambda frames: model.encode_frames(255 * frames))

    def read(chosen: list[int]) -> Tensor:
        bar = tqdm(chosen, desc="decode", unit="clip", disable=_silent(accelerator))
        return torch.stack([dataset.frames(0, i)[0] for i in bar])

    return Listed(whole, inputs, records, classes, read, config)


def _image(model: ImageClassifier, config: Config, accelerator: Accelerator) -> Listed:
    data = training_list(config)
    if list(data.classes) != model.classes:
        run = "the model" if model.source is None else model.source.model
        raise ValueError(f"{config.data.train}: its classes are not those of {run}; name the run's own in data.classes")
    dataset = image_dataset(config, data, model.size, train=False, preprocessing=model.preprocessing)

    def read(chosen: list[int]) -> Tensor:
        bar = tqdm(chosen, desc="read", unit="image", disable=_silent(accelerator))
        return torch.stack([dataset.image(0, i) for i in bar])

    return Listed(ImageLogits(model.net), "pixels", data.records, model.classes, read, config)


def _silent(accelerator: Accelerator) -> bool | None:
    """`disable` of a progress bar: only the main process shows it, where there is a terminal."""
    return None if accelerator.is_main_process else True


def _features(
    classifier: VideoClassifier, dataset: VideoDataset, config: Config, accelerator: Accelerator, chosen: list[int]
) -> Float[Tensor, "n T D"]:
    """Frame features of the central views, from the cache where they are."""
    settings = config.evaluation
    folder = cache_folder(settings.cache, classifier)
    cache = None if folder is None else open_cache(folder, classifier, dataset)
    with all_cores(classifier.device) as ordered_map:
        found = frame_features(
            classifier,
            dataset,
            chosen,
            ordered_map,
            load=Load(settings.batch_size, config.data.workers),
            cache=cache,
        )
        bar = tqdm(found, desc="encode", unit="clip", total=len(chosen), disable=_silent(accelerator))
        rows = [row[0] for row in bar if isinstance(row, Tensor)]
    if cache is not None:
        cache.close()
    return torch.stack(rows)

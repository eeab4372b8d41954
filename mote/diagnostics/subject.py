"""What `mote diagnose` measures: the network of a run as a function of its inputs, and the samples it is measured on.

Inputs are `features`, cached frame features (T, D) under the temporal head alone, or `pixels` in 0..1: frames
(T, 3, S, S), or pictures (C, S, S). Networks are as they are deployed: in eval mode, experts folded, adapters merged,
in float32. The temperature of CLIP's logits is part of the network but no parameter that is measured.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from tqdm import tqdm

from mote.config import Config
from mote.datasets.lists.manifest import Record
from mote.datasets.lists.reading import Listing
from mote.evaluation.features import cache_folder, frame_features, open_cache
from mote.evaluation.views import evaluation_dataset
from mote.files.hashes import sha256_lines, sha256_tensors
from mote.inference.classifier import Classifier
from mote.inference.loading import load
from mote.models.video_clip import VideoCLIP
from mote.parallel.accelerator import Accelerator
from mote.parallel.cores import all_cores


class HeadLogits(nn.Module):
    """Frame features (B, T, D) -> logits (B, K); `past`: those that go past the temporal branch, where not the same."""

    text: Tensor

    def __init__(self, model: VideoCLIP, text: Float[Tensor, "K D"]):
        super().__init__()
        self.model = model
        self.register_buffer("text", text)

    def forward(self, features: Tensor, past: Tensor | None = None) -> Tensor:
        """Logits."""
        video = self.model.head(features)
        return self.model.classify(video if past is None else video - features + past, self.text)


class CLIPLogits(nn.Module):
    """Frames (B, T, 3, S, S) in 0..1 -> logits (B, K)."""

    text: Tensor

    def __init__(self, model: VideoCLIP, text: Float[Tensor, "K D"]):
        super().__init__()
        self.model = model
        self.register_buffer("text", text)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits."""
        return self.model.classify(self.model.head(self.model.encode_frames(255 * frames)), self.text)


class ImageLogits(nn.Module):
    """Pictures (B, C, S, S) in 0..1 -> logits (B, K), by a network that takes 0..255."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.net(255 * images)


@dataclass
class Subject:
    """A network and this process's samples.

    kind: "features" or "pixels". names: parameters that are measured. inputs: features, or pixels as uint8. index: of
    the samples among the `total` that are measured, drawn from `listed`. frames: whether a sample has an axis of them.
    two_paths: (branch, past) -> logits, where the inputs go past the first layer as well. hashes: of weights, samples.
    """

    module: nn.Module
    kind: str
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

    def batches(self, size: int) -> "Batches":
        """The samples as `diagnostics.network` wants them, `size` at a time."""
        return Batches(self, size)


class Batches:
    """(inputs as floats, label, index) on the device, gone through any number of times; shows a bar where asked."""

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


def subject(
    run: Path,
    config: Config,
    accelerator: Accelerator,
    *,
    samples: int,
    seed: int,
    inputs: str | None = None,
    parameters: str | None = None,
) -> Subject:
    """The network of `run` and `samples` items of `config.data.train`, drawn by `seed`; all of a shorter list.

    inputs: None: features where there is a temporal head, else pixels. parameters: pattern of the names to measure.

    Raises:
        ValueError, DecodeError, OSError: a run, list or setting that cannot be used; one line.
    """
    if config.data.train is None:
        raise ValueError("data.train is not set; name the list to measure on, for example data.train=train.txt")
    if samples < 2:
        raise ValueError(f"--samples must be at least 2, got {samples}")
    if config.task == "autoencoder":
        raise ValueError(f"{run}: an autoencoder has no classes, hence no margins to diagnose")
    build_one = _video if config.task == "video" else _image
    found = build_one(run, config, accelerator, samples, seed, inputs)
    if parameters is not None:
        found.names = [name for name in found.names if fnmatch(name, parameters)]
        if not found.names:
            known = ", ".join(name for name, _ in found.module.named_parameters())
            raise ValueError(f"--parameters {parameters}: matches nothing; there are {known}")
    return found


def _video(run: Path, config: Config, accelerator: Accelerator, samples: int, seed: int, inputs: str | None) -> Subject:
    classifier = load(str(run), device=accelerator.device)
    data, classes = config.data, classifier.classes
    if classes is None:
        raise ValueError(f"{run}: this model has no classes of its own; diagnose a run that was trained")
    head = classifier.model.temporal is not None
    inputs = inputs or ("features" if head else "pixels")
    if inputs == "features" and not head:
        raise ValueError(f"{run}: has no temporal head to measure alone; give --inputs pixels")
    assert data.train is not None
    records = Listing(data.train, data.root, data.split, data.classes).records(classes)
    chosen, own = _draw(len(records), samples, seed, accelerator)
    text = classifier.text_features(classes)
    if inputs == "features":
        taken = _features(classifier, records, chosen[own.numpy()], config, accelerator)
        module: nn.Module = HeadLogits(classifier.model, text)
        names = [name for name, _ in module.named_parameters() if ".temporal." in name]
    else:
        dataset = _views(classifier, records, config)
        bar = tqdm(chosen[own.numpy()], desc="decode", unit="clip", disable=_silent(accelerator))
        taken = torch.stack([dataset.frames(0, int(i))[0] for i in bar])
        module = CLIPLogits(classifier.model, text)
        names = [name for name, _ in module.named_parameters() if not name.endswith("logit_scale")]
    return Subject(
        module=module.eval(),
        kind=inputs,
        names=names,
        inputs=taken,
        label=torch.tensor([records[i].label for i in chosen[own.numpy()]]),
        index=own,
        total=len(chosen),
        listed=len(records),
        classes=classes,
        frames=True,
        two_paths=module if inputs == "features" else None,
        hashes=_hashes(module, records, chosen),
        device=accelerator.device,
    )


def _image(run: Path, config: Config, accelerator: Accelerator, samples: int, seed: int, inputs: str | None) -> Subject:
    from mote.evaluation.views import image_dataset, training_list
    from mote.inference.images import load_model

    if inputs == "features":
        raise ValueError("--inputs features is for task=video; pictures are measured by their pixels")
    model, meta = load_model(run, config.image)
    data = training_list(config)
    if list(data.classes) != list(meta["classes"]):
        raise ValueError(f"{config.data.train}: its classes are not those of {run}; name the run's own in data.classes")
    chosen, own = _draw(len(data.records), samples, seed, accelerator)
    dataset = image_dataset(config, data, meta["size"], train=False)
    bar = tqdm(chosen[own.numpy()], desc="read", unit="picture", disable=_silent(accelerator))
    module = ImageLogits(model).to(accelerator.device).eval()
    return Subject(
        module=module,
        kind="pixels",
        names=[name for name, _ in module.named_parameters() if not name.endswith("logit_scale")],
        inputs=torch.stack([dataset.image(0, int(i)) for i in bar]),
        label=torch.tensor([data.records[i].label for i in chosen[own.numpy()]]),
        index=own,
        total=len(chosen),
        listed=len(data.records),
        classes=list(meta["classes"]),
        frames=False,
        two_paths=None,
        hashes=_hashes(module, data.records, chosen),
        device=accelerator.device,
    )


def _draw(listed: int, samples: int, seed: int, accelerator: Accelerator) -> tuple[np.ndarray, Int64[Tensor, "n"]]:
    """(positions in the list that are measured, in its order; which of them are this process's)."""
    chosen = np.sort(np.random.default_rng(seed).permutation(listed)[:samples])
    own = torch.arange(accelerator.process_index, len(chosen), accelerator.num_processes)
    if len(chosen) < max(2, accelerator.num_processes):
        raise ValueError(f"{listed} samples listed for {accelerator.num_processes} processes; expected at least 2")
    return chosen, own


def _silent(accelerator: Accelerator) -> bool | None:
    return None if accelerator.is_main_process else True


def _views(classifier: Classifier, records: list[Record], config: Config) -> Any:
    settings = config.evaluation.model_copy(update={"clips": 1, "crops": 1})
    return evaluation_dataset(
        records,
        settings,
        config.data,
        frames=classifier.frames,
        size=classifier.size,
        difference=classifier.difference,
    )


def _features(
    classifier: Classifier, records: list[Record], chosen: np.ndarray, config: Config, accelerator: Accelerator
) -> Float[Tensor, "n T D"]:
    """Frame features of the central views, from the cache where they are."""
    dataset, settings = _views(classifier, records, config), config.evaluation
    folder = cache_folder(settings.cache, classifier)
    cache = None if folder is None else open_cache(folder, classifier, dataset)
    with all_cores(classifier.device) as ordered_map:
        found = frame_features(
            classifier,
            dataset,
            [int(i) for i in chosen],
            ordered_map,
            batch_size=settings.batch_size,
            workers=config.data.workers,
            cache=cache,
        )
        bar = tqdm(found, desc="encode", unit="clip", total=len(chosen), disable=_silent(accelerator))
        rows = [row[0] for row in bar if row is not None]
    if cache is not None:
        cache.close()
    return torch.stack(rows)


def _hashes(module: nn.Module, records: list[Record], chosen: np.ndarray) -> dict[str, str]:
    lines = [f"{records[i].path} {records[i].label}" for i in chosen]
    return {"weights": sha256_tensors(module.state_dict()), "samples": sha256_lines(lines)}

"""Frame features of listed videos: from the cache where they are, else from the files, and then into the cache.

On the CPU a video is one call of the tower on one thread, on its distinct images, so its features depend on the
weights and the file and on nothing else: not on batches, workers, threads, processes, or which videos were cached. On
an accelerator the videos of a batch go through the tower at once, and batches of another size may differ in the last
bits.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from tqdm import tqdm

from mote.datasets.cache.cached_video import record_keys, to_encode
from mote.datasets.cache.feature_cache import FeatureCache, default_folder, entry_key, namespace_key
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.face_crop import NO_FACE, NoFaceError
from mote.datasets.loader import make_loader
from mote.datasets.video import VideoDataset
from mote.files.hashes import sha256_lines
from mote.files.preprocessing import CUT_FIRST, Preprocessing
from mote.files.provenance import versions
from mote.files.tensor_hashes import sha256_tensors
from mote.models.clip import Towers
from mote.models.video_clip import VideoCLIP
from mote.parallel.cores import OrderedMap
from mote.parallel.precision import Precision

PIECE = 16  # images at once on a CPU: what is computed of more no longer fits its caches
Unusable = DecodeError | NoFaceError  # what is wrong with a video
SMALL_TOWER = 5_000_000  # parameters; below (the built-in tiny CLIP), "auto" keeps nothing: encoding costs little


class Load(NamedTuple):
    """How videos are decoded: how many at once, and by how many worker processes."""

    batch_size: int = 8
    workers: int = 0


ALONE = Load()  # by this process


@runtime_checkable
class Encoder(Protocol):
    """What encodes frames and class names: `VideoClassifier`."""

    @property
    def model(self) -> VideoCLIP:
        """With the visual tower and how it sees pixels."""
        ...

    @property
    def precision(self) -> Precision:
        """Of matrix products."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        ...

    @property
    def templates(self) -> list[str]:
        """Prompt templates."""
        ...

    @property
    def towers(self) -> Callable[[], Towers]:
        """The original CLIP."""
        ...

    @property
    def class_features(self) -> dict[tuple[tuple[str, ...], tuple[str, ...]], Tensor]:
        """Those met so far, by (class names, templates)."""
        ...

    def encode(self, frames: UInt8[Tensor, "B V T 3 H W"]) -> Float[Tensor, "B V T D"]:
        """Frame features."""
        ...

    def for_encoding(self) -> "Encoder":
        """The encoder made ready for many calls of `encode`."""
        ...

    def stored_text(self, class_names: Sequence[str]) -> Float[Tensor, "K D"] | None:
        """Class features that came with the model."""
        ...

    def text_features(self, class_names: Sequence[str]) -> Float[Tensor, "K D"]:
        """Class features."""
        ...


def cache_folder(cache: str | None, classifier: Encoder) -> Path | None:
    """The folder that `evaluation.cache` means for this model: itself, for "auto" the user's; None = no cache."""
    if cache == "auto":
        small = sum(p.numel() for p in classifier.model.visual.parameters()) < SMALL_TOWER
        return None if small else default_folder()
    return None if cache is None else Path(cache)


def open_cache(folder: Path, classifier: Encoder, dataset: VideoDataset) -> FeatureCache:
    """The part of a cache folder for this tower, this precision and machine, and this way of cutting views."""
    views: dict[str, int | str] = {"clips": dataset.num_clips, "crops": dataset.num_crops, "frames": dataset.num_frames}
    if dataset.places != "even":  # left out otherwise, so that what was kept before there was a choice still counts
        views["places"] = dataset.places
    facts = tower_facts(classifier, dataset.decoder, dataset.preprocessing)
    pictures = "distinct, as a player shows them"
    return FeatureCache(folder, namespace_key(**facts, **views, size=dataset.size, pictures=pictures))


def tower_facts(classifier: Encoder, decoder: str, preprocessing: Preprocessing) -> dict[str, str]:
    """What decides the features of pictures: tower, precision, machine, software, how pixels are prepared."""
    found = versions()
    reader = f"av {found['av']}" if decoder == "pyav" else f"{decoder} {found['decord']}"
    return {
        "weights": sha256_tensors(classifier.model.visual.state_dict()),
        "architecture": _architecture(classifier.model.visual),
        "pixels": _pixels(classifier.model, preprocessing),
        "precision": classifier.precision,
        "device": _machine(classifier.device),
        "software": f"mote {found['mote']}, torch {found['torch']}, open_clip {found['open_clip']}, {reader}",
    }


def keep_class_features(folder: Path, classifier: Encoder, labels: Sequence[str]) -> None:
    """Class features of `labels` for the classifier, from a cache folder, into which they are put where missing.

    An entry is a whole vocabulary, (1, K, D): a part of it, encoded in other batches, could differ in its last bits.
    Nothing is done where the classifier needs no text tower.
    """
    key = tuple(labels), tuple(classifier.templates)
    if key in classifier.class_features or classifier.stored_text(labels) is not None:
        return
    tower = classifier.towers().encode_text
    if not isinstance(tower, nn.Module):
        return
    found = versions()
    space = namespace_key(
        text_tower=sha256_tensors(tower.state_dict()),
        architecture=_architecture(tower),
        templates=sha256_lines(classifier.templates),
        classes=len(labels),
        device=_machine(classifier.device),
        software=f"mote {found['mote']}, torch {found['torch']}, open_clip {found['open_clip']}",
    )
    with FeatureCache(folder, space) as cache:
        name = entry_key(sha256_lines(labels), "class features")
        row = cache.read(name)
        if row is not None:
            classifier.class_features[key] = torch.from_numpy(row[0]).to(classifier.device)
        else:
            keep(cache, name, classifier.text_features(labels)[None].cpu())


def indices_rule(dataset: VideoDataset) -> str:
    """The rule by which frames are taken from a file, besides their number, which the namespace holds."""
    apart = f", {dataset.stride} apart" if dataset.sampling == "dense" else ""
    return f"{dataset.sampling}{apart}, difference {dataset.difference}{', largest face' if dataset.faces else ''}"


def frame_features(
    classifier: Encoder,
    dataset: VideoDataset,
    indices: Sequence[int],
    ordered_map: OrderedMap,
    *,
    load: Load,
    strict: bool = True,
    cache: FeatureCache | None = None,
    progress: bool = False,
) -> Iterator[Float[Tensor, "V T D"] | Unusable]:
    """Features of the records at `indices`, in that order, in float32 on the CPU; its error for one that
    cannot be decoded, or shows no face where faces are wanted.

    dataset: must mark undecodable videos. ordered_map: of `all_cores` for the classifier's device. load: of the loader
    that decodes what is not cached. progress: show a bar.
    Raises the first such error when `strict`.
    """
    keys: list[str | None] = [None] * len(indices)
    fresh = set(range(len(indices)))
    if cache is not None:
        listed = [dataset.records[i] for i in indices]
        bar = tqdm(listed, desc="look up", unit="video", disable=not progress, delay=1)
        keys = record_keys(cache, bar, indices_rule(dataset))
        fresh = {*to_encode(cache, keys), *(place for place, key in enumerate(keys) if key is None)}
    encoded = _encode(classifier, dataset, [indices[i] for i in sorted(fresh)], ordered_map, load)
    for place, (index, key) in enumerate(zip(indices, keys, strict=True)):
        row = None if place in fresh or cache is None or key is None else cache.read(key)
        if place in fresh:
            features = next(encoded)
        elif row is None:  # the same content could not be decoded, or not kept, a moment ago
            features = next(_encode(classifier, dataset, [index], ordered_map, Load(1, 0)))
        else:
            features = torch.from_numpy(row)
        if isinstance(features, Unusable):
            if strict:
                raise features
        elif row is None and cache is not None and key is not None and key == _key(cache, dataset, index):
            cache = keep(cache, key, features)  # else the file changed after its key was found, before it was read
        yield features


def _key(cache: FeatureCache, dataset: VideoDataset, index: int) -> str | None:
    return record_keys(cache, [dataset.records[index]], indices_rule(dataset))[0]


def _encode(
    classifier: Encoder, dataset: VideoDataset, indices: Sequence[int], ordered_map: OrderedMap, load: Load
) -> Iterator[Float[Tensor, "V T D"] | Unusable]:
    if not indices:
        return
    loader = make_loader(dataset, load.batch_size, sampler=indices, workers=load.workers, drop_last=False)
    classifier = classifier.for_encoding()
    if classifier.device.type != "cpu":
        for batch in loader:
            rows = encode_once(classifier, batch["frames"])
            yield from (error_of(cause, dataset) or row for row, cause in zip(rows, batch["cause"], strict=True))
        return

    def encode(video: tuple[Tensor, str]) -> Tensor | Unusable:
        frames, cause = video
        return error_of(cause, dataset) or encode_once(classifier, frames[None])[0]

    videos = (video for batch in loader for video in zip(batch["frames"], batch["cause"], strict=True))
    yield from ordered_map(encode, videos)


def encode_once(classifier: Encoder, frames: UInt8[Tensor, "B V T 3 S S"]) -> Float[Tensor, "B V T D"]:
    """Features on the CPU; images that are equal, as where a video is shorter than its clips, go through once.

    On a CPU they do so `PIECE` at a time.
    """
    images = frames.flatten(0, 2)
    hashes = [hashlib.sha256(image.movedim(0, -1).contiguous().numpy().data).digest() for image in images]
    first: dict[bytes, int] = {}  # where each is met first
    for position, digest in enumerate(hashes):
        first.setdefault(digest, position)
    if len(first) < len(images):
        images = images[list(first.values())]
    pieces = images.split(PIECE if classifier.device.type == "cpu" else len(images))
    features = torch.cat([classifier.encode(piece[None, None]).cpu()[0, 0] for piece in pieces])
    number = {digest: n for n, digest in enumerate(first)}
    return features[[number[digest] for digest in hashes]].unflatten(0, frames.shape[:3])


def error_of(cause: str, dataset: VideoDataset) -> Unusable | None:
    """What `cause` of an item of the dataset says, see `VideoDataset`; None where it could be decoded."""
    if not cause:
        return None
    path, why = cause.rsplit("\t", 1)
    return NoFaceError(f"{path}: {why}") if why == NO_FACE else DecodeError(path, dataset.decoder, why)


def keep(cache: FeatureCache, key: str, features: Float[Tensor, "V T D"]) -> FeatureCache | None:
    """Put an entry; where the cache cannot be written, say so and go on without it."""
    try:
        cache.put(key, features.numpy())
    except OSError as error:
        warnings.warn(f"{error}; going on without", stacklevel=2)
        return None
    return cache


def _pixels(model: VideoCLIP, preprocessing: Preprocessing) -> str:
    """How pixels are prepared; features from before there was a choice keep their key."""
    statistics = [model.mean.tolist(), model.std.tolist()]
    return str(statistics if preprocessing == CUT_FIRST else [*statistics, *preprocessing])


def _machine(device: torch.device) -> str:
    """What decides the last bits besides the software."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return f"{device.type} {name}"


def _architecture(visual: nn.Module) -> str:
    """What a tower computes besides its weights: its modules, and their settings that are plain values."""
    passing = {"training", "grad_checkpointing"}
    plain = (bool, int, float, str, tuple, type(None))
    settings = [
        (name, key, str(value))
        for name, module in visual.named_modules()
        for key, value in sorted(vars(module).items())
        if isinstance(value, plain) and not key.startswith("_") and key not in passing
    ]
    return f"{visual} {settings}"

"""Image networks on disk: a folder with `model.safetensors` and `model.json`, as for the video models.

`model.json` says `"task": "image"` or `"expression"`, the name of the network and the sizes that rebuild it, the
statistics of its pixels, the classes, and what kind of image it takes; of expressions also the training counts. A
network of fewer units than usual needs nothing else.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mote.files.preprocessing import CUT_FIRST, EARLIER, Preprocessing, read_preprocessing
from mote.files.run_directory import DESCRIPTION, WEIGHTS, read_description, task_of
from mote.models.description import ImageDescription, check_description
from mote.models.feature_maps import TimmMaps
from mote.models.image_nets import ImageClassifier, build_net
from mote.models.tensor_files import Tensors, filled, write_model_folder

TIMM = "timm:"
TASKS = ("image", "expression")


class LoadedNet(NamedTuple):
    """An image classifier from disk, in evaluation mode on the CPU, and its `model.json`."""

    model: ImageClassifier
    meta: dict[str, Any]


def image_classifier(
    net: str,
    num_classes: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    dropout: float = 0.0,
    pretrained: bool = False,
    maps: bool = False,
    cosine: float | None = None,
    **sizes: Any,
) -> ImageClassifier:
    """A network of `image_nets`, or `timm:NAME` with the pixel statistics and preprocessing of its weights.

    Args:
        net: the name.
        num_classes: K.
        mean, std: of pixels in [0, 1]; not read for timm.
        dropout: before the last layer, see `image_nets`.
        pretrained: timm only: download its weights.
        maps: the network must have a feature map and a linear head, see `feature_maps`.
        cosine: scale of a cosine head, for a network with maps.
        sizes: `in_channels`, `size` and the widths of `image_nets`.

    Raises:
        ValueError: an unknown network, sizes that do not fit it, or no feature map where one is asked for.
        RuntimeError: weights that could not be downloaded.
    """
    if not net.startswith(TIMM):
        sizes |= {} if cosine is None else {"cosine": cosine}
        built: Any = build_net(net, num_classes, dropout=dropout, **sizes)
        if maps and not hasattr(built, "forward_features"):
            raise ValueError(f"{net} has no feature map; take resnet8, resnet20, resnet32, timm:NAME or clip")
        return ImageClassifier(built, mean=mean, std=std)
    name = net.removeprefix(TIMM)
    import timm  # here, since most networks are none of its

    if not timm.is_model(name.split(".")[0]):
        raise ValueError(f"timm has no model {name!r}; mote uses timm {timm.__version__}")
    if maps:
        built = TimmMaps(name, num_classes, dropout=dropout, pretrained=pretrained, cosine=cosine, **sizes)
        return ImageClassifier(built, **_pixels(built.body.pretrained_cfg, sizes["in_channels"]))
    channels = sizes["in_channels"]
    built = timm.create_model(
        name, pretrained=pretrained, num_classes=num_classes, in_chans=channels, drop_rate=dropout
    )
    built.sizes = {"in_channels": channels}
    return ImageClassifier(built, **_pixels(built.pretrained_cfg, channels))


def _pixels(config: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """Mean, standard deviation and preprocessing of the images that a network of timm was trained on, from its data
    configuration. `crop_pct`, the share of the image that is left after its border is cut off, is not taken over.
    """
    bars = tuple(round(255 * level) for level in config["mean"])  # what timm fills them with
    resize = {"squash": "squash", "border": "longest"}.get(config.get("crop_mode") or "center", "shortest")
    filter = "bilinear" if config.get("interpolation") == "bilinear" else "bicubic"
    found: dict[str, Any] = {"preprocessing": Preprocessing(filter, resize, bars if resize == "longest" else (0, 0, 0))}
    for key in ("mean", "std"):  # timm adds the colours' weights up for grey images
        found[key] = (sum(config[key]) / 3,) if channels == 1 else config[key]
    return found


def save_net(folder: Path, model: ImageClassifier, meta: Mapping[str, object]) -> None:
    """Write `model.safetensors` and `model.json`, each whole or not at all.

    `meta`: JSON values; needs `net` and `classes`.
    """
    sizes = dict(getattr(model.net, "sizes", {}))
    statistics = {name: getattr(model, name).flatten().tolist() for name in ("mean", "std")}
    own = {"sizes": sizes, **statistics, "preprocessing": model.preprocessing._asdict()}
    write_model_folder(folder, model.state_dict(), {"task": "image", **meta, **own})


def is_image_model(folder: Path) -> bool:
    """Whether `folder` holds a network for still images."""
    return task_of(folder) in TASKS


def load_net(folder: Path) -> LoadedNet:
    """Rebuild a model written by `save_net`.

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: naming the file that is damaged, or does not fit the other.
    """
    place, weights = folder / DESCRIPTION, folder / WEIGHTS
    try:
        meta = read_description(folder)
    except (ValueError, OSError) as error:
        raise ValueError(f"{place}: does not describe an image network: {error}") from None
    state = Tensors(weights)
    check_description(ImageDescription, meta, place, len(state))

    def build(device: str) -> ImageClassifier:
        with torch.random.fork_rng(devices=[]), torch.device(device):  # the initial weights are thrown away
            sizes = {"mean": meta["mean"], "std": meta["std"], **meta["sizes"]}
            return image_classifier(meta["net"], len(meta["classes"]), **sizes)

    model = filled(build, state, weights, place)
    if "preprocessing" not in meta and model.preprocessing != CUT_FIRST:
        warnings.warn(f"{place}: {EARLIER}", stacklevel=2)
    model.preprocessing = read_preprocessing(meta)
    return LoadedNet(model, meta)

"""`mote compact`: load a model, remove what is zero, verify that its outputs stay, write the smaller model.

The result has the layout of its source: beside a run's `config.yaml` the model lies in `best/`, so that `mote eval`,
`mote predict`, `mote.load` and `model.init` (`image.init`) take the folder. `compact.json` holds the report.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mote.files.provenance import versions
from mote.files.run_directory import BEST, CONFIG, config_file, model_folder
from mote.files.tensor_hashes import sha256_tensors
from mote.files.writing import refuse_filled, replacing_folder
from mote.models import folders
from mote.models.checkpoints import TENSORS, TEXT, is_reference_checkpoint, save_model
from mote.models.image_checkpoints import is_image_model, load_net, save_net
from mote.models.image_nets import ImageClassifier
from mote.models.video_clip import VideoCLIP
from mote.reporting.page import text_table
from mote.sparsity.compact import compact, largest_difference, widths
from mote.sparsity.report import Run, layers, seconds, table

TOLERANCE = 1e-5
IMAGE_BATCHES, CLIP_BATCHES = (1, 64), (1, 4)  # batch sizes whose time is measured


class Source(NamedTuple):
    """A network to make smaller, how to write the result to a folder, and what to run it on.

    `example` gives, for a batch size, a function that runs a network on random pixels.
    """

    model: nn.Module
    save: Callable[[Path, nn.Module], None]
    example: Callable[[int], Run]
    batches: tuple[int, ...]


def _untrained() -> str:
    return "train it with sparsity.strength > 0"


def compact_model(model: str, out: str, advice: Callable[[], str] = _untrained) -> dict[str, object]:
    """Write the network of `model` without its zero parts to `out`; the result is the report, as in compact.json.

    Args:
        model: run directory or model folder, or an authors' checkpoint (.pt), see `models.folders.with_assumptions`.
        out: new folder.
        advice: what to do about a network without zeros.

    Raises:
        FileExistsError: `out` holds something.
        ValueError, FileNotFoundError: no model there, or one in which no unit, head or layer is zero.
        ArithmeticError: the smaller network gives other numbers; nothing is written.
    """
    folder, target = Path(model), Path(out)
    refuse_filled(target)
    inner, config = model_folder(folder), config_file(folder)
    source = _image(inner) if is_image_model(inner) else _video(folder, inner)
    small = compact(source.model)
    if widths(small) == widths(source.model):
        raise ValueError(f"{model}: nothing in it is zero, so nothing can go; {advice()}")
    dense, narrow = _folded(source.model), _folded(small)
    difference = _difference(dense, narrow, source)
    if difference > TOLERANCE:
        raise ArithmeticError(
            f"{model}: the smaller network differs by {difference:.1e}, more than {TOLERANCE:g}; nothing was "
            "written, please report this"
        )
    rows = layers(dense, narrow, source.example(source.batches[0]))
    times = [_times(dense, narrow, source, batch) for batch in source.batches]
    hashes = {"dense": sha256_tensors(source.model.state_dict()), "compact": sha256_tensors(small.state_dict())}
    report = {"layers": rows, "time": times, "difference": difference, "model": model}
    report |= {"versions": versions(), "hashes": hashes}
    with replacing_folder(target) as temporary:
        source.save(temporary if config is None else temporary / BEST, small)
        if config is not None:
            shutil.copyfile(config, temporary / CONFIG)
        (temporary / "compact.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(text_table(table(rows)))
    for row in times:
        print(
            f"batch of {row['batch']}: {1e3 * row['seconds']:.2f} ms dense, {1e3 * row['seconds_left']:.2f} ms compact "
            f"(speed-up {row['speedup']:.2f}; {row['threads']} threads)"
        )
    print(f"{target}: largest difference of the outputs {difference:.1e}")
    return report


def _folded(model: nn.Module) -> nn.Module:
    """The network as it is used: experts merged, in evaluation mode."""
    return (model.fold() if isinstance(model, VideoCLIP) else model).eval()


@torch.inference_mode()
def _difference(dense: nn.Module, small: nn.Module, source: Source) -> float:
    """Largest relative difference of the outputs over the batch sizes."""
    return max(largest_difference(source.example(n)(dense), source.example(n)(small)) for n in source.batches)


def _times(dense: nn.Module, small: nn.Module, source: Source, batch: int) -> dict[str, int | float]:
    """Seconds of both networks on a batch of this size, and the speed-up."""
    before, after = seconds(dense, small, source.example(batch))
    times = {"batch": batch, "seconds": before, "seconds_left": after, "speedup": before / after}
    return {**times, "threads": torch.get_num_threads()}


def _image(folder: Path) -> Source:
    """A network for still images."""
    model, meta = load_net(folder)

    def example(batch: int) -> Run:
        images = _random_pixels(batch, meta["channels"], meta["size"], meta["size"])
        return lambda net: net(images)

    def save(place: Path, small: nn.Module) -> None:
        assert isinstance(small, ImageClassifier)
        written_anew = {"sizes", "mean", "std", "preprocessing"}
        save_net(place, small, {key: value for key, value in meta.items() if key not in written_anew})

    return Source(model, save, example, IMAGE_BATCHES)


def _video(source: Path, inner: Path) -> Source:
    """A video model with what lies beside its parameters."""
    loaded = folders.load_folder(source)
    if is_reference_checkpoint(source):
        loaded = folders.with_assumptions(loaded)
        classes = loaded.classes or []
        print(
            f"mote: {source}: does not say how its clips are made; written down is what mote.load assumes: "
            f"{loaded.meta['frames']} frames of {loaded.meta['size']} pixels, one per segment, the "
            f"{len(loaded.meta['templates'])} templates of the method, {len(classes)} classes ({classes[0]}, ...)",
            file=sys.stderr,
        )
    size, frames = loaded.meta.get("size", 224), loaded.meta.get("frames", 8)

    def example(batch: int) -> Run:
        clips = _random_pixels(batch, frames, 3, size, size)

        def run(net: nn.Module) -> Tensor:
            assert isinstance(net, VideoCLIP)
            return net.head(net.encode_frames(clips))

        return run

    def save(place: Path, small: nn.Module) -> None:
        assert isinstance(small, VideoCLIP)
        tensors = {name: getattr(loaded, name) for name in TENSORS}
        save_model(place, small, loaded.meta, {name: value for name, value in tensors.items() if value is not None})
        if loaded.text_weights is not None:
            shutil.copyfile(inner / TEXT, place / TEXT)

    return Source(loaded.model, save, example, CLIP_BATCHES)


def _random_pixels(*shape: int) -> Tensor:
    """Uniform uint8 noise, the same at every call."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)

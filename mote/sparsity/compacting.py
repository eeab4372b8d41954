"""What `mote compact` does: load a model, take out what is zero, prove that nothing changed, write the smaller one.

The result looks like what it came from: beside a run's `config.yaml` the model lies in `best/`, so that `mote eval`,
`mote predict`, `mote.load` and `model.init` (`image.init`) take the folder. `compact.json` holds the report.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mote.files.hashes import sha256_tensors
from mote.files.provenance import versions
from mote.files.run_directory import BEST, CONFIG, config_file, model_folder
from mote.files.writing import refuse_filled, replacing_folder
from mote.models import folders
from mote.models.checkpoints import TENSORS, TEXT, save_model
from mote.models.image_checkpoints import is_image_model, load_net, save_net
from mote.models.video_clip import VideoCLIP
from mote.reporting.page import text_table
from mote.sparsity.compact import compact, largest_difference, widths
from mote.sparsity.report import layers, seconds, table

TOLERANCE = 1e-5
BATCHES = (1, 64)  # pictures (for clips: 1 and 4) whose time is measured


def compact_model(model: str, out: str) -> dict[str, Any]:
    """Write the network of `model` without its zero parts to `out`; returns the report.

    Args:
        model: run directory or model folder.
        out: new folder.

    Raises:
        FileExistsError: `out` holds something.
        ValueError, FileNotFoundError: no model there, or one in which no unit, head or layer is zero.
        ArithmeticError: the smaller network gives other numbers; nothing is written.
    """
    source, target = Path(model), Path(out)
    refuse_filled(target)
    inner = model_folder(source)
    config = config_file(source)
    dense, save, example, batches = _image(inner) if is_image_model(inner) else _video(source, inner)
    small = compact(dense)
    if widths(small) == widths(dense):
        raise ValueError(f"{model}: nothing in it is zero, so nothing can go; train it with sparsity.strength > 0")
    report = _compare(_folded(dense), _folded(small), example, batches)
    if report["difference"] > TOLERANCE:
        raise ArithmeticError(
            f"{model}: the smaller network differs by {report['difference']:.1e}, more than {TOLERANCE:g}; nothing was "
            "written, please report this"
        )
    report |= {"model": model, "versions": versions()}
    report["hashes"] = {"dense": sha256_tensors(dense.state_dict()), "compact": sha256_tensors(small.state_dict())}
    with replacing_folder(target) as temporary:
        save(temporary if config is None else temporary / BEST, small)
        if config is not None:
            shutil.copyfile(config, temporary / CONFIG)
        (temporary / "compact.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(text_table(table(report["layers"])))
    for row in report["time"]:
        print(
            f"batch of {row['batch']}: {1e3 * row['seconds']:.2f} ms dense, {1e3 * row['seconds_left']:.2f} ms compact "
            f"({row['speedup']:.2f} times as fast; {row['threads']} threads)"
        )
    print(f"{target}: largest difference of the outputs {report['difference']:.1e}")
    return report


def _folded(model: nn.Module) -> nn.Module:
    """As it is used: experts merged."""
    return (model.fold() if isinstance(model, VideoCLIP) else model).eval()


def _compare(dense: nn.Module, small: nn.Module, example: Callable[[int], Any], batches: tuple[int, ...]) -> Any:
    run = example(batches[0])
    with torch.inference_mode():
        difference = max(largest_difference(example(n)(dense), example(n)(small)) for n in batches)
    times = []
    for batch in batches:
        before, after = seconds(dense, small, example(batch))
        times.append({"batch": batch, "seconds": before, "seconds_left": after, "speedup": before / after})
        times[-1]["threads"] = torch.get_num_threads()
    return {"layers": layers(dense, small, run), "time": times, "difference": difference}


def _image(folder: Path) -> tuple[nn.Module, Callable[[Path, Any], None], Callable[[int], Any], tuple[int, ...]]:
    model, meta = load_net(folder)

    def example(batch: int) -> Callable[[Any], Any]:
        generator = torch.Generator().manual_seed(0)
        shape = (batch, meta["channels"], meta["size"], meta["size"])
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return lambda net: net(images)

    own = {"sizes", "mean", "std"}  # written anew
    rest = {key: value for key, value in meta.items() if key not in own}
    return model, lambda place, small: save_net(place, small, rest), example, BATCHES


def _video(
    source: Path, inner: Path
) -> tuple[nn.Module, Callable[[Path, Any], None], Callable[[int], Any], tuple[int, ...]]:
    loaded = folders.load_folder(source)
    size, frames = loaded.meta.get("size", 224), loaded.meta.get("frames", 8)

    def example(batch: int) -> Callable[[Any], Any]:
        generator = torch.Generator().manual_seed(0)
        clips = torch.randint(0, 256, (batch, frames, 3, size, size), generator=generator, dtype=torch.uint8)
        return lambda net: net.head(net.encode_frames(clips))

    def save(place: Path, small: Any) -> None:
        tensors = {name: getattr(loaded, name) for name in TENSORS}
        save_model(place, small, loaded.meta, {name: value for name, value in tensors.items() if value is not None})
        if loaded.text_weights is not None:
            shutil.copyfile(inner / TEXT, place / TEXT)

    return loaded.model, save, example, (1, 4)

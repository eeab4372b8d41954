"""The recipes of configs/ at a size for tests.

The reduction: the same architecture with two blocks of width 64 on 32 pixels and random weights (see `small_towers`),
two frames, a batch of two, four clips, one epoch, fp32 on the CPU; image networks whole, on eight pictures, those of
timm on 64 pixels; autoencoders four channels wide, on two batches of noise. All else is the recipe's.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from small_towers import small_clip

from mote.config import load
from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RECIPES = sorted(
    path.relative_to(CONFIGS).as_posix()
    for path in CONFIGS.rglob("*.yaml")
    if path.parent.name != "accelerate"  # those are accelerate's own
)
BASE = CONFIGS / "k400_vitl14_f8.yaml"  # what the ablations change
ON_TOP_OF = {
    "dfew_vitb16_mek.yaml": "dfew_vitb16.yaml",
    "faces_mek.yaml": "faces_ce.yaml",
    "rafdb_resnet18_mek.yaml": "rafdb_resnet18.yaml",
}


def files(name: str) -> list[Path]:
    """The recipe, and the one that it lies over."""
    below = [BASE] if name.startswith("ablations/") else [CONFIGS / "mnist_lenet.yaml"] * ("mnist_lenet_" in name)
    below += [CONFIGS / ON_TOP_OF[name]] if name in ON_TOP_OF else []
    return [*below, CONFIGS / name]


EVALUATED = [name for name in RECIPES if re.search(r"zero_shot|gamma_|/k_", name)]  # settings of `mote eval`
IMAGES = [name for name in RECIPES if load(files(name)).task in ("image", "expression")]
AUTOENCODERS = [name for name in RECIPES if load(files(name)).task == "autoencoder"]
TRAINED = [name for name in RECIPES if name not in EVALUATED + IMAGES + AUTOENCODERS]


def write_data(folder: Path) -> Path:
    """clips.csv with four clips of two classes, classes.txt, and for each number of channels eight pictures, C.npz."""
    for i in range(4):
        write_video(folder / f"{i}.mp4", render_clip(np.random.default_rng(i), "red star", "moving left", 6))
    rows = "".join(f"{i}.mp4,{i % 2},{split}\n" for split in ("train", "test") for i in range(4))
    (folder / "clips.csv").write_text("path,label,split\n" + rows)
    (folder / "classes.txt").write_text("red star\nblue ball\n")
    for channels, shape in ((1, (8, 28, 28)), (3, (8, 32, 32, 3))):
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        parts = {f"{split}_images": pixels for split in ("train", "test")}
        np.savez(
            folder / f"{channels}.npz", **parts, **{f"{split}_labels": np.arange(8) for split in ("train", "test")}
        )
    return folder


def reduced(name: str, data: Path, out: Path) -> list[str]:
    """Files and overrides of a small run of the recipe into `out`, on what `write_data` left in `data`."""
    config = load(files(name))
    small = [
        "evaluation.page=false",
        "data.workers=0",
        "optim.epochs=1",
        "optim.warmup_epochs=0",
        "optim.precision=fp32",
        "run.cpu=true",
    ]
    if config.task in ("image", "expression"):
        pictures = data / f"{config.image.channels}.npz"
        small += [f"data.train={pictures}", f"evaluation.manifest={pictures}", "optim.batch_size=4"]
        small += ["data.size=64"] * config.image.net.startswith("timm:")
    elif config.task == "autoencoder":
        codes, pictures = config.autoencoder.latent + 1, out.parent / "few.npz"  # fewer have no covariance
        size = config.data.size or 28
        shape = (2 * codes, size, size, config.image.channels)
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        parts = {f"{split}_images": pixels for split in ("train", "test")}
        labels = np.arange(len(pixels)) % 10
        np.savez(pictures, **parts, **{f"{split}_labels": labels for split in ("train", "test")})
        small += [f"data.train={pictures}", f"evaluation.manifest={pictures}"]
        small += [f"optim.batch_size={codes}", "autoencoder.width=4"]
    else:
        clip = "tiny" if config.model.backbone == "tiny" else _small_clip(config.model.backbone, data)
        small += [f"model.backbone={clip}", "model.pretrained=random", "data.frames=2", "optim.batch_size=2"]
        small += [f"data.train={data / 'clips.csv'}", "data.split=train", f"data.classes={data / 'classes.txt'}"]
    return [*map(str, files(name)), *small, f"run.out={out}"]


@cache
def _small_clip(name: str, folder: Path) -> str:
    return small_clip(name, folder)


def sampled(names: list[str], every: int = 6) -> list:
    """Parameters of a test: one name in `every` by default, the others where slow tests run."""
    return [name if n % every == 0 else pytest.param(name, marks=pytest.mark.slow) for n, name in enumerate(names)]

"""The Gaussian-mixture autoencoder beside its peers on MNIST, a few seeds each: the table of configs/README.md.

Equal networks (a VAE's last encoder layer is twice as wide), images, steps and seeds; what differs is the latent loss
and what samples are drawn from. `gm, sqrt 2 std` has the separation of the released code. `gm, class = mode` sees the
labels, which no other row does. The Frechet distance is of the features (the 500 hidden units) of the LeNet that
configs/mnist_lenet.yaml trains, here with seed 0, on 10,000 images each; the last row is the distance of as many real
training images from the test images, which no model can be expected to beat.

Finished runs are kept, so it can be stopped and started again; `--seeds` may be given one at a time.

    python tools/compare_autoencoders.py --data mnist.npz
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mote.config import load
from mote.evaluation.autoencoder import Judge
from mote.experiments.train import train
from mote.files.provenance import versions
from mote.metrics.latent import frechet_distance

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
METHODS = {
    "gm": [],
    "gm, class = mode": ["autoencoder.conditional=true"],
    "gm, sqrt 2 std": ["autoencoder.separation=1.41421356"],
    "ae + mixture": ["autoencoder.method=ae"],
    "vae": ["autoencoder.method=vae"],
    "wae_mmd": ["autoencoder.method=wae_mmd"],
}
COLUMNS: dict[str, tuple[Callable[[dict], float], str]] = {  # title -> (value of a result, format)
    "error x 1000": (lambda r: 1000 * r["reconstruction"], ".2f"),
    "Frechet, samples": (lambda r: r["frechet"], ".1f"),
    "Frechet, reconstructions": (lambda r: r["frechet_reconstructions"], ".1f"),
    "Frechet, midpoints": (lambda r: r["frechet_midpoints"], ".1f"),
    "energy / null": (lambda r: r["energy"]["distance"] / r["energy"]["null"], ".1f"),
    "cdf": (lambda r: r["latent"]["cdf"], ".2f"),
    "covariance": (lambda r: r["latent"]["covariance"], ".2f"),
    "mean": (lambda r: r["latent"]["mean"], ".2f"),
    "modes used": (lambda r: r["coverage"]["used"] if "coverage" in r else float("nan"), ".1f"),
    "modes = classes, %": (lambda r: 100 * r["agreement"]["matched"] if "agreement" in r else float("nan"), ".1f"),
    "classes in samples": (lambda r: r["sample_classes"]["effective"], ".2f"),
    "sure, %": (lambda r: 100 * r["confident"], ".1f"),
}


def run(out: Path, recipe: str, overrides: list[str], seed: int) -> dict[str, Any]:
    """The result of a run, trained now unless it was before."""
    if not (out / "metrics.json").is_file():
        overrides = [*overrides, f"run.out={json.dumps(str(out))}", f"seed={seed}", "run.cpu=true"]
        train(load([CONFIGS / recipe], overrides), resume=(out / "config.yaml").is_file())
    return json.loads((out / "metrics.json").read_text())


@torch.inference_mode()
def real_distance(judge: str, data: str, num: int = 10_000) -> float:
    """Frechet distance of `num` training images, drawn at random, and the test images."""
    look, features = Judge(judge, 28, 1), []
    with np.load(data) as file:
        drawn = np.random.default_rng(0).permutation(len(file["train_images"]))[:num]  # the file may be in class order
        for images in (file["train_images"][drawn], file["test_images"]):
            parts = torch.from_numpy(images)[:, None].split(500)
            features.append(torch.cat([look(part / 255)[0] for part in parts]))
    return frechet_distance(*features)


def table(results: dict[str, dict[int, dict[str, Any]]], real: float) -> str:
    """Markdown: mean ± population standard deviation over the seeds."""
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---|" + "--:|" * len(COLUMNS)]
    for name, by_seed in results.items():
        cells = []
        for value, form in COLUMNS.values():
            values = [value(result) for result in by_seed.values()]
            mean, spread = float(np.mean(values)), float(np.std(values))
            cells.append("-" if np.isnan(mean) else f"{mean:{form}} ± {spread:{form}}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, f"| real training images | - | {real:.1f} |" + " - |" * (len(COLUMNS) - 2)])


def main() -> None:
    """Run what is missing, print the table, write `OUT/table.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/mnist.npz", help="MNIST as an .npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--out", type=Path, default=Path("runs/autoencoders"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    out = arguments.out
    where = [f"{key}={json.dumps(arguments.data)}" for key in ("data.train", "evaluation.manifest")]
    judge = str(out / "lenet")
    run(Path(judge), "mnist_lenet.yaml", where, 0)
    where.append(f"autoencoder.judge={json.dumps(judge)}")
    results: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in arguments.methods}
    for seed in arguments.seeds:
        for name in arguments.methods:
            folder = out / f"{name.replace(' ', '_')}_{seed}"
            results[name][seed] = run(folder, "mnist_gmae.yaml", [*where, *METHODS[name]], seed)
    real = real_distance(judge, arguments.data)
    print(table(results, real))
    document = {"results": results, "real": real, "versions": versions()}
    (out / "table.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()

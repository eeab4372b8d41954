"""What the Gaussian-mixture latent is good for here, beside what is usual: tables, and with --out FILE, JSON.

- `minor`: MNIST made long-tailed (the k-th class keeps MOST / RATIO^(k / 9) images, which digit is k drawn by the
  seed). A LeNet is trained on that (configs/mnist_lenet.yaml), its 500 features are frozen, and a new linear head is
  trained on them: plain; with logit adjustment; and plain on classes filled up to equal size with features drawn from
  a Gaussian (the class mean, the covariance pooled over classes). All heads take the same steps.
  Drawn features are never tested on: the test is MNIST's own.
- `ood`: is an image a digit? The log density of its code under the prior of a run of configs/mnist_gmae.yaml, beside
  its reconstruction error and the judge's highest probability: AUROC of the MNIST test against other images in grey
  at 28 pixels, and against the test digits turned upside down.

    python tools/latent_use.py minor --data mnist.npz
    python tools/latent_use.py ood --data mnist.npz --run runs/gmae --judge runs/lenet --others FOLDER/LABELS.csv
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mote.config import load
from mote.datasets.images import ImageDataset
from mote.datasets.lists.images import ImageList, read_images
from mote.datasets.lists.manifest import ManifestError
from mote.evaluation.autoencoder import Judge
from mote.experiments.train import train
from mote.files.provenance import versions
from mote.inference.latent import load_latent
from mote.metrics.open_set import auroc, auroc_interval
from mote.regularizers.gaussian_mixture import log_density
from mote.regularizers.long_tail import checked_counts, logit_adjustment

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
MOST, RATIO = 4000, 100
Features = tuple[Tensor, Tensor]  # (N, D), labels (N,)


def main() -> None:
    """Print the table of one use."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("use", choices=("minor", "ood"))
    parser.add_argument("--data", default="../shared/data/mnist.npz", help="MNIST as an .npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/latent_use"), help="where LeNets are kept")
    parser.add_argument("--run", help="`ood`: run of configs/mnist_gmae.yaml")
    parser.add_argument("--judge", help="`ood`: run of configs/mnist_lenet.yaml")
    parser.add_argument("--others", nargs="*", default=[], help="`ood`: lists of images that are no digits")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {"minor": minor, "ood": ood}[arguments.use](arguments)
    if arguments.out is not None:
        document = {"use": arguments.use, "result": found, "versions": versions()}
        arguments.out.write_text(json.dumps(document, indent=1) + "\n")


def minor(arguments: argparse.Namespace) -> dict[str, dict[int, dict[str, float]]]:
    """Balanced accuracy, and recall of the three rarest classes, of each way of training the head."""
    heads: dict[str, Callable[..., Tensor]] = {
        "plain": lambda x, y, seed: fit_head((x, y), None, seed),
        "logit adjustment": lambda x, y, seed: fit_head((x, y), checked_counts(torch.bincount(y).tolist()), seed),
        "pooled Gaussian": lambda x, y, seed: fit_head(filled((x, y), gaussian_draws(x, y, seed)), None, seed),
    }
    results: dict[str, dict[int, dict[str, float]]] = {name: {} for name in heads}
    for seed in arguments.seeds:
        (x, y), (test_x, test_y), counts = long_tailed(arguments.data, arguments.runs, seed)
        rare = sorted(range(len(counts)), key=counts.__getitem__)[:3]
        scale = x.std()
        for name, head in heads.items():
            weights = head(x / scale, y, seed)
            predicted = (F.pad(test_x / scale, (0, 1), value=1.0) @ weights.T).argmax(1)
            recall = torch.stack([(predicted[test_y == c] == c).double().mean() for c in range(len(counts))])
            results[name][seed] = {"balanced": 100 * float(recall.mean()), "rarest": 100 * float(recall[rare].mean())}
    base = results["logit adjustment"]
    print("| head | balanced accuracy | three rarest classes | balanced - logit adjustment |\n|---|--:|--:|--:|")
    for name, rows in results.items():
        cells = [_spread([row[key] for row in rows.values()]) for key in ("balanced", "rarest")]
        cells.append(_spread([row["balanced"] - base[seed]["balanced"] for seed, row in rows.items()]))
        print(f"| {name} | {' | '.join(cells)} |")
    return results


def long_tailed(data: str, runs: Path, seed: int) -> tuple[Features, Features, list[int]]:
    """Training and test features of a LeNet trained on the long-tailed digits, which are kept beside it."""
    rng, folder = np.random.default_rng(seed), runs / f"lenet_{seed}"
    with np.load(data) as file:
        arrays = {name: file[name] for name in file.files}
    counts = (MOST / RATIO ** (rng.permutation(10) / 9)).astype(int)
    labels = arrays["train_labels"]
    kept = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:n] for c, n in enumerate(counts)])
    for name in ("train_images", "train_labels"):
        arrays[name] = arrays[name][np.sort(kept)]
    if not (folder / "metrics.json").is_file():
        runs.mkdir(parents=True, exist_ok=True)
        np.savez(runs / f"digits_{seed}.npz", **arrays)
        file = json.dumps(str(runs / f"digits_{seed}.npz"))
        where = [f"data.train={file}", f"evaluation.manifest={file}"]
        overrides = [*where, f"run.out={json.dumps(str(folder))}", f"seed={seed}", "optim.epochs=10", "run.cpu=true"]
        train(load([CONFIGS / "mnist_lenet.yaml"], overrides), resume=(folder / "config.yaml").is_file())
    look = Judge(str(folder), 28, 1)
    found = []
    for split in ("train", "test"):
        images, digits = (torch.from_numpy(arrays[f"{split}_{kind}"]) for kind in ("images", "labels"))
        found.append((looked(look, images[:, None]), digits.long()))
    return found[0], found[1], counts.tolist()


@torch.inference_mode()
def looked(judge: Judge, images: Tensor) -> Tensor:
    """Features of uint8 images."""
    return torch.cat([judge(part / 255)[0] for part in images.split(500)]).clone()


def fit_head(features: Features, counts: Tensor | None, seed: int, steps: int = 1500) -> Tensor:
    """Weights and bias (K, D + 1) of a linear head after AdamW on batches of 256; `counts`: logit adjustment."""
    x, y = F.pad(features[0], (0, 1), value=1.0), features[1]
    generator = torch.Generator().manual_seed(seed)
    weights = torch.zeros(int(y.max()) + 1, x.shape[1], requires_grad=True)
    optimizer = torch.optim.AdamW([weights], lr=1e-2, weight_decay=1e-2)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * 0.5 * (1 + np.cos(np.pi * step / steps))
        rows = torch.randint(len(x), (256,), generator=generator)
        logits = x[rows] @ weights.T
        loss = F.cross_entropy(logits, y[rows]) if counts is None else logit_adjustment(logits, y[rows], counts).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weights.detach()


def filled(features: Features, draw: Callable[[int, int], Tensor]) -> Features:
    """The features, and draws of every class up to the size of the largest."""
    x, y = features
    counts = torch.bincount(y).tolist()
    missing = [(c, max(counts) - n) for c, n in enumerate(counts) if n < max(counts)]
    more = [draw(c, n) for c, n in missing]
    labels = torch.cat([torch.full((n,), c) for c, n in missing])
    return torch.cat([x, *more]), torch.cat([y, labels])


def gaussian_draws(x: Tensor, y: Tensor, seed: int) -> Callable[[int, int], Tensor]:
    """(class, n) -> draws of N(class mean, covariance pooled over the classes), cut at 0 as the features are."""
    means = torch.stack([x[y == c].mean(0) for c in range(int(y.max()) + 1)])
    pooled = (x - means[y]).T.cov() + 1e-6 * torch.eye(x.shape[1])
    tril, generator = torch.linalg.cholesky(pooled), torch.Generator().manual_seed(seed)
    return lambda c, n: (means[c] + torch.randn(n, x.shape[1], generator=generator) @ tril.T).clamp_min(0)


@torch.inference_mode()
def ood(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """AUROC of MNIST's test images against others, by three scores."""
    latent = load_latent(Path(arguments.run))
    judge = Judge(arguments.judge, 28, 1)

    def scores(images: Tensor) -> dict[str, np.ndarray]:
        parts: dict[str, list[Tensor]] = {"log density of the code": [], "- reconstruction error": [], "judge": []}
        for part in images.split(500):
            z, target = latent.model.encode(part), latent.model.target(part)
            parts["log density of the code"].append(log_density(z, latent.prior))
            parts["- reconstruction error"].append(-(latent.model.decode(z) - target).square().mean((1, 2, 3)))
            parts["judge"].append(judge(target)[1].max(1).values)
        return {name: torch.cat(part).double().numpy() for name, part in parts.items()}

    digits = grey(read_images(arguments.data, split="test"))
    known, results = scores(digits), {}
    others = {Path(path).parent.name: grey(read_images(path, classes=names(path))) for path in arguments.others}
    print("| against | images | log density of the code | - reconstruction error | judge's probability |")
    print("|---|--:|--:|--:|--:|")
    for name, images in {**others, "digits upside down": digits.flip(2)}.items():
        values = {key: auroc(known[key], value) for key, value in scores(images).items()}
        results[name] = {"images": len(images), "auroc": values}
        ends = [auroc_interval(value, len(digits), len(images)) for value in values.values()]
        cells = [f"{v:.3f} [{low:.3f}, {high:.3f}]" for v, (low, high) in zip(values.values(), ends, strict=True)]
        print(f"| {name} | {len(images)} | {' | '.join(cells)} |")
    return results


def names(path: str) -> list[str] | None:
    """Class names of a list, or None where its labels are numbers."""
    try:
        return Listing(path).names()
    except ManifestError:
        return None


def grey(data: ImageList) -> Tensor:
    """All images of a list at 28 pixels in grey, uint8 (N, 1, 28, 28)."""
    dataset = ImageDataset(data, size=28, channels=1, train=False)
    return torch.stack([dataset.image(0, i) for i in range(len(dataset))])


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.pstdev(values):.2f}"


if __name__ == "__main__":
    main()

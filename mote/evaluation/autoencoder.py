"""What an autoencoder and its samples are worth on held-out images: numbers.

The judge is a classifier of our own (a run of task=image): its features, the input of its last linear layer, are those
of the Frechet distances, and its classes tell what the samples show. Everything is computed in the main process.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from mote.config import Config
from mote.datasets.lists.images import ImageList
from mote.evaluation.autoencoder_sheets import sheets_of, write_sheets
from mote.evaluation.listings import evaluation_list, evaluation_listing
from mote.evaluation.page import drawn, page_path
from mote.evaluation.views import evaluation_loader, image_dataset
from mote.files.hashes import sha256_lines
from mote.files.provenance import provenance
from mote.files.run_directory import model_folder
from mote.files.tensor_hashes import sha256_tensors
from mote.files.writing import replacing_together, to_json
from mote.inference.contract import settled
from mote.inference.latent import CONFIDENT, LatentModel
from mote.metrics.latent import agreement, coverage, energy_test, frechet_distance
from mote.metrics.result_files import Summary
from mote.models.image_checkpoints import load_net
from mote.models.image_nets import ImageClassifier
from mote.parallel.accelerator import Accelerator, on_main
from mote.regularizers.gaussian_mixture import (
    class_latent_terms,
    draw_modes,
    latent_terms,
    mode_log_density,
    sample_mixture,
)
from mote.reporting.autoencoder_page import write_autoencoder_page
from mote.reporting.evaluation_page import page_files

SAMPLES = 10_000  # images drawn for the Frechet distance, or as many as are held out where those are fewer
TESTED = 1_000  # codes in the energy test
SHOWN = 100  # images kept for the sheets


class Judge:
    """An image classifier that looks at images in [0, 1].

    Raises:
        ValueError: no image network in the folder, or one for other images.
    """

    def __init__(self, folder: str, size: int, channels: int):
        path = Path(folder)
        net, self.meta = load_net(model_folder(path))
        if (self.meta["size"], self.meta["channels"]) != (size, channels):
            raise ValueError(
                f"autoencoder.judge {folder}: takes {self.meta['size']} pixels and {self.meta['channels']} channels, "
                f"the autoencoder makes {size} and {channels}; train one on the same images"
            )
        self.net: ImageClassifier = net.eval()
        last = [module for module in self.net.modules() if isinstance(module, nn.Linear)][-1]
        last.register_forward_pre_hook(self._keep)
        self.description = {"run": folder, "net": self.meta["net"], "weights": sha256_tensors(net.state_dict())}
        self._features = torch.empty(0)

    def _keep(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._features = inputs[0]

    def __call__(self, pixels: Float[Tensor, "B C S S"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B K"]]:
        """Features, and probabilities of the classes, on the CPU."""
        device = next(self.net.parameters()).device
        probabilities = self.net(255 * pixels.to(device)).float().softmax(1)
        return self._features.float().cpu(), probabilities.cpu()


class Encoded(NamedTuple):
    """Held-out images: their codes (see `LatentModel.codes`), labels, error, judged features before and after; and
    the `images` in [0, 1] of the numbers `shown`, drawn at random, as lists may be in the order of classes.
    """

    decoded_codes: Float[Tensor, "N d"]
    codes: Float[Tensor, "N d"]
    labels: Int64[Tensor, "N"]
    squared_error: float
    features: Tensor
    features_back: Tensor
    shown: Int64[Tensor, "n"]
    images: Float[Tensor, "n C S S"]


@torch.inference_mode()
def encode(latent: LatentModel, loader: DataLoader, judge: Judge | None, seed: int) -> Encoded:
    """All images of an evaluation loader, which gives them in order, through the autoencoder."""
    device = next(latent.model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    shown = torch.randperm(len(loader.dataset), generator=generator)[:SHOWN]  # type: ignore[arg-type]
    names = ("decoded_codes", "codes", "labels", "features", "features_back", "images")
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    errors, count = 0.0, 0
    for batch in tqdm(loader, desc="encode", unit="batch", disable=None):
        images = batch["images"].to(device)
        used, z = latent.codes(images, generator)
        target, back = latent.model.target(images), latent.model.decode(used).float()
        errors += float((back - target).double().square().sum())
        count += target.numel()
        wanted = torch.isin(batch["index"], shown).to(device)
        found = {"decoded_codes": used, "codes": z, "labels": batch["label"], "images": target[wanted]}
        if judge is not None:
            found |= {"features": judge(target)[0], "features_back": judge(back)[0]}
        for name, value in found.items():
            parts[name].append(value.cpu())
    joined: dict[str, Any] = {name: torch.cat(part) if part else torch.empty(0) for name, part in parts.items()}
    joined["images"] = joined["images"][shown.argsort().argsort()]  # they came in the order of the list
    return Encoded(**joined, squared_error=errors / count, shown=shown)


@torch.inference_mode()
def score_latent(
    latent: LatentModel,
    loader: DataLoader,
    judge: Judge | None,
    classes: list[str],
    *,
    batch: int,
    seed: int,
) -> tuple[Summary, Encoded]:
    """The summary, plain numbers ready for JSON, and what `sheets_of` needs.

    Keys: listed; reconstruction (mean squared error of pixels in [0, 1]); latent (the three terms over their value for
    a perfect encoder, on batches of `batch` held-out codes, the size of training); energy; with several modes coverage
    and agreement of the codes' likeliest modes; with a judge frechet (samples), frechet_reconstructions,
    frechet_midpoints (of pairs of codes), sample_classes and confident (share of samples it is sure of).
    """
    held_out = encode(latent, loader, judge, seed)
    generator = torch.Generator().manual_seed(seed)
    num, prior, z = len(held_out.codes), latent.prior, held_out.codes
    order = torch.randperm(num, generator=generator)
    summary: Summary = {"listed": num, "method": latent.method, "dimensions": z.shape[1]}
    summary |= {"modes": len(prior.priors), "reconstruction": held_out.squared_error}
    parts = [part for part in order.split(batch) if len(part) == min(batch, num)]
    summary["latent"] = {"batch": len(parts[0])} | _mean([latent_terms(z[part], prior) for part in parts])
    if latent.conditional:
        labels = held_out.labels
        by_class = [class_latent_terms(z[part], labels[part], prior) for part in parts]
        summary["class_latent"] = _mean(by_class)
    some = z[order[:TESTED]]
    draws = sample_mixture(prior, draw_modes(prior, len(some), generator), generator)
    distance, null, p = energy_test(some, draws, seed=seed)
    summary["energy"] = {"codes": len(some), "distance": distance, "null": null, "p": p}
    if len(prior.priors) > 1:
        mode = mode_log_density(z, prior).argmax(1)
        summary["coverage"] = coverage(mode, len(prior.priors), prior.priors.tolist())
        summary["agreement"] = agreement(mode, held_out.labels, len(prior.priors))
    if judge is not None:
        summary |= _judged(latent, held_out, judge, classes, generator)
    return summary, held_out


def _judged(
    latent: LatentModel, held_out: Encoded, judge: Judge, classes: list[str], generator: torch.Generator
) -> Summary:
    """What the judge says of samples, of reconstructions, and of images half-way between two."""
    modes = draw_modes(latent.prior, min(SAMPLES, len(held_out.codes)), generator)
    seen = [judge(pixels) for _, pixels in latent.draw(modes, generator)]
    features, probabilities = (torch.cat(part) for part in zip(*seen, strict=True))
    codes = held_out.decoded_codes
    partner = codes[torch.randperm(len(codes), generator=generator)]
    device = next(latent.model.parameters()).device
    middle = ((codes + partner) / 2)[:SAMPLES].split(500)
    between = torch.cat([judge(latent.model.decode(z.to(device)).float())[0] for z in middle])
    found: Summary = {
        "judge": judge.description | {"features": features.shape[1], "samples": len(features)},
        "frechet": frechet_distance(features, held_out.features),
        "frechet_reconstructions": frechet_distance(held_out.features_back, held_out.features),
        "frechet_midpoints": frechet_distance(between, held_out.features),
        "confident": float((probabilities.max(1).values >= CONFIDENT).double().mean()),
    }
    if judge.meta["classes"] == classes:
        shares = torch.bincount(held_out.labels, minlength=len(classes)) / len(held_out.labels)
        shown = probabilities.argmax(1)
        found["sample_classes"] = coverage(shown, len(classes), shares.tolist())
        if len(latent.prior.priors) > 1:
            found["sample_agreement"] = agreement(modes, shown, len(latent.prior.priors))
    return found


def _mean(terms: list[dict[str, Tensor]]) -> dict[str, float]:
    return {name: float(torch.stack([term[name] for term in terms]).mean()) for name in terms[0]}


def evaluate(
    latent: LatentModel,
    config: Config,
    accelerator: Accelerator,
    out: Path,
    *,
    data: ImageList | None = None,
    judge: Judge | None = None,
    page: bool = True,
) -> Summary:
    """Score on the listed images, write `out/NAME.json`, the sheets of images and the page, return the summary.

    Args:
        latent: the autoencoder and its prior.
        config: what is scored on, and how.
        accelerator: the main one of its processes does the work.
        out: folder of the result files.
        data: the images of `evaluation.manifest`, where they are read already.
        judge: that of `autoencoder.judge`, where it is loaded already.
        page: draw NAME/index.html, where `evaluation.page` wants it too.

    Raises:
        ValueError: no list, or one that does not fit.
    """
    config = settled(config, latent)
    data = evaluation_list(config, latent.classes) if data is None else data
    if len(data.records) < 2:
        raise ValueError(f"{config.evaluation.manifest}: one image has no distribution; give at least 2")
    judge = judge or find_judge(config, latent.model.sizes["size"])
    return on_main(accelerator, lambda: _evaluate(latent, config, out, data, judge, page))


def _evaluate(
    latent: LatentModel, config: Config, out: Path, data: ImageList, judge: Judge | None, page: bool
) -> Summary:
    if judge is not None:
        judge.net.to(latent.device)
    dataset = image_dataset(config, data, latent.model.sizes["size"], train=False, preprocessing=latent.preprocessing)
    loader = evaluation_loader(dataset, config.evaluation.batch_size, config.data.workers)
    name, training = config.evaluation.name, latent.model.training
    latent.model.eval()
    batch = config.optim.batch_size // config.optim.accumulation
    summary, held_out = score_latent(latent, loader, judge, data.classes, batch=batch, seed=config.seed)
    latent.model.train(training)
    hashes = {
        "manifest": evaluation_listing(config.evaluation).sha256(data.records),
        "classes": sha256_lines(data.classes),
        "weights": sha256_tensors(latent.model.state_dict()),
        "prior": sha256_tensors(latent.prior._asdict()),
    }
    origin = provenance(config=config.model_dump(), hashes=hashes, seed=config.seed)
    origin["inputs"] = {"model": config.run.out}
    document = {"task": name, **summary, "provenance": origin}
    latent.model.eval()
    sheets = sheets_of(latent, held_out.images, held_out.decoded_codes, held_out.shown, config.seed)
    latent.model.train(training)
    with replacing_together(out, gone=page_files(name)) as stage:
        write_sheets(stage, name, sheets)
        (stage / f"{name}.json").write_text(to_json(document), encoding="utf-8")
    if page and config.evaluation.page:
        drawn(page_path(out, name), lambda path: write_autoencoder_page(path, document, sheets))
    return summary


def find_judge(config: Config, size: int) -> Judge | None:
    """The network of `autoencoder.judge` for images of `size` pixels; None where none is named."""
    judge = config.autoencoder.judge
    return None if judge is None else Judge(judge, size, config.image.channels)

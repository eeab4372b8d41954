"""What `mote train`, `mote eval` and `mote sample` do for task=autoencoder; pictures and loop are those of images."""

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from mote import build
from mote.autoencoder_scores import Judge, LatentModel, score_latent, write_sheets
from mote.config import Config
from mote.datasets.images import ImageList
from mote.evaluation.results import provenance, sha256_lines, sha256_tensors, to_json, write_atomic
from mote.image_experiment import ImageExperiment, evaluation_list, image_dataset, picture_size, training_list
from mote.models.autoencoder import ImageAutoencoder, load_autoencoder, save_autoencoder
from mote.regularizers.gaussian_mixture import Mixture, axis_centres, draw_modes, isotropic
from mote.reporting.image_grid import write_image_grid
from mote.runs import check_run, fit_run
from mote.scoring import hash_manifest
from mote.settings import AutoencoderConfig
from mote.tasks.autoencoder import AutoencoderTask
from mote.training.distributed import Accelerator, make_accelerator, on_main

FITTED = 10_000  # training pictures whose codes the mixture of method=ae is fitted to


def train_autoencoder(config: Config, resume: bool = False) -> Path:
    """Train an autoencoder and leave a run directory; see `mote.runs.train`."""
    out = check_run(config)
    accelerator = make_accelerator(config.optim.precision, cpu=config.run.cpu, trackers=config.run.trackers, out=out)
    if accelerator.is_fsdp2:
        raise ValueError("task=autoencoder needs its network whole in every process; launch without FSDP")
    experiment = assemble_autoencoder(config, accelerator)
    task, data, size = experiment.task, experiment.data, experiment.size
    held_out = None
    if config.evaluation.manifest is not None:  # read now: a mistake in it should not cost a training
        held_out = evaluation_list(config, data.classes)
    judge = _judge(config, size)

    def latent_model(task: nn.Module) -> LatentModel:
        task = cast(AutoencoderTask, task)
        return LatentModel(task.model, _prior(task, config, data, size), task.method, task.conditional)  # type: ignore[arg-type]

    def evaluate_now(task: nn.Module, _epoch: int) -> dict[str, Any]:
        def score() -> dict[str, Any]:
            assert held_out is not None
            results = out / "evaluations"
            return evaluate_latent(latent_model(task), held_out, size, config, judge, results, accelerator.device)

        return on_main(accelerator, score)

    def save(task: nn.Module, selected: str) -> None:
        latent = latent_model(task)
        meta = {"method": latent.method, "conditional": latent.conditional, "classes": data.classes}
        meta |= {"seed": config.seed, "selected": selected}
        save_autoencoder(out / "best", latent.model, latent.prior._asdict(), meta)

    fit_run(
        config,
        task,
        experiment.loader,
        accelerator,
        rules=experiment.rules(),
        num_classes=len(data.classes),
        evaluate=evaluate_now,
        save=save,
        max_skipped=0,
        resume=resume,
        headline=headline,
    )
    return out


def assemble_autoencoder(config: Config, accelerator: Accelerator) -> ImageExperiment:
    """Build everything that `config` names. Writes nothing.

    Raises:
        ValueError, OSError: settings or lists that do not fit, or several processes.
    """
    if accelerator.num_processes > 1:
        raise ValueError(
            "task=autoencoder trains in one process: batch normalisation and the latent terms are of the whole batch, "
            f"and would be of a part of it in each of {accelerator.num_processes}"
        )
    data = training_list(config)
    size = picture_size(config, data)
    task = build_task(config, size, data.classes)
    return ImageExperiment(config, data, size, task, accelerator.device)


def build_task(config: Config, size: int, classes: list[str]) -> AutoencoderTask:
    """The network and loss of `config.autoencoder`; the same initial weights for the same seed.

    Raises:
        ValueError: modes that are not classes where they should be.
    """
    settings = config.autoencoder
    if settings.conditional and settings.modes != len(classes):
        raise ValueError(
            f"autoencoder.conditional makes a mode of every class: expected autoencoder.modes={len(classes)} for "
            f"{len(classes)} classes, got {settings.modes}"
        )
    torch.manual_seed(config.seed)
    model = ImageAutoencoder(
        size=size,
        channels=config.image.channels,
        latent=settings.latent,
        codes=settings.latent * (2 if settings.method == "vae" else 1),
        width=settings.width,
    )
    names = ("reconstruction", "cdf", "covariance", "mean", "kl", "mmd")
    return AutoencoderTask(
        model,
        _mixture(settings) if settings.method in ("gm", "wae_mmd") else None,
        method=settings.method,
        conditional=settings.conditional,
        weights={name: getattr(settings, f"{name}_weight") for name in names},
    )


def evaluate_folder(folder: Path, config: Config, accelerator: Accelerator, out: Path) -> dict[str, Any]:
    """Score the autoencoder of a run directory; returns the summary that was written.

    Raises:
        ValueError: no autoencoder there, no list, or one that does not fit.
    """
    latent, meta = load_latent(folder)
    size = latent.model.sizes["size"]
    data = evaluation_list(config, meta["classes"])
    latent.model.to(accelerator.device)
    judge = _judge(config, size)
    return on_main(accelerator, lambda: evaluate_latent(latent, data, size, config, judge, out, accelerator.device))


def evaluate_latent(
    latent: LatentModel,
    data: ImageList,
    size: int,
    config: Config,
    judge: Judge | None,
    out: Path,
    device: torch.device,
) -> dict[str, Any]:
    """Score on `data`, write `out/NAME.json` and the sheets of pictures, return the summary."""
    if len(data.records) < 2:
        raise ValueError(f"{config.evaluation.manifest}: one picture has no distribution; give at least 2")
    if judge is not None:
        judge.net.to(device)
    loader = build.evaluation_loader(
        image_dataset(config, data, size, train=False), config.evaluation.batch_size, config.data.workers
    )
    name, training = config.evaluation.name, latent.model.training
    latent.model.eval()
    batch = config.optim.batch_size // config.optim.accumulation
    summary, held_out = score_latent(latent, loader, judge, data.classes, batch=batch, seed=config.seed)
    write_sheets(out, name, latent, held_out, config.seed)
    latent.model.train(training)
    hashes = {
        "manifest": hash_manifest(config.evaluation.manifest or "", data.records),
        "classes": sha256_lines(data.classes),
        "weights": sha256_tensors(latent.model.state_dict()),
        "prior": sha256_tensors(latent.prior._asdict()),
    }
    origin = provenance(config=config.model_dump(), hashes=hashes, seed=config.seed)
    write_atomic(out / f"{name}.json", to_json({"task": name, **summary, "provenance": origin}))
    return summary


def headline(summary: dict[str, Any]) -> str:
    """One line of a result."""
    parts = [f"reconstruction {summary['reconstruction']:.5f}"]
    if "frechet" in summary:
        parts.append(f"Frechet distance {summary['frechet']:.2f} (features of {summary['judge']['net']})")
    parts.append(", ".join(f"{name} {summary['latent'][name]:.2f}" for name in ("cdf", "covariance", "mean")))
    if "coverage" in summary:
        parts.append(f"{summary['coverage']['used']} of {summary['modes']} modes used")
        parts.append(f"modes are classes: {100 * summary['agreement']['matched']:.1f} %")
    return "; ".join(parts) + f" ({summary['listed']} pictures)"


def load_latent(folder: Path) -> tuple[LatentModel, dict[str, Any]]:
    """The autoencoder of a run directory or model folder on the CPU, and its description.

    Raises:
        ValueError: there is none, or it is not one of pictures.
    """
    model, prior, meta = load_autoencoder(folder / "best" if (folder / "best").is_dir() else folder)
    if not isinstance(model, ImageAutoencoder):
        raise ValueError(f"{folder}: an autoencoder of features, not of pictures")
    return LatentModel(model, Mixture(**prior), meta["method"], meta["conditional"]), meta


@torch.inference_mode()
def sample_run(folder: str, count: int, out: str, *, mode: int | None = None, seed: int = 0) -> None:
    """Draw `count` pictures of a run from its prior, or from one `mode` of it: a sheet (PNG) and their arrays (.npz).

    The .npz lies beside `out` and holds `images` uint8 (N, S, S[, 3]), `codes` (N, d) and `modes` (N,).

    Raises:
        ValueError: no autoencoder there, a mode that it has not, no pictures, or another file than a .png.
    """
    path = Path(out)
    if path.suffix.lower() != ".png":
        raise ValueError(f"--out {out}: expected a name that ends in .png (the arrays go to .npz beside it)")
    if count < 1:
        raise ValueError(f"--count: expected at least 1 picture, got {count}")
    latent, _ = load_latent(Path(folder))
    num_modes = len(latent.prior.priors)
    if mode is not None and not 0 <= mode < num_modes:
        raise ValueError(f"--mode: {folder} has the modes 0 to {num_modes - 1}, got {mode}")
    generator = torch.Generator().manual_seed(seed)
    modes = draw_modes(latent.prior, count, generator) if mode is None else torch.full((count,), mode)
    modes = modes.sort().values
    codes, pixels = (torch.cat(part) for part in zip(*latent.draw(modes, generator), strict=True))
    write_image_grid(path, pixels, columns=max(1, round(count**0.5)))
    images = (255 * pixels).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    images = images[..., 0] if images.shape[-1] == 1 else images
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        np.savez_compressed(temporary, images=images, codes=codes.numpy(), modes=modes.numpy())
        os.replace(temporary, path.with_suffix(".npz"))
    finally:
        temporary.unlink(missing_ok=True)
    print(f"{path}, {path.with_suffix('.npz')}: {count} pictures of {folder}, seed {seed}")


def _mixture(settings: AutoencoderConfig) -> Mixture:
    return isotropic(axis_centres(settings.modes, settings.latent, settings.separation))


def _judge(config: Config, size: int) -> Judge | None:
    judge = config.autoencoder.judge
    return None if judge is None else Judge(judge, size, config.image.channels)


@torch.inference_mode()
def _prior(task: AutoencoderTask, config: Config, data: ImageList, size: int) -> Mixture:
    """What samples are drawn from: the prior of training, a vae's N(0, I), or a mixture fitted to training codes."""
    latent = config.autoencoder.latent
    if task.prior is not None:
        return Mixture(*(part.cpu() for part in task.prior))
    if task.method == "vae":
        return isotropic(torch.zeros(1, latent))
    chosen = np.random.default_rng(config.seed).permutation(len(data.records))[:FITTED]
    dataset = image_dataset(config, data, size, train=False)
    loader = build.evaluation_loader(dataset, config.evaluation.batch_size, config.data.workers, chosen.tolist())
    device, training = next(task.parameters()).device, task.training
    task.eval()
    codes = torch.cat([task.model.encode(batch["images"].to(device)).float().cpu() for batch in loader])
    task.train(training)
    return fit_mixture(codes, config.autoencoder.modes, config.seed)


def fit_mixture(codes: torch.Tensor, modes: int, seed: int) -> Mixture:
    """Maximum-likelihood mixture of `modes` full Gaussians, by EM (scikit-learn, started by k-means).

    Raises:
        ValueError: fewer codes than modes.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if len(codes) < modes:
        raise ValueError(f"a mixture of {modes} modes needs at least as many pictures, got {len(codes)}")
    model: Any = GaussianMixture(modes, max_iter=200, random_state=seed)
    with warnings.catch_warnings():  # what has not converged after 200 rounds is still the mixture that is sampled
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(codes.double().numpy())
    tril = np.linalg.cholesky(model.covariances_)
    return Mixture(*(torch.from_numpy(part).float() for part in (model.means_, tril, model.weights_)))

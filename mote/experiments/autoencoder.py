"""What `mote train`, `mote eval` and `mote sample` do for task=autoencoder; pictures and loop are those of images."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from mote.config import Config
from mote.config.sections import AutoencoderConfig
from mote.datasets.images import ImageList
from mote.evaluation.autoencoder import _judge, evaluate_latent
from mote.evaluation.views import evaluation_list, evaluation_loader, image_dataset, training_list
from mote.experiments.images import ImageExperiment, picture_size
from mote.experiments.train import check_run, fit_run
from mote.inference.latent import LatentModel
from mote.models.autoencoder import ImageAutoencoder, save_autoencoder
from mote.parallel.accelerator import Accelerator, make_accelerator, on_main
from mote.regularizers.gaussian_mixture import Mixture, axis_centres, isotropic
from mote.reporting.headline import headline
from mote.tasks.autoencoder import AutoencoderTask

FITTED = 10_000  # training pictures whose codes the mixture of method=ae is fitted to


def train_autoencoder(config: Config, resume: bool = False) -> Path:
    """Train an autoencoder and leave a run directory; see `mote.experiments.train.train`."""
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


def _mixture(settings: AutoencoderConfig) -> Mixture:
    return isotropic(axis_centres(settings.modes, settings.latent, settings.separation))


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
    loader = evaluation_loader(dataset, config.evaluation.batch_size, config.data.workers, chosen.tolist())
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

"""What a configuration with task=autoencoder amounts to; its images and loop are those of an image network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from mote.config import Config
from mote.config.image_sections import AutoencoderConfig
from mote.datasets.lists.images import ImageList
from mote.evaluation.autoencoder import Judge, evaluate, find_judge
from mote.evaluation.listings import evaluation_list, training_list
from mote.evaluation.views import evaluation_loader, image_dataset
from mote.experiments.images import ImageExperiment, image_size
from mote.files.preprocessing import CUT_FIRST
from mote.inference.latent import LatentModel
from mote.models.autoencoder import ImageAutoencoder, save_autoencoder
from mote.parallel.accelerator import Accelerator
from mote.regularizers.gaussian_mixture import Mixture, axis_centres, isotropic
from mote.tasks.autoencoder import AutoencoderTask
from mote.training.optim import Rule

FITTED = 10_000  # training images whose codes the mixture of method=ae is fitted to


@dataclass
class LatentExperiment(ImageExperiment):
    """A configuration with task=autoencoder as objects; images and their list are those of an image network.

    judge: the network of `autoencoder.judge`, where one is named.
    """

    judge: Judge | None = None

    @property
    def smallest_batch(self) -> int:  # type: ignore[override]
        """The latent terms compare the codes of a batch, which must be more than their dimensions."""
        return self.config.autoencoder.latent + 1

    def rules(self) -> list[Rule]:
        """One learning rate for all."""
        return [("*", {"lr_scale": 1.0})]

    def latent_model(self, task: nn.Module) -> LatentModel:
        """The autoencoder with the weights of `task`, and the prior that its samples are drawn from."""
        task = cast(AutoencoderTask, task)
        meta = {"method": task.method, "conditional": task.conditional, "classes": self.data.classes}
        meta["preprocessing"] = CUT_FIRST.changed(**self.config.data.preprocessing)._asdict()
        return LatentModel(task.model, _prior(task, self.config, self.data, self.size), meta)  # type: ignore[arg-type]

    def evaluate(self, task: nn.Module, accelerator: Accelerator, out: Path, *, page: bool) -> dict[str, Any]:
        """Score the weights of `task`; see `mote.evaluation.autoencoder.evaluate`. There is no page."""
        latent = self.latent_model(task)
        return evaluate(latent, self.config, accelerator, out, data=self.held_out, judge=self.judge)

    def save(self, task: nn.Module, folder: Path, selected: str) -> None:
        """Write the network and its prior."""
        latent = self.latent_model(task)
        meta = {**latent.meta, "seed": self.config.seed, "selected": selected}
        save_autoencoder(folder, latent.model, latent.prior._asdict(), meta)


def assemble(config: Config, accelerator: Accelerator) -> LatentExperiment:
    """Build everything that `config` names. Writes nothing.

    Raises:
        ValueError, OSError: settings or lists that do not fit, or several processes.
    """
    if accelerator.is_fsdp2:
        raise ValueError("task=autoencoder needs its network whole in every process; launch without FSDP")
    if accelerator.num_processes > 1:
        raise ValueError(
            "task=autoencoder trains in one process: batch normalisation and the latent terms are of the whole batch, "
            f"and would be of a part of it in each of {accelerator.num_processes}"
        )
    data = training_list(config)
    size = image_size(config, data)
    task = build_task(config, size, data.classes)
    held_out = None
    if config.evaluation.manifest is not None:  # read now: a mistake in it should not cost a training
        held_out = evaluation_list(config, data.classes)
    judge = find_judge(config, size)
    return LatentExperiment(config, data, size, task, accelerator.device, held_out=held_out, judge=judge)


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
        raise ValueError(f"a mixture of {modes} modes needs at least as many images, got {len(codes)}")
    model: Any = GaussianMixture(modes, max_iter=200, random_state=seed)
    with warnings.catch_warnings():  # what has not converged after 200 rounds is still the mixture that is sampled
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(codes.double().numpy())
    tril = np.linalg.cholesky(model.covariances_)
    return Mixture(*(torch.from_numpy(part).float() for part in (model.means_, tril, model.weights_)))

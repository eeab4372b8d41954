"""A configuration as objects, built but not yet trained; the only place that asks which kind of task it is."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mote.config import Config
from mote.datasets.lists.manifest import Record
from mote.inference.contract import check_size
from mote.parallel.accelerator import Accelerator
from mote.training.optim import Rule

ASSEMBLERS = {  # task -> (module of this folder, its function)
    "video": ("video", "assemble"),
    "image": ("images", "assemble"),
    "expression": ("images", "assemble_expressions"),
    "autoencoder": ("autoencoder", "assemble"),
}


@runtime_checkable
class Experiment(Protocol):
    """What `mote train` trains and `mote train --dry-run` measures: one class for each kind of task.

    config: all settings. task: (batch, generator) -> (loss, {name: weighted term}). device: where the model is used.
    size: height and width of images, in pixels.
    """

    config: Config
    task: nn.Module
    device: torch.device
    size: int

    @property
    def classes(self) -> Sequence[str]:
        """Class names, K."""
        ...

    @property
    def records(self) -> Sequence[Record]:
        """The training list."""
        ...

    @property
    def item(self) -> str:
        """What a sample is called: "clip" or "image"."""
        ...

    @property
    def smallest_batch(self) -> int:
        """Fewest samples of which the loss is defined."""
        ...

    @property
    def max_skipped(self) -> int:
        """Undecodable samples allowed in an epoch."""
        ...

    def rules(self) -> list[Rule]:
        """Learning rates by parameter pattern, see `mote.training.optim.parameter_groups`."""
        ...

    def loader(self) -> DataLoader:
        """Training batches."""
        ...

    def predict(self, batch: Mapping[str, Tensor]) -> Tensor:
        """What the network makes of a training batch, without the loss."""
        ...

    def evaluate(self, task: nn.Module, accelerator: Accelerator, out: Path, *, page: bool) -> dict[str, Any]:
        """The summary of `config.evaluation` for the weights of `task`, written to `out`; call it in every process."""
        ...

    def save(self, task: nn.Module, folder: Path, selected: str) -> None:
        """Write the weights of `task` as the model folder `folder`, made here; `selected` says how they were chosen."""
        ...


def assemble(config: Config, accelerator: Accelerator) -> Experiment:
    """Everything that `config` names, built but not yet trained. Writes nothing.

    Raises:
        ValueError, OSError: settings, files or lists that do not fit.
    """
    if config.data.train is None:
        raise ValueError("data.train is not set; give it as an override, for example data.train=...")
    module, function = ASSEMBLERS[config.task]
    experiment = getattr(import_module(f"mote.experiments.{module}"), function)(config, accelerator)
    if config.data.size is not None:
        _check_size(experiment)
    return experiment


def _check_size(experiment: Experiment) -> None:
    """Refuse images of `data.size` that the network cannot take, see `check_size`; raises ValueError."""
    task, config, training = experiment.task, experiment.config, experiment.task.training
    model: Any = task.model
    if experiment.item == "clip":
        tower, channels, run = model.visual, 3, lambda images: model.encode_frames(images[:, None])
    else:
        tower, channels, run = model, config.image.channels, lambda images: experiment.predict({"images": images})
    side, device = experiment.size, next(task.parameters()).device
    task.eval()
    try:
        check_size(tower, run, torch.zeros(1, channels, side, side, dtype=torch.uint8, device=device))
    finally:
        task.train(training)

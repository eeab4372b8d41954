"""The correction after training that the configuration of a model's run asks for (`imbalance.posthoc`)."""

import warnings
from collections.abc import Sequence

from mote.config import load as load_config
from mote.config.sections import ImbalanceConfig
from mote.files.run_directory import settings_file
from mote.inference.model import Model, Namer


def posthoc(model: Model) -> ImbalanceConfig:
    """The correction after training that the configuration of the model's run asks for."""
    file = settings_file(model.source.model) if model.source is not None else None
    return ImbalanceConfig() if file is None else load_config([file]).imbalance


def corrected(model: Namer, class_names: Sequence[str]) -> Namer:
    """The model corrected as its run is evaluated; other class names than its own cannot be, which a warning says."""
    settings = posthoc(model)
    if settings.posthoc != "none" and [*class_names] != model.classes:
        warnings.warn(f"imbalance.posthoc={settings.posthoc} is for the run's own classes: not applied", stacklevel=2)
        return model
    return model.corrected(settings, class_names)

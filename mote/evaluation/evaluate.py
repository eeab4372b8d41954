"""Any kind of model on a list: one row a kind."""

from collections.abc import Callable, Mapping
from pathlib import Path

from mote.config import Config
from mote.evaluation import autoencoder, images, videos
from mote.evaluation.results import working_on
from mote.inference.model import Model
from mote.metrics.result_files import Summary
from mote.parallel.accelerator import Accelerator

SCORED: Mapping[str, Callable[..., Summary]] = {
    "video": videos.evaluate,
    "image": images.evaluate,
    "autoencoder": autoencoder.evaluate,
}


def evaluate(model: Model, config: Config, accelerator: Accelerator, out: Path, union: str | None = None) -> Summary:
    """Score `model` on `config.evaluation`; write NAME.json, NAME.csv and NAME/index.html to `out`.

    Args:
        model: any kind of model, in evaluation mode.
        config: what is scored on, and how.
        accelerator: the processes that share the work.
        out: folder of the result files.
        union: class file whose names compete as well, for video models.

    Returns:
        The summary that was written; its keys depend on the kind of model.

    Raises:
        ValueError, DecodeError, OSError: a list or setting that does not fit, an undecodable file.
        InUseError: another process works on the same result.
    """
    if union is not None and model.kind != "video":
        raise ValueError("--union-labels is for video models; this one knows its own classes only")
    more = {} if union is None else {"union": union}
    with working_on(accelerator, out, config.evaluation.name):
        return SCORED[model.kind](model, config, accelerator, out, **more)

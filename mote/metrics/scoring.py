"""From logits to the scores of every listed clip: views fused, every clip once.

Each sample is keyed by its index in the list, whatever the order and the process in which it is scored; one that is
missing or scored twice is an error.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from mote.metrics.scores import FUSIONS, Scores


def fuse_views(
    logits: Float[Tensor, "B V K"], form: str = "mean_softmax", logit_scale: float = 1.0
) -> Float64[Tensor, "B K"]:
    """Class probabilities, on the CPU, from the logits (scaled cosines) of several views of each clip.

    form: "mean_softmax", the mean over views of softmax(logits); "mean_logits", softmax of the mean over views;
    "reference", what the authors of MoTE run: softmax of the cosines (logits / logit_scale), mean over views, softmax
    again. Its probabilities are nearly uniform; the second softmax changes no ranking. Only "reference" reads
    `logit_scale`, the multiplier itself (not its logarithm).
    """
    logits = logits.cpu().double()  # "reference" squeezes cosines 2e-5 apart into one float32 at 400 classes
    if form == "mean_softmax":
        return logits.softmax(dim=-1).mean(dim=1)
    if form == "mean_logits":
        return logits.mean(dim=1).softmax(dim=-1)
    if form == "reference":
        return (logits / logit_scale).softmax(dim=-1).mean(dim=1).softmax(dim=-1)
    raise ValueError(f"unknown view fusion {form!r}; choose one of {', '.join(FUSIONS)}")


def _unchanged(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    return arrays


def score(
    batches: Iterable[Mapping[str, Tensor]],
    add_up: Callable[[dict[str, Tensor]], dict[str, Tensor]] = _unchanged,
    *,
    total: int,
    num_classes: int,
    fusion: str = "mean_softmax",
    logit_scale: float = 1.0,
) -> Scores:
    """Scores of all `total` clips of a list, in the order of the list.

    batches: dicts of "logits" (B, V, K), "index", "label" and "valid" (B,); several processes take some each. add_up:
    adds tensors over the processes; each clip has values in one process and zeros elsewhere, so nothing is rounded.
    Raises ValueError when an index is missing, outside the list, or seen twice, or a logit is not finite.
    """
    if total < 1:
        raise ValueError("no clips to score; check that the list is not empty")
    parts = {
        "times": torch.zeros(total, dtype=torch.int64),
        "label": torch.zeros(total, dtype=torch.int64),
        "valid": torch.zeros(total, dtype=torch.uint8),  # not every communication library adds booleans
        "probabilities": torch.zeros(total, num_classes, dtype=torch.float64),
    }
    for batch in batches:
        index, valid, logits = batch["index"].cpu(), batch["valid"].cpu().bool(), batch["logits"].detach().cpu()
        _check(index, valid, logits, total)
        parts["times"].index_add_(0, index, torch.ones_like(index))
        parts["label"][index] = batch["label"].cpu()
        parts["valid"][index] = valid.byte()
        parts["probabilities"][index[valid]] = fuse_views(logits[valid], fusion, logit_scale)
    joined = {name: value.numpy() for name, value in add_up(parts).items()}
    missing, repeated = np.flatnonzero(joined["times"] == 0), np.flatnonzero(joined["times"] > 1)
    if missing.size:
        raise ValueError(f"{missing.size} of {total} clips were never scored, the first has index {missing[0]}")
    if repeated.size:
        raise ValueError(f"{repeated.size} of {total} clips were scored twice, the first has index {repeated[0]}")
    return Scores(np.arange(total), joined["label"], joined["probabilities"], joined["valid"].astype(bool))


def _check(index: Int64[Tensor, "B"], valid: Bool[Tensor, "B"], logits: Tensor, total: int) -> None:
    if ((index < 0) | (index >= total)).any():
        raise ValueError(f"clip index outside 0..{total - 1}; `total` must be the length of the list")
    broken = valid & ~logits.isfinite().all(dim=2).all(dim=1)
    if broken.any():
        raise ValueError(
            f"logits of clip {index[broken][0]} (counted from 0) are not finite; check weights and precision"
        )

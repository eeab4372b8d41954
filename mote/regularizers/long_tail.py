"""Losses for long-tailed classes: logits and targets in, the loss of every sample out; the caller takes the mean.

Symbols: z logits (N, K) of the head, scale included; y target, a label (N,) or the probabilities (N, K) of a mixed or
smoothed one; n_c training samples of class c (`counts`), all at least 1 (`checked_counts`); N_train = sum n_c,
p_c = n_c / N_train; CE the cross-entropy. A soft target costs sum_c y_c L(z, c), where L(z, c) is the loss at label c.

| name | per sample | source |
|---|---|---|
| ce | CE(z, y) | |
| label_smoothing | CE(z, q): q_y = 1 - eps, the rest eps / (K - 1) each | Szegedy et al. 2016, see below |
| weighted_ce | w_y CE, w_c = N_train / (K n_c) | |
| focal | (1 - softmax(z)_y)^gamma CE | Lin et al. 2017 |
| class_balanced | w_y CE, w_c ~ (1 - beta) / (1 - beta^n_c), sum w_c = K | Cui et al. 2019 |
| ldam | w_y CE(z - s Delta_y e_y, y), Delta_c ~ n_c^(-1/4), the largest 0.5 | Cao et al. 2019 |
| logit_adjustment | CE(z + tau log p, y) | Menon et al. 2021 |
| balanced_softmax | CE(z + log n, y): logit adjustment at tau = 1 | Ren et al. 2020 |

Deviations, on purpose. Weighted losses are divided by the number of samples, not by the sum of their weights as torch
does: so the gradient of a batch does not depend on how it was cut into micro-batches or processes. LDAM multiplies only
the margin by the head's scale s, as z has it already: with z = s cos this is the paper's s (cos - Delta). Uniform
smoothing leaves nothing of eps on the target, unlike torch's, so that it is the equal-weight case of
`extra_knowledge.smooth_label_matrix` at the same eps.

Each loss corrects the prior once. A balanced sampler, a second one of these, or weights on top correct it again.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Real, Shaped
from torch import Tensor


def checked_counts(counts: Sequence[int], names: Sequence[str] | None = None) -> Int64[Tensor, "K"]:
    """`counts` as a tensor, for the functions below.

    Raises:
        ValueError: fewer than two classes, or one without a training sample.
    """
    if len(counts) < 2:
        raise ValueError(f"expected the training counts of at least 2 classes, got {len(counts)}")
    if empty := [str(names[c] if names else c) for c, count in enumerate(counts) if count < 1]:
        raise ValueError(f"no training sample of class {', '.join(empty[:10])}; leave these classes out of the list")
    return torch.tensor(list(counts), dtype=torch.int64)


def inverse_weights(counts: Real[Tensor, "K"]) -> Float[Tensor, "K"]:
    """w_c = N_train / (K n_c): "balanced" weights, whose mean over the training samples is 1."""
    return counts.sum() / (len(counts) * counts.double())


def effective_number_weights(counts: Real[Tensor, "K"], beta: float = 0.9999) -> Float[Tensor, "K"]:
    """w_c proportional to (1 - beta) / (1 - beta^n_c), with mean 1 over the classes; beta in [0, 1), 0: all equal.

    Raises:
        ValueError: beta outside [0, 1).
    """
    if not 0 <= beta < 1:
        raise ValueError(f"expected beta in [0, 1), got {beta}")
    weight = 1 / (1 - beta ** counts.double())
    return weight / weight.mean()


def log_prior(counts: Real[Tensor, "K"]) -> Float[Tensor, "K"]:
    """log p_c in double precision."""
    return counts.double().log() - counts.double().sum().log()


def cross_entropy(
    logits: Float[Tensor, "N K"], target: Shaped[Tensor, "N *K"], counts: Real[Tensor, "K"]
) -> Float[Tensor, "N"]:
    """Plain cross-entropy; the counts have no say."""
    return _cross_entropy(logits, target)


def label_smoothing(
    logits: Float[Tensor, "N K"], target: Shaped[Tensor, "N *K"], counts: Real[Tensor, "K"], epsilon: float = 0.1
) -> Float[Tensor, "N"]:
    """Uniform label smoothing, all of `epsilon` off the target; the counts have no say."""
    off_target = epsilon / (logits.shape[1] - 1)
    soft = _one_hot(target, logits) * (1 - epsilon - off_target) + off_target
    return _cross_entropy(logits, soft)


def weighted_cross_entropy(
    logits: Float[Tensor, "N K"], target: Shaped[Tensor, "N *K"], counts: Real[Tensor, "K"]
) -> Float[Tensor, "N"]:
    """Cross-entropy weighted by `inverse_weights`."""
    return _expected(-F.log_softmax(logits, dim=1) * inverse_weights(counts).to(logits), target)


def focal(
    logits: Float[Tensor, "N K"], target: Shaped[Tensor, "N *K"], counts: Real[Tensor, "K"], gamma: float = 2.0
) -> Float[Tensor, "N"]:
    """Softmax focal loss, `gamma` >= 0, without class weights; gamma = 0 is cross-entropy. The counts have no say."""
    losses = -F.log_softmax(logits, dim=1)
    # 1 - p from log p; at least 1e-12 so that the gradient of x^gamma at 0 is finite for gamma < 1
    return _expected((-torch.expm1(-losses)).clamp_min(1e-12) ** gamma * losses, target)


def class_balanced(
    logits: Float[Tensor, "N K"], target: Shaped[Tensor, "N *K"], counts: Real[Tensor, "K"], beta: float = 0.9999
) -> Float[Tensor, "N"]:
    """Cross-entropy weighted by `effective_number_weights`."""
    return _expected(-F.log_softmax(logits, dim=1) * effective_number_weights(counts, beta).to(logits), target)


def ldam(
    logits: Float[Tensor, "N K"],
    target: Shaped[Tensor, "N *K"],
    counts: Real[Tensor, "K"],
    max_margin: float = 0.5,
    scale: float | Float[Tensor, ""] = 30.0,
    weight: Float[Tensor, "K"] | None = None,
) -> Float[Tensor, "N"]:
    """Label-distribution-aware margins on a cosine head.

    Args:
        logits: `scale` times cosines.
        target: labels, or probabilities (which cost K times the memory).
        counts: training samples of every class.
        max_margin: margin of the rarest class, in cosines.
        scale: of the head (the multiplier itself), for the margins.
        weight: of the classes, such as `effective_number_weights` from a later epoch on (Cao et al.); None: ones.
    """
    margin = counts.double() ** -0.25
    margin = (max_margin * margin / margin.max()).to(logits) * scale
    weight = torch.ones_like(margin) if weight is None else weight.to(logits)
    if target.ndim == 1:
        moved = logits - _one_hot(target, logits) * margin
        return weight[target] * _cross_entropy(moved, target)
    moved = logits[:, None] - torch.diag(margin)  # (N, K, K): row c has the margin of label c
    return _expected(-F.log_softmax(moved, dim=2).diagonal(dim1=1, dim2=2) * weight, target)


def logit_adjustment(
    logits: Float[Tensor, "N K"], target: Shaped[Tensor, "N *K"], counts: Real[Tensor, "K"], tau: float = 1.0
) -> Float[Tensor, "N"]:
    """Logit-adjusted loss; the model is used without adjustment afterwards. tau = 0 is cross-entropy."""
    return _cross_entropy(logits + (tau * log_prior(counts)).to(logits), target)


def balanced_softmax(
    logits: Float[Tensor, "N K"], target: Shaped[Tensor, "N *K"], counts: Real[Tensor, "K"]
) -> Float[Tensor, "N"]:
    """Cross-entropy of a softmax whose terms are weighted by the counts."""
    return _cross_entropy(logits + counts.double().log().to(logits), target)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "ce": cross_entropy,
    "label_smoothing": label_smoothing,
    "weighted_ce": weighted_cross_entropy,
    "focal": focal,
    "class_balanced": class_balanced,
    "ldam": ldam,
    "logit_adjustment": logit_adjustment,
    "balanced_softmax": balanced_softmax,
}


def adjust_logits(logits: Float[Tensor, "*B K"], counts: Real[Tensor, "K"], tau: float = 1.0) -> Float[Tensor, "*B K"]:
    """Post-hoc logit adjustment (Menon et al. 2021): z - tau log p, for a model trained with plain cross-entropy."""
    return logits - (tau * log_prior(counts)).to(logits)


def tau_normalized(weight: Float[Tensor, "K D"], tau: float = 1.0) -> Float[Tensor, "K D"]:
    """Head weights w_c / ||w_c||^tau (Kang et al. 2020), to be used without the bias; tau = 0 leaves them as they are.

    Raises:
        ValueError: a class whose weights are all zero.
    """
    norm = weight.norm(dim=1, keepdim=True)
    if (norm == 0).any():
        raise ValueError(f"the head's weights of class {int(norm[:, 0].argmin())} are all zero; it has no direction")
    return weight / norm**tau


def _cross_entropy(logits: Float[Tensor, "N K"], target: Shaped[Tensor, "N *K"]) -> Float[Tensor, "N"]:
    return F.cross_entropy(logits, target if target.ndim == 1 else target.to(logits), reduction="none")


def _one_hot(target: Shaped[Tensor, "N *K"], logits: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
    soft = F.one_hot(target, logits.shape[1]) if target.ndim == 1 else target
    return soft.to(logits)


def _expected(losses: Float[Tensor, "N K"], target: Shaped[Tensor, "N *K"]) -> Float[Tensor, "N"]:
    """The loss at the label, or its mean over the labels of a soft target; `losses`: at every label."""
    if target.ndim == 1:
        return losses.gather(1, target[:, None])[:, 0]
    return (losses * target.to(losses)).sum(dim=1)

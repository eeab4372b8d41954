"""Mining extra knowledge (MEK): what samples of the major classes say about the minor ones.

Paper: Zhang et al., "Leave No Stone Unturned: Mine Extra Knowledge for Imbalanced Facial Expression Recognition",
NeurIPS 2023 (arXiv 2310.19636). Symbols: n_c training samples of class c; w_c ~ 1 / n_c (`weight`); W head weights
(K, D) without bias; F feature map (B, D, H, W); M class activation maps (`cam`), M' those of the mirrored input
(`cam_flip`).

    M_i[c,h,w] = sum_d W[c,d] F_i[d,h,w],  W detached
    RAC = Lambda mean_i sum_c v_c mean_hw (M_i[c] - mirror(M'_i)[c])^2,  v_c = w_c / sum_k w_k
    RSL: q[y] = 1 - eps,  q[c] = eps w_c / sum_{k != y} w_k  elsewhere

Lambda (`strength`) is the published lambda times sum_c w_c, so a value means the same for any scale of the weights
and any number of classes. The released code has w_c = N / (10 n_c) and lambda 0.1 on RAF-DB: Lambda 1.01. Equal weights
give the uniform consistency of EAC (Zhang et al., ECCV 2022; its lambda 5 is Lambda 5) and uniform label smoothing.

M has the units of the logits, so the loss grows with the square of a logit scale: with CLIP, pass cosines (normalised
patch tokens and text features), not cosines times the scale. For clips the maps are (B, T, K, H, W); mirror all frames
of a clip together, after every random augmentation: `frames.flip(-1)`.
"""

import torch
from jaxtyping import Float, Real, Shaped
from torch import Tensor


def class_weights(counts: Real[Tensor, "K"]) -> Float[Tensor, "K"]:
    """w_c proportional to 1 / n_c with mean 1, in double precision; for counts as of `long_tail.checked_counts`."""
    weight = 1 / counts.double()
    return weight / weight.mean()


def smooth_label_matrix(weight: Float[Tensor, "K"], epsilon: float) -> Float[Tensor, "K K"]:
    """Row y is the re-balanced smooth label of class y; rows sum to 1. For the targets of a batch see `soft_targets`.

    Raises:
        ValueError: epsilon outside [0, 1], fewer than two classes, a weight that is not positive.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"expected epsilon in [0, 1], got {epsilon}")
    if len(weight) < 2 or not bool((weight > 0).all()):
        raise ValueError(f"expected positive weights of at least 2 classes, got {weight.tolist()}")
    off_target = weight.expand(len(weight), -1).clone().fill_diagonal_(0)
    smooth = epsilon * off_target / off_target.sum(dim=1, keepdim=True)
    return smooth.fill_diagonal_(1 - epsilon)


def soft_targets(target: Shaped[Tensor, "B *K"], matrix: Float[Tensor, "K K"]) -> Float[Tensor, "B K"]:
    """Targets for any cross-entropy that takes class probabilities.

    Args:
        target: labels (B,), or probabilities (B, K) such as those of mixed samples, which are then smoothed class by
            class.
        matrix: `smooth_label_matrix`.
    """
    return matrix[target] if target.ndim == 1 else target @ matrix.to(target)


def class_activation_maps(
    features: Float[Tensor, "B *T D H W"], weight: Float[Tensor, "K D"]
) -> Float[Tensor, "B *T K H W"]:
    """M of a feature map, or of one map per frame. `weight`, a head's or text features, gets no gradient."""
    return torch.einsum("kd,...dhw->...khw", weight.detach(), features)


def attention_consistency(
    cam: Float[Tensor, "B *T K H W"],
    cam_flip: Float[Tensor, "B *T K H W"],
    weight: Float[Tensor, "K"],
    strength: float,
) -> Float[Tensor, "B"]:
    """RAC times `strength` (Lambda) of every sample, whose mean is the loss; `weight` is normalised here.

    Frames are averaged like pixels.
    """
    share = (weight / weight.sum()).to(cam)
    squared = (cam - cam_flip.flip(-1)).square().mean(dim=(-2, -1))  # (B, *T, K)
    return strength * (squared @ share).reshape(len(cam), -1).mean(dim=1)

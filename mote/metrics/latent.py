"""Metrics of an autoencoder and its latent space: functions of codes, features of images, modes and labels.

- `frechet_distance`: Heusel et al., NeurIPS 2017: ||m_1 - m_2||^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)) of the features
  of two sets of images. Values of different networks or numbers of images cannot be compared, so both must be told.
- `energy_test`: Szekely and Rizzo 2004: the energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| of codes and draws of
  the prior, zero only for equal distributions, with the p-value of random relabellings. It sees joint structure, which
  the per-coordinate distances of training do not, and no method is trained on it.
- `coverage`: whether all modes (or classes) are used, and how evenly.
- `agreement`: whether modes are classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor


def frechet_distance(first: Float[Tensor, "N D"], second: Float[Tensor, "M D"]) -> float:
    """Squared distance of the Gaussians of two sets of features, >= 0, in the squared unit of the features.

    Raises:
        ValueError: fewer than two features in a set.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"a Frechet distance needs at least 2 images a set, got {len(first)} and {len(second)}")
    (m1, c1), (m2, c2) = ((x.double().mean(0), x.double().T.cov(correction=1)) for x in (first, second))
    c1, c2 = (c.reshape(first.shape[1], -1) for c in (c1, c2))
    values, vectors = torch.linalg.eigh(c1)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T  # tr (C1 C2)^(1/2) = tr (C1^(1/2) C2 C1^(1/2))^(1/2)
    cross = torch.linalg.eigvalsh(root @ c2 @ root).clamp_min(0).sqrt().sum()
    return max(0.0, float((m1 - m2).square().sum() + c1.trace() + c2.trace() - 2 * cross))


def energy_test(
    codes: Float[Tensor, "N d"], prior: Float[Tensor, "M d"], *, relabellings: int = 199, seed: int = 0
) -> tuple[float, float, float]:
    """(energy distance, its mean over random relabellings, p-value).

    The p-value is the share of relabellings, the real labels among them, whose distance is at least as large. Memory
    and time grow with (N + M)^2; a thousand codes are enough.
    """
    both = torch.cat([codes, prior]).double()
    distances = torch.cdist(both, both, compute_mode="donot_use_mm_for_euclid_dist")
    rng, num = np.random.default_rng(seed), len(codes)
    labels = np.zeros((relabellings + 1, len(both)))
    labels[0, :num] = 1
    for row in labels[1:]:
        row[rng.permutation(len(both))[:num]] = 1
    first = torch.from_numpy(labels) / num
    second = torch.from_numpy(1 - labels) / len(prior)
    # sum_ij w_i w_j |x_i - x_j| with w = 1/N on one sample and -1/M on the other is minus the energy distance
    weight = first - second
    values = -((weight @ distances) * weight).sum(1)
    return float(values[0]), float(values[1:].mean()), float((values >= values[0] - 1e-12).double().mean())


def coverage(assigned: Int64[Tensor, "N"], num: int, expected: Sequence[float] | None = None) -> dict[str, float | int]:
    """How evenly `num` modes or classes are used.

    Keys: `used`, those with at least a tenth of their expected share; `effective`, exp of the entropy, 1..num;
    `smallest`, the smallest share; `distance`, total variation from `expected` shares (None: equal ones), 0..1.
    """
    share = torch.bincount(assigned, minlength=num).double() / max(len(assigned), 1)
    wanted = torch.full((num,), 1 / num, dtype=torch.float64) if expected is None else torch.tensor(expected).double()
    entropy = -(share * share.clamp_min(1e-300).log()).sum()
    return {
        "used": int((share >= 0.1 * wanted).sum()),
        "effective": float(entropy.exp()),
        "smallest": float(share.min()),
        "distance": float((share - wanted).abs().sum() / 2),
    }


def agreement(mode: Int64[Tensor, "N"], label: Int64[Tensor, "N"], num_modes: int) -> dict[str, float]:
    """Agreement of modes and classes, in [0, 1].

    Keys: `own`, the share of samples for which mode k is class k; `matched`, the same with the best one-to-one naming
    of modes; `purity`, with every mode named by its most frequent class; `nmi`, normalised mutual information.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import normalized_mutual_info_score

    num_classes = int(label.max()) + 1
    table = torch.bincount(mode * num_classes + label, minlength=num_modes * num_classes).view(num_modes, -1).numpy()
    rows, columns = linear_sum_assignment(table, maximize=True)
    return {
        "own": float((mode == label).double().mean()),
        "matched": float(table[rows, columns].sum() / len(mode)),
        "purity": float(table.max(1).sum() / len(mode)),
        "nmi": float(normalized_mutual_info_score(label.numpy(), mode.numpy())),
    }

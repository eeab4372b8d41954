"""Maximum mean discrepancy with the kernel of the Wasserstein autoencoder: two samples in, a scalar out.

Source: Tolstikhin et al., "Wasserstein Auto-Encoders", ICLR 2018, algorithm 2: the unbiased estimate

    MMD^2 = 1/(n(n-1)) sum_{i!=j} [k(z_i, z_j) + k(p_i, p_j)] - 2/n^2 sum_ij k(z_i, p_j)

of codes z and draws p of the prior, with the inverse multiquadratic k(x, y) = sum_s C_s / (C_s + ||x - y||^2) at
C_s = s C, s in 0.1, 0.2, 0.5, 1, 2, 5, 10, where C is the mean squared distance of two draws of the prior: 2 d for
N(0, I), as in the paper. Expectation 0 where both are of one distribution; it may be negative.
"""

import torch
from jaxtyping import Float
from torch import Tensor

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def mmd(z: Float[Tensor, "N d"], prior: Float[Tensor, "N d"], distance: float) -> Float[Tensor, ""]:
    """MMD^2 of two samples of one size; `distance`: C, > 0.

    Raises:
        ValueError: samples of unequal size, or of fewer than two.
    """
    num = len(z)
    if num != len(prior) or num < 2:
        raise ValueError(f"MMD needs two samples of one size, at least 2, got {num} and {len(prior)}")

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        squared = (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T).clamp_min(0)
        return torch.stack([s * distance / (s * distance + squared) for s in SCALES]).sum(0)

    own, theirs = kernel(z, z), kernel(prior, prior)
    pairs = own.sum() - own.diagonal().sum() + theirs.sum() - theirs.diagonal().sum()
    return pairs / (num * (num - 1)) - 2 * kernel(z, prior).mean()

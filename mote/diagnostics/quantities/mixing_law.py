"""The law of a mixing mask: how strongly a method regularises products of input gradients, by the distance of pixels.

Paper: Park, Yun, Chun, NeurIPS 2022. Expand the loss on mixed samples around the plain loss in delta = (1 - M)(r - x),
r another sample. In its second order terms the method enters through one matrix only,

    a_ij = E[(1 - M_i)(1 - M_j)],        L_mixed = L + R1 + R2 + R3,  R2 ~ sum_ij a_ij (df/dx_i)(df/dx_j) Cov(r_i, r_j)

so a large a at distance 0 and a small one far away means: neighbouring pixels' gradients are tied, distant ones not.

A mixed sample with label lambda y_i + (1 - lambda) y_j is, in expectation of the loss, with probability lambda the
sample of label y_i masked by M, else the one of label y_j masked by 1 - M; the expectation E is over this law. For
Mixup it has the closed form alpha / (2 (2 alpha + 1)) at every distance, for lambda ~ Beta(alpha, alpha).
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor


def mixup_law(alpha: float) -> float:
    """a of Mixup, the same for every pair of pixels: E[lambda (1 - lambda)] = alpha / (2 (2 alpha + 1))."""
    return alpha / (2 * (2 * alpha + 1))


def mask_law(batches: Iterable[Float[Tensor, "_ T H W"]]) -> tuple[Float64[np.ndarray, "t d"], float]:
    """(a, E[1 - M]) of masks that come in batches.

    Row t of a is for pairs of pixels t frames apart, column d for those whose distance in the image rounds to d
    pixels, d = 0 .. min(H, W) - 1. The mean is over all pairs of pixels at that distance and over the masks, each
    weighted by its lambda = mean(M) as above; a mask that is constant along an axis must be expanded along it.
    """
    spectrum, mean, count, size = 0.0, 0.0, 0, (0, 0, 0)
    for masks in batches:
        kept = masks.double().cpu().numpy()  # (N, T, H, W)
        lam, size = kept.mean(axis=(1, 2, 3)), kept.shape[1:]
        for weight, cut in ((lam, 1 - kept), (1 - lam, kept)):
            spectrum = spectrum + np.tensordot(weight, _power(cut), axes=1)
            mean += (weight * cut.mean(axis=(1, 2, 3))).sum()
        count += len(kept)
    # Sum over i of E[u_i u_(i + s)] for every shift s: the autocorrelation, by the theorem of Wiener and Khinchin.
    total = np.fft.fftshift(np.fft.irfftn(spectrum, s=[2 * n for n in size], axes=(0, 1, 2)))[1:, 1:, 1:]
    frames, height, width = size
    dt, dy, dx = np.meshgrid(*(np.abs(np.arange(-n + 1, n)) for n in size), indexing="ij")
    pairs = (frames - dt) * (height - dy) * (width - dx)
    distance = np.rint(np.hypot(dy, dx)).astype(int)
    law = np.empty((frames, min(height, width)))
    for t in range(law.shape[0]):
        for d in range(law.shape[1]):
            at = (dt == t) & (distance == d)
            law[t, d] = total[at].sum() / pairs[at].sum() / count
    return law, mean / count


def _power(fields: Float64[np.ndarray, "N T H W"]) -> Float64[np.ndarray, "N t h w"]:
    """Power spectra, zero-padded to twice the size so that shifts do not wrap around."""
    return np.abs(np.fft.rfftn(fields, s=[2 * n for n in fields.shape[1:]], axes=(1, 2, 3))) ** 2

"""A Gaussian mixture as the prior of a latent space, and how far a batch of codes is from it.

Source: Saseendran et al., "Shape your Space", NeurIPS 2021, from the equations. Symbols: codes z (N, d); the mixture
p(z) = sum_k pi_k N(mu_k, S_k) with K modes, S_k = L_k L_k^T (`scale_tril` L); F_j its marginal distribution function
of coordinate j; z_(1j) <= ... <= z_(Nj) the sorted codes.

    cdf         D = 1/(N d) sum_ij (F_j(z_(ij)) - i/N)^2            a Cramer-von Mises distance for each coordinate
    covariance  V = 1/d^2 ||C - C_p||_F^2,  C = 1/N sum_i (z_i - zbar)(z_i - zbar)^T,  C_p that of the mixture
    mean        M = 1/d ||zbar - m||^2,  m = sum_k pi_k mu_k

Each is divided by its expectation over batches of N codes of the prior itself, so 1 is a perfect encoder, and a value
well below 1 a batch more regular than chance would make it. The expectations are closed forms: E[D] = (N + 1)/(6 N^2)
for any mixture, E[M] = tr C_p / (N d), E[V] from the fourth moments (`expected_covariance_distance`).

With labels (class = mode) the residuals r_i = z_i - mu_{y_i} are compared with N(0, S_{y_i}) within each class, with
n_c codes in it: D_c and M_c over their expectations at n_c, averaged over the classes of the batch; V of the pooled
within-class covariance, each class around its own mean.

Deviations, on purpose: the released code draws batches to estimate the expectations, has no mean term (only D holds the
mean, weakly), mixes up std and variance, and puts the modes at unit vectors with std 1, which is sqrt 2 std apart:
there no batch can tell the mixture from one Gaussian. Here `separation` is in std; 6 by default.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor


class Mixture(NamedTuple):
    """K Gaussians in d dimensions: `centres`, lower triangular `scale_tril` of the covariances, `priors`."""

    centres: Float[Tensor, "K d"]
    scale_tril: Float[Tensor, "K d d"]
    priors: Float[Tensor, "K"]

    def to(self, like: Tensor) -> "Mixture":
        """On the device and of the type of `like`."""
        return Mixture(*(part.to(like) for part in self))


def isotropic(centres: Float[Tensor, "K d"], std: float = 1.0, priors: Float[Tensor, "K"] | None = None) -> Mixture:
    """Modes N(mu_k, std^2 I); equal priors unless given."""
    num_modes, dim = centres.shape
    priors = torch.ones(num_modes, dtype=centres.dtype) / num_modes if priors is None else priors
    return Mixture(centres, (std * torch.eye(dim).to(centres)).repeat(num_modes, 1, 1), priors.to(centres))


def axis_centres(num_modes: int, dim: int, separation: float = 6.0, std: float = 1.0) -> Float[Tensor, "K d"]:
    """Mode k on axis k, every two modes `separation` times `std` apart: what the per-coordinate D sees best.

    Raises:
        ValueError: more modes than dimensions, or a separation that is not positive.
    """
    if num_modes > dim:
        raise ValueError(
            f"{num_modes} modes need a latent of at least {num_modes} dimensions, one axis each, to be {separation:g} "
            f"std apart; got {dim}"
        )
    if not separation > 0:
        raise ValueError(f"the separation of the modes must be > 0 std, got {separation}")
    return torch.eye(num_modes, dim) * (separation * std / math.sqrt(2))


def mixture_cdf(z: Float[Tensor, "N d"], mixture: Mixture) -> Float[Tensor, "N d"]:
    """F_j(z_ij), in (0, 1)."""
    std = mixture.scale_tril.square().sum(-1).sqrt()  # (K, d), of the marginals
    standard = (z[:, None] - mixture.centres) / std  # (N, K, d)
    return torch.einsum("k,nkd->nd", mixture.priors, torch.special.ndtr(standard))


def cdf_distance(z: Float[Tensor, "N d"], mixture: Mixture) -> Float[Tensor, "d"]:
    """D of every coordinate; its gradient vanishes for codes far from all modes, which the covariance pulls back."""
    num = len(z)
    steps = torch.arange(1, num + 1, device=z.device, dtype=z.dtype) / num
    return (mixture_cdf(z.sort(dim=0).values, mixture) - steps[:, None]).square().mean(0)


def expected_cdf_distance(num: int) -> float:
    """E[D] over batches of `num` codes of the prior: (N + 1)/(6 N^2)."""
    return (num + 1) / (6 * num**2)


def mixture_moments(mixture: Mixture) -> tuple[Float[Tensor, "d"], Float[Tensor, "d d"]]:
    """Mean m and covariance C_p, by the law of total variance."""
    mean = mixture.priors @ mixture.centres
    off = mixture.centres - mean
    within = torch.einsum("k,kij,klj->il", mixture.priors, mixture.scale_tril, mixture.scale_tril)
    return mean, within + torch.einsum("k,ki,kj->ij", mixture.priors, off, off)


def covariance_distance(z: Float[Tensor, "N d"], mixture: Mixture) -> Float[Tensor, ""]:
    """V."""
    off = z - z.mean(0)
    return (off.T @ off / len(z) - mixture_moments(mixture)[1]).square().mean()


def expected_covariance_distance(num: int, mixture: Mixture) -> Float[Tensor, ""]:
    """E[V] over batches of `num` codes of the prior, exactly.

    With N S/(N-1) = the unbiased covariance, Var S_ij = 1/N [mu_iijj - (N-2)/(N-1) C_ij^2 + C_ii C_jj/(N-1)], and
    sum_ij mu_iijj = E||z - m||^4, which for a mixture is a sum over its modes.
    """
    mean, covariance = mixture_moments(mixture)
    off = mixture.centres - mean  # (K, d)
    own = mixture.scale_tril @ mixture.scale_tril.mT  # (K, d, d)
    trace, squared = own.diagonal(dim1=1, dim2=2).sum(1), off.square().sum(1)  # (K,)
    along = torch.einsum("ki,kij,kj->k", off, own, off)
    fourth = (squared + trace).square() + 4 * along + 2 * own.square().sum((1, 2))  # E||off + x||^4, x ~ N(0, own)
    norm, total = covariance.square().sum(), covariance.trace()
    variance = (mixture.priors @ fourth - (num - 2) / (num - 1) * norm + total.square() / (num - 1)) / num
    return (((num - 1) / num) ** 2 * variance + norm / num**2) / covariance.numel()


def latent_terms(z: Float[Tensor, "N d"], mixture: Mixture) -> dict[str, Float[Tensor, ""]]:
    """`cdf`, `covariance` and `mean` over their expectations.

    Raises:
        ValueError: fewer than two codes, which have no covariance.
    """
    num = len(z)
    if num < 2:
        raise ValueError(f"the latent terms need at least 2 codes in a batch, got {num}; raise optim.batch_size")
    mixture = mixture.to(z)
    mean, covariance = mixture_moments(mixture)
    return {
        "cdf": cdf_distance(z, mixture).mean() / expected_cdf_distance(num),
        "covariance": covariance_distance(z, mixture) / expected_covariance_distance(num, mixture),
        "mean": num * (z.mean(0) - mean).square().sum() / covariance.trace(),
    }


def class_latent_terms(
    z: Float[Tensor, "N d"], label: Int64[Tensor, "N"], mixture: Mixture
) -> dict[str, Float[Tensor, ""]]:
    """The same with mode = class; all modes must share one covariance.

    Raises:
        ValueError: a label without a mode; no class with two codes, so that there is no within-class covariance.
    """
    mixture = mixture.to(z)
    if int(label.max()) >= len(mixture.priors):
        raise ValueError(f"label {int(label.max())} has no mode: the mixture has {len(mixture.priors)}")
    present = label.unique()
    if len(z) <= len(present):
        raise ValueError(f"{len(z)} codes of {len(present)} classes leave no within-class covariance; larger batches")
    residual = z - mixture.centres[label]
    one = Mixture(torch.zeros_like(z[:1]), mixture.scale_tril[:1], torch.ones_like(z[:1, 0]))  # N(0, S)
    own = mixture_moments(one)[1]
    cdf, mean, centred = [], [], []
    for c in present.tolist():
        r = residual[label == c]
        cdf.append(cdf_distance(r, one).mean() / expected_cdf_distance(len(r)))
        mean.append(len(r) * r.mean(0).square().sum() / own.trace())
        centred.append(r - r.mean(0))
    off = torch.cat(centred)
    pooled = (off.T @ off / len(z) - own).square().sum()
    # N C ~ Wishart(S, nu), nu = N - classes: its variance is nu (||S||^2 + (tr S)^2), its mean nu S
    free, norm = len(z) - len(present), own.square().sum()
    expected = free * (norm + own.trace().square()) / len(z) ** 2 + norm * (1 - free / len(z)) ** 2
    return {"cdf": torch.stack(cdf).mean(), "covariance": pooled / expected, "mean": torch.stack(mean).mean()}


def mode_log_density(z: Float[Tensor, "N d"], mixture: Mixture) -> Float[Tensor, "N K"]:
    """log pi_k + log N(z; mu_k, S_k); its softmax over k are the responsibilities."""
    mixture = mixture.to(z)
    off = (z[:, None] - mixture.centres).unsqueeze(-1)  # (N, K, d, 1)
    standard = torch.linalg.solve_triangular(mixture.scale_tril, off, upper=False).squeeze(-1)
    log_det = mixture.scale_tril.diagonal(dim1=1, dim2=2).log().sum(1)
    constant = 0.5 * z.shape[1] * math.log(2 * math.pi)
    return mixture.priors.log() - log_det - constant - 0.5 * standard.square().sum(-1)


def log_density(z: Float[Tensor, "N d"], mixture: Mixture) -> Float[Tensor, "N"]:
    """log p(z), nats; low values are codes that the prior does not expect."""
    return mode_log_density(z, mixture).logsumexp(1)


def sample_mixture(
    mixture: Mixture, mode: Int64[Tensor, "N"], generator: torch.Generator | None = None
) -> Float[Tensor, "N d"]:
    """A code of each of the modes `mode`; see `draw_modes`."""
    noise = torch.randn(len(mode), mixture.centres.shape[1], generator=generator).to(mixture.centres)
    return mixture.centres[mode] + torch.einsum("nij,nj->ni", mixture.scale_tril[mode], noise)


def draw_modes(mixture: Mixture, count: int, generator: torch.Generator | None = None) -> Int64[Tensor, "N"]:
    """`count` modes drawn by their priors."""
    return torch.multinomial(mixture.priors.cpu(), count, replacement=True, generator=generator)


def interpolate(start: Float[Tensor, "N d"], end: Float[Tensor, "N d"], steps: int) -> Float[Tensor, "N steps d"]:
    """Codes on the straight line between `start` and `end`, both included; `steps` >= 2."""
    share = torch.linspace(0, 1, steps).to(start)[:, None]
    return torch.lerp(start[:, None], end[:, None], share)

"""R-Drop: two stochastic passes over the same input should agree.

Paper: Liang et al., NeurIPS 2021, eq. 2 to 4. With P1, P2 the class distributions of the two passes and y the label:

    L_NLL = -log P1(y) - log P2(y)          L_KL = 1/2 [KL(P1 || P2) + KL(P2 || P1)]          L = L_NLL + alpha L_KL

`first` and `second` are the logits of P1 and P2; `symmetric_kl` is L_KL. There is no factor 1/2 on L_NLL and no
stopped gradient: both passes learn. Everything is per sample and the caller takes the mean, so alpha means the same for
every batch size; the authors' ViT and BERT code sums over the batch instead, which multiplies alpha by its size.

Deviation: `temperature` divides the logits inside L_KL only. CLIP's logits are cosines times up to 100, whose softmax
is nearly one-hot; with temperature 1 this is the paper.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def symmetric_kl(
    first: Float[Tensor, "B K"], second: Float[Tensor, "B K"], temperature: float = 1.0
) -> Float[Tensor, "B"]:
    """L_KL of every sample, >= 0, in nats; temperature > 0.

    Computed as 1/2 sum_k (P1 - P2)(log P1 - log P2), whose terms are never negative.

    Raises:
        ValueError: the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"the temperature of R-Drop must be > 0, got {temperature}")
    log_p, log_q = (F.log_softmax(logits.float() / temperature, dim=-1) for logits in (first, second))
    return 0.5 * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1)


def check_noise(first: Float[Tensor, "B K"], second: Float[Tensor, "B K"]) -> None:
    """Raise where two passes that should be random are the same: R-Drop would then do nothing, silently.

    Raises:
        ValueError: all logits of the two passes are equal.
    """
    if torch.equal(first, second):
        raise ValueError(
            "r_drop: the two passes are identical, so nothing is random in the network; give it dropout, "
            "or set r_drop.weight=0"
        )

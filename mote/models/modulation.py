"""Temporal feature modulation: a factor on the temporal branch for a new vocabulary, at test time only.

Paper: MoTE (Zhu et al., NeurIPS 2024), eq. 11. For a clip with mean frame feature e (`video`):

    Y_t = the k classes of the test vocabulary (`text`) nearest to e,
    Y_f = the k classes of the fine-tuning vocabulary (`tuned_text`) nearest to e,
    s   = mean over t in Y_t of max over f in Y_f of cos(t, f),
    rho = exp(-(1 - s) / gamma)      and the clip is represented by  e_i + rho * h(e)_i.

On the fine-tuning vocabulary itself both sets coincide, s = 1 and rho = 1. Deviations: a vocabulary of fewer than k
classes gives all of them (the paper has none under 5), and all features are normalised here, so callers need not.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from mote.models.gate import GATE, Gate


def modulation_gate(
    video: Float[Tensor, "B D"],
    text: Float[Tensor, "K D"],
    tuned_text: Float[Tensor, "F D"],
    gate: Gate = GATE,
) -> Float[Tensor, "B"]:
    """rho of each clip, in (0, 1], in float32.

    Args:
        video: mean frame feature of each clip, before the temporal head.
        text: features of the classes to be told apart now.
        tuned_text: features of the classes of fine-tuning.
        gate: k and gamma.

    Raises:
        ValueError: for an empty vocabulary.
    """
    num_classes, num_tuned = text.shape[0], tuned_text.shape[0]  # len() would fix the number in an exported graph
    if not num_classes or not num_tuned:
        raise ValueError(f"modulation needs classes: got {num_classes} to test and {num_tuned} of fine-tuning")
    with torch.autocast(video.device.type, enabled=False):
        video, text, tuned_text = (F.normalize(x.float(), dim=-1) for x in (video, text, tuned_text))
        near, present = _nearest(video, text, gate.k)
        near_tuned, present_tuned = _nearest(video, tuned_text, gate.k)
        cosine = near @ near_tuned.transpose(1, 2)  # (B, k test, k tuned)
        closest = cosine.masked_fill(~present_tuned[:, None, :], -torch.inf).amax(dim=2)  # (B, k)
        similarity = (closest * present).sum(dim=1) / present.sum(dim=1)
        return torch.exp(-(1 - similarity.clamp(max=1)) / gate.gamma)  # rounding may pass 1


def _nearest(
    video: Float[Tensor, "B D"], text: Float[Tensor, "K D"], k: int
) -> tuple[Float[Tensor, "B k D"], Bool[Tensor, "B k"]]:
    """The k rows of `text` nearest to each clip, and which of them exist: zeros fill up where K < k.

    Filling up, because taking min(k, K) would fix K in an exported graph.
    """
    filled = torch.cat([text, text.new_zeros(k, text.shape[1])])
    scores = torch.cat([video @ text.T, video.new_full((video.shape[0], k), -torch.inf)], dim=1)  # (B, K + k)
    nearest = scores.topk(k)
    return filled[nearest.indices], nearest.values.isfinite()

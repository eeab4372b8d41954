"""Temporal feature modulation: how far to trust the temporal branch on a new vocabulary, at test time only.

Paper: MoTE (Zhu et al., NeurIPS 2024), eq. 11. For a clip with mean frame feature e (``video``):

    Y_t = the k classes of the test vocabulary (``text``) nearest to e,
    Y_f = the k classes of the fine-tuning vocabulary (``tuned_text``) nearest to e,
    s   = mean over t in Y_t of max over f in Y_f of cos(t, f),
    rho = exp(-(1 - s) / gamma)      and the clip is represented by  e_i + rho * h(e)_i.

On the fine-tuning vocabulary itself both sets coincide, s = 1 and rho = 1. Deviations: a vocabulary of fewer than k
classes gives all of them (the paper has none under 5), and all features are normalised here, so callers need not.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def modulation_gate(
    video: Float[Tensor, "B D"],
    text: Float[Tensor, "K D"],
    tuned_text: Float[Tensor, "F D"],
    k: int = 5,
    gamma: float = 0.05,
) -> Float[Tensor, "B"]:
    """rho of each clip, in (0, 1], in float32.

    Args:
        video: mean frame feature of each clip, before the temporal head.
        text: features of the classes to be told apart now.
        tuned_text: features of the classes of fine-tuning.
        k: neighbours in each vocabulary, at least 1.
        gamma: sharpness, > 0; smaller switches the temporal branch off sooner.

    Raises:
        ValueError: for an empty vocabulary, or k or gamma out of range.
    """
    if k < 1 or not gamma > 0:
        raise ValueError(f"modulation needs k >= 1 and gamma > 0, got k={k} and gamma={gamma}")
    if not len(text) or not len(tuned_text):
        raise ValueError(f"modulation needs classes: got {len(text)} to test and {len(tuned_text)} of fine-tuning")
    with torch.autocast(video.device.type, enabled=False):
        video, text, tuned_text = (F.normalize(x.float(), dim=-1) for x in (video, text, tuned_text))
        near = text[(video @ text.T).topk(min(k, len(text))).indices]  # (B, k, D)
        near_tuned = tuned_text[(video @ tuned_text.T).topk(min(k, len(tuned_text))).indices]  # (B, k, D)
        cosine = near @ near_tuned.transpose(1, 2)  # (B, k test, k tuned)
        similarity = cosine.amax(dim=2).mean(dim=1).clamp(max=1)  # rounding may pass 1
        return torch.exp(-(1 - similarity) / gamma)

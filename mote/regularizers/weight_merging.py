"""Feature anchor of weight-merging regularisation: keeps the merged temporal branch close to the image features.

Paper: MoTE (Zhu et al., NeurIPS 2024), eq. 9. For frame features e (`features`) and the output z^r = e + h(e) of the
head with randomly merged experts (`video`), both (B, T, D):

- `form="paper"`, eq. 9: mean over clips of || mean_t z^r - mean_t e ||^2;
- `form="released"`, the authors' code: mean of (z^r - e)^2 over clips, frames and channels, without pooling. It is
  about D times weaker than eq. 9; the published models were trained with it and it is the default.

The other half of the regularisation, the cross-entropy of the merged path, is an ordinary cross-entropy.
"""

from jaxtyping import Float
from torch import Tensor


def anchor_loss(
    features: Float[Tensor, "B T D"], video: Float[Tensor, "B T D"], form: str = "released"
) -> Float[Tensor, ""]:
    """Squared distance of `video` from `features`; see the forms above.

    Raises:
        ValueError: for an unknown form.
    """
    if form == "released":
        return (video - features).square().mean()
    if form == "paper":
        return (video - features).mean(dim=1).square().sum(dim=-1).mean()
    raise ValueError(f"unknown form {form!r} of the anchor; choose 'released' or 'paper'")

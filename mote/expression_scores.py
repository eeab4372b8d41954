"""How an expression network is used: logits corrected after training where that is wanted, and what it looks at.

The logit of class c at a place of the feature map is what the head says to the features of that place alone; with a
linear head, the class activation map plus the bias, whose mean over places is the logit. ``attention_shares`` turns
them into a distribution over the classes: softmax over classes at every place, mean over places.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from mote.regularizers.long_tail import adjust_logits, checked_counts, tau_normalized
from mote.settings import ImbalanceConfig


class PostHoc(NamedTuple):
    """A network with a feature map, and what is added to its logits, (K,)."""

    model: nn.Module
    offset: Float[Tensor, "K"]

    def score(self, images: Num[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K h w"]]:
        """Corrected logits, and the logits of every place, which are not corrected by the offset."""
        model: Any = self.model
        pooled, features = model.encode(images)
        logits = model.classify(pooled)
        return logits + self.offset.to(logits), model.place_logits(features)


def post_hoc(model: nn.Module, settings: ImbalanceConfig, counts: Sequence[int]) -> PostHoc:
    """The network as `settings.posthoc` wants it used; `counts`: the training samples of every class.

    tau_norm changes a copy: its head has normalised weights and no bias.
    """
    number = checked_counts(counts)
    offset = torch.zeros(len(number))
    if settings.posthoc == "logit_adjustment":
        offset = adjust_logits(offset.double(), number, settings.posthoc_tau)
    if settings.posthoc == "tau_norm":
        model = copy.deepcopy(model)
        head = cast(nn.Linear, cast(Any, model).net.fc)
        with torch.no_grad():
            head.weight.copy_(tau_normalized(head.weight, settings.posthoc_tau))
            head.bias.zero_()
    return PostHoc(model, offset)


def attention_shares(places: Float[Tensor, "B K h w"]) -> Float[Tensor, "B K"]:
    """Which part of the attention every class gets, from the logits of the places; rows sum to 1, in float64."""
    return places.double().softmax(dim=1).mean(dim=(2, 3))

"""The ways of dealing with unequal classes, one row per value of `imbalance.method` and of `imbalance.posthoc`.

A new method is a row here, a loss in `mote.regularizers.long_tail` and a value of the `Literal` in `sections.py`.
No other file of the package names a method: it asks the row what the method needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Method:
    """What one `imbalance.method` asks of the loss, the batches and the head.

    Args:
        loss: name of the loss in `mote.regularizers.long_tail.LOSSES`.
        options: argument of that loss -> setting of the `imbalance` section it is read from.
        consistency: the attention must agree with that of the mirror image, weighted by `imbalance.strength`.
        rebalanced: smooth labels (`imbalance.epsilon`) and consistency weigh class c by 1 / n_c.
        balanced_batches: training batches draw all classes equally often.
        head_only: only the head is trained, from new weights, on top of the network of `image.init`.
        cosine_head: the head is a cosine classifier, its logits multiplied by `imbalance.scale`.
        deferred: class weights are used only after the share `imbalance.defer` of training.
        corrects_prior: the method corrects the class frequencies, so a second correction is questionable.
    """

    loss: str = "ce"
    options: Mapping[str, str] = field(default_factory=dict)
    consistency: bool = False
    rebalanced: bool = False
    balanced_batches: bool = False
    head_only: bool = False
    cosine_head: bool = False
    deferred: bool = False
    corrects_prior: bool = False

    @property
    def plain(self) -> bool:
        """Whether this is plain cross-entropy, which needs no class counts."""
        return self == Method()

    @property
    def settings(self) -> set[str]:
        """Keys of the `imbalance` section that the method reads."""
        read = {"strength": self.consistency, "epsilon": self.rebalanced, "scale": self.cosine_head}
        read["defer"] = self.deferred
        return {*self.options.values(), *(key for key, used in read.items() if used)}


METHODS = {
    "ce": Method(),
    "weighted": Method("weighted_ce", corrects_prior=True),
    "sampler": Method(balanced_batches=True, corrects_prior=True),
    "focal": Method("focal", {"gamma": "gamma"}),
    "class_balanced": Method("class_balanced", {"beta": "beta"}, corrects_prior=True),
    "ldam_drw": Method(
        "ldam", {"beta": "beta", "max_margin": "margin"}, cosine_head=True, deferred=True, corrects_prior=True
    ),
    "logit_adjustment": Method("logit_adjustment", {"tau": "tau"}, corrects_prior=True),
    "balanced_softmax": Method("balanced_softmax", corrects_prior=True),
    "crt": Method(balanced_batches=True, head_only=True, corrects_prior=True),
    "smoothing": Method("label_smoothing", {"epsilon": "epsilon"}),
    "consistency": Method(consistency=True),
    "mek": Method(consistency=True, rebalanced=True, corrects_prior=True),
}


@dataclass(frozen=True)
class PostHocMethod:
    """What one `imbalance.posthoc` does to a trained model, in evaluation and prediction.

    Args:
        shifts_logits: the logarithm of the class frequencies times `imbalance.posthoc_tau` is subtracted.
        normalizes_head: the weights of a linear head are divided by their norm to the power `imbalance.posthoc_tau`.
    """

    shifts_logits: bool = False
    normalizes_head: bool = False


POSTHOC_METHODS = {
    "none": PostHocMethod(),
    "logit_adjustment": PostHocMethod(shifts_logits=True),
    "tau_norm": PostHocMethod(normalizes_head=True),
}

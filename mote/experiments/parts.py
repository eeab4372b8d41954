"""From configuration to objects: tasks, their losses, and what acts on their batches, weights and learning rates."""

from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn

from mote.config import Config
from mote.config.sections import ImbalanceConfig, MixingConfig, SparsityConfig
from mote.datasets.mixing import Mixer
from mote.models.clip import ClassFeatures
from mote.models.video_clip import VideoCLIP
from mote.sparsity.groups import find_groups
from mote.sparsity.lasso import GroupLasso
from mote.tasks.expression import ExpressionTask
from mote.tasks.image import ImageTask
from mote.tasks.long_tail import Deferral, LongTailLoss
from mote.tasks.video import VideoTask
from mote.training.hooks import AfterUpdate


def task(
    config: Config,
    built: VideoCLIP,
    text: Float[Tensor, "K D"],
    tuned: ClassFeatures | None = None,
    counts: Int64[Tensor, "K"] | None = None,
) -> VideoTask:
    """The video task with the loss weights of the configuration.

    `tuned`: see `class_features`; `counts`: training clips of every class, for another imbalance.method than ce.
    """
    loss, method = config.loss, config.imbalance.method
    return VideoTask(
        built,
        text,
        class_features=tuned,
        merged_weight=loss.merged_weight,
        anchor_weight=loss.anchor_weight,
        anchor=loss.anchor,
        routing=loss.routing,
        merged=loss.merged,
        route_temperature=loss.route_temperature,
        merge_temperatures=loss.merge_temperatures,
        r_drop_weight=config.r_drop.weight,
        r_drop_temperature=config.r_drop.temperature,
        long_tail=None if counts is None or method == "ce" else LongTailLoss(counts, **correction(config.imbalance)),
    )


LOSS_OF = {  # imbalance.method -> (loss of mote.regularizers.long_tail, its options by setting)
    "weighted": ("weighted_ce", {}),
    "focal": ("focal", {"gamma": "gamma"}),
    "class_balanced": ("class_balanced", {"beta": "beta"}),
    "ldam_drw": ("ldam", {"beta": "beta", "max_margin": "margin"}),
    "logit_adjustment": ("logit_adjustment", {"tau": "tau"}),
    "balanced_softmax": ("balanced_softmax", {}),
    "smoothing": ("label_smoothing", {"epsilon": "epsilon"}),
}


def image_task(config: Config, built: nn.Module, counts: Int64[Tensor, "K"] | None) -> nn.Module:
    """The task of task=image, or of task=expression with the method of `config.imbalance`.

    `counts`: training samples of every class, as of `long_tail.checked_counts`; for task=expression.
    """
    r_drop: Any = {"r_drop_weight": config.r_drop.weight, "r_drop_temperature": config.r_drop.temperature}
    if config.task == "image":
        return ImageTask(built, **r_drop)
    assert counts is not None
    head_only = config.imbalance.method == "crt"
    return ExpressionTask(built, counts, head_only=head_only, **r_drop, **correction(config.imbalance))


def correction(settings: ImbalanceConfig) -> dict[str, Any]:
    """What `LongTailLoss` takes for `imbalance.method`."""
    loss, options = LOSS_OF.get(settings.method, ("ce", {}))
    return {
        "loss": loss,
        "options": {name: getattr(settings, key) for name, key in options.items()},
        "epsilon": settings.epsilon if settings.method == "mek" else 0.0,
        "strength": settings.strength if settings.method in ("mek", "consistency") else 0.0,
        "rebalanced": settings.method == "mek",
    }


def after_update(config: Config, task: nn.Module) -> AfterUpdate | None:
    """What changes the task after every update: group lasso, or deferred re-weighting.

    Raises:
        ValueError: both at once; groups or layers that the model does not have.
    """
    lasso = group_lasso(config.sparsity, task)
    loss = getattr(task, "long_tail", None)
    if loss is None or config.imbalance.method != "ldam_drw":
        return lasso
    if lasso is not None:
        raise ValueError("sparsity and imbalance.method=ldam_drw cannot be combined; set sparsity.strength=0")
    return Deferral(loss, config.imbalance.defer)


def mixer(config: MixingConfig, num_classes: int) -> Mixer | None:
    """What mixes the training batches, or None where nothing is to be mixed."""
    if not config.methods or config.probability == 0:
        return None
    return Mixer(
        config.methods,
        num_classes,
        alpha=config.alpha,
        ratio=config.ratio,
        extent=config.extent,
        probability=config.probability,
        per_sample=config.per_sample,
    )


def group_lasso(config: SparsityConfig, task: nn.Module) -> GroupLasso | None:
    """What makes groups of the task's parameters zero, or None at strength 0.

    Raises:
        ValueError: groups or layers that the model does not have.
    """
    if not config.strength:
        return None
    groups = find_groups(task, config.groups, {f"*.{key}": value for key, value in config.layers.items()})
    schedule = {"start": config.start, "ramp": config.ramp, "stop": config.stop}
    return GroupLasso(task, groups, strength=config.strength, **schedule)


def learning_rules(config: Config) -> list[tuple[str, dict[str, float]]]:
    """Parameter patterns, first match wins: the temporal head and the adapters at their rate, the CLIP towers and
    logit_scale at `optim.backbone_lr_scale`, nothing for what is frozen.
    """
    tuning, towers = config.tuning, config.optim.backbone_lr_scale
    rates = [(pattern, 0.0) for pattern in tuning.freeze]
    if "lora" in (tuning.vision, tuning.text):
        rates.append(("*.lora_[AB].*", tuning.lr_scale))
    if config.model.layers:
        rates.append(("model.temporal.*", 1.0))
    if tuning.vision != "full":
        rates.append(("model.visual.*", 0.0))
    if tuning.text != "frozen":
        rates.append(("class_features.*.logit_*", 0.0))  # the model has its own; the text tower does not use it
    if tuning.text == "lora":
        rates.append(("class_features.*", 0.0))
    return [(pattern, {"lr_scale": rate}) for pattern, rate in (*rates, ("*", towers))]

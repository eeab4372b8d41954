"""From configuration to objects: tasks, their losses, and what acts on their batches, weights and learning rates."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float, Int64
from torch import Tensor, nn

from mote.config import Config
from mote.config.imbalance_methods import METHODS
from mote.config.sections import ImbalanceConfig, MixingConfig, ModelConfig, SparsityConfig
from mote.datasets.lists.manifest import Record
from mote.datasets.mixing import Mixer
from mote.files.names import letters, shown
from mote.models.clip import ClassFeatures
from mote.models.folders import load_folder
from mote.models.video_clip import VideoCLIP
from mote.sparsity.groups import find_groups
from mote.sparsity.lasso import GroupLasso
from mote.tasks.expression import ExpressionTask
from mote.tasks.image import ImageTask
from mote.tasks.long_tail import Correction, Deferral, LongTailLoss
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

    `tuned`: class features with gradient of a text tower that is tuned. `counts`: training clips of every class, for
    an `imbalance.method` that needs them.
    """
    loss, plain = config.loss, METHODS[config.imbalance.method].plain
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
        drop_path=config.model.drop_path,
        r_drop_weight=config.r_drop.weight,
        r_drop_temperature=config.r_drop.temperature,
        long_tail=None if counts is None or plain else LongTailLoss(counts, **correction(config.imbalance)),
    )


def image_task(config: Config, built: nn.Module, counts: Int64[Tensor, "K"] | None) -> nn.Module:
    """The task of task=image, or of task=expression with the method of `config.imbalance`.

    `counts`: training images of every class, as of `long_tail.checked_counts`; None for task=image.
    """
    r_drop = {"r_drop_weight": config.r_drop.weight, "r_drop_temperature": config.r_drop.temperature}
    if counts is None:
        return ImageTask(built, **r_drop)
    head_only = METHODS[config.imbalance.method].head_only
    return ExpressionTask(built, counts, head_only=head_only, **r_drop, **correction(config.imbalance))


def correction(settings: ImbalanceConfig) -> Correction:
    """Keyword arguments of `LongTailLoss` for `imbalance.method`."""
    method = METHODS[settings.method]
    return {
        "loss": method.loss,
        "options": {name: getattr(settings, key) for name, key in method.options.items()},
        "epsilon": settings.epsilon if method.rebalanced else 0.0,
        "strength": settings.strength if method.consistency else 0.0,
        "rebalanced": method.rebalanced,
    }


def after_update(config: Config, task: nn.Module) -> AfterUpdate | None:
    """What acts after every update: group lasso, deferred re-weighting, or None where neither is switched on.

    Raises:
        ValueError: both at once; groups or layers that the model does not have.
    """
    lasso = group_lasso(config.sparsity, task)
    loss = getattr(task, "long_tail", None)
    if loss is None or not METHODS[config.imbalance.method].deferred:
        return lasso
    if lasso is not None:
        method = config.imbalance.method
        raise ValueError(f"sparsity and imbalance.method={method} cannot be combined; set sparsity.strength=0")
    return Deferral(loss, config.imbalance.defer)


def mixer(config: MixingConfig, num_classes: int) -> Mixer | None:
    """Mixed-sample augmentation of the training batches, or None where `config` switches it off."""
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
    """Group lasso on the parameters of `task`, or None at strength 0.

    Raises:
        ValueError: groups or layers that the model does not have.
    """
    if not config.strength:
        return None
    groups = find_groups(task, config.groups, {f"*.{key}": value for key, value in config.layers.items()})
    schedule = {"start": config.start, "ramp": config.ramp, "stop": config.stop}
    return GroupLasso(task, groups, strength=config.strength, **schedule)


def learning_rules(config: Config) -> list[tuple[str, dict[str, float]]]:
    """(parameter pattern, {"lr_scale": factor of `optim.lr`}) pairs of task=video; the first match counts.

    Adapters have `tuning.lr_scale`, the temporal head 1, CLIP towers and logit scale `optim.backbone_lr_scale`;
    what is frozen has 0.
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


def check_init(config: ModelConfig, classes: Sequence[str]) -> None:
    """Raise ValueError where the model of `config.init` has these very classes, but in another order.

    Other classes are what fine-tuning is for; an order that differs is a class list that does.
    """
    own = None if config.init is None else load_folder(config.init).classes
    if own is None or sorted(map(letters, own)) != sorted(map(letters, classes)):
        return
    pairs = enumerate(zip(own, classes, strict=True))
    if wrong := [(label, a, b) for label, (a, b) in pairs if letters(a) != letters(b)]:
        label, theirs, ours = wrong[0]
        raise ValueError(
            f"model.init {config.init}: the same classes in another order: class {label} is {shown(theirs)} there,"
            f" {shown(ours)} here; take its class list"
        )


def init_text(config: ModelConfig) -> Path | None:
    """File of the tuned text tower that belongs to `config.init`; None where it has none."""
    return None if config.init is None else load_folder(config.init).text_weights


def class_counts(records: Sequence[Record], num_classes: int) -> list[int]:
    """Training clips of every class."""
    counts = Counter(record.label for record in records)
    return [counts[label] for label in range(num_classes)]

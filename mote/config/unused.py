"""Settings that were changed but have no effect in the configuration they stand in: a run warns of each."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import NamedTuple

from mote.config.imbalance_methods import METHODS
from mote.config.sections import ImbalanceConfig, Section
from mote.config.tree import Config

AUTOENCODER_SETTINGS = {  # by autoencoder.method, what no other method or not every method reads
    "gm": {"modes", "separation", "conditional", "cdf_weight", "covariance_weight", "mean_weight"},
    "ae": {"modes"},
    "vae": {"kl_weight"},
    "wae_mmd": {"modes", "separation", "mmd_weight"},
}


class Rule(NamedTuple):
    """When settings have no effect.

    settings: patterns of `section.key`, with blanks between them. idle: whether they have no effect in a
    configuration. why: the reason; `{section.key}` stands for the value of that setting.
    """

    settings: str
    idle: Callable[[Config], bool]
    why: str


def _read_by_method(key: str) -> Rule:
    """`imbalance.KEY` has no effect with a method that does not read it."""
    why = "imbalance.method={imbalance.method} does not use it"
    return Rule(f"imbalance.{key}", lambda c: key not in METHODS[c.imbalance.method].settings, why)


def _read_by_autoencoder(key: str) -> Rule:
    """`autoencoder.KEY` has no effect with a method that does not read it."""
    why = "autoencoder.method={autoencoder.method} does not use it"
    return Rule(f"autoencoder.{key}", lambda c: key not in AUTOENCODER_SETTINGS[c.autoencoder.method], why)


RULES = (  # the first rule that applies to a setting gives the reason
    Rule(
        "mixing.alpha mixing.ratio mixing.extent mixing.probability mixing.per_sample",
        lambda c: not c.mixing.methods or c.mixing.probability == 0,
        "nothing is mixed",
    ),
    Rule("mixing.ratio", lambda c: "hmix" not in c.mixing.methods, "used by hmix only"),
    Rule("r_drop.temperature", lambda c: c.r_drop.weight == 0, "r_drop.weight is 0"),
    Rule("optim.betas", lambda c: c.optim.method == "sgd", "optim.method=sgd has optim.momentum"),
    Rule("optim.momentum", lambda c: c.optim.method != "sgd", "used by optim.method=sgd only"),
    Rule("optim.min_lr_ratio", lambda c: c.optim.schedule != "cosine", "used by optim.schedule=cosine only"),
    Rule(
        "optim.lr_decay",
        lambda c: c.optim.schedule in ("cosine", "constant"),
        "used by optim.schedule=step and optim.schedule=exponential only",
    ),
    Rule("optim.milestones", lambda c: c.optim.schedule != "step", "used by optim.schedule=step only"),
    Rule(
        "optim.milestones optim.lr_decay",
        lambda c: c.optim.schedule == "step" and c.optim.milestones[0] >= c.optim.epochs,
        "training ends before the first of optim.milestones",
    ),
    Rule("sparsity.*", lambda c: c.sparsity.strength == 0, "sparsity.strength is 0"),
    Rule("image.*", lambda c: c.task == "video", "for task=image and task=expression"),
    Rule(
        "image.net image.pretrained image.init image.dropout image.mean image.std",
        lambda c: c.task == "autoencoder",
        "for task=image",
    ),
    Rule(
        "image.mean image.std",
        lambda c: c.image.net == "backbone" or c.image.net.startswith("timm:"),
        "{image.net} has its own",
    ),
    Rule("data.mean data.std", lambda c: not c.has_backbone, "for CLIP; other networks have image.mean, image.std"),
    Rule("data.fill", lambda c: c.data.resize in ("shortest", "squash", "crop"), "used by data.resize=longest only"),
    Rule("model.*", lambda c: not c.has_backbone, "for task=video"),
    Rule(
        "model.layers model.experts model.heads model.drop_path model.same_init model.expert_part model.init "
        "model.gradient_checkpointing tuning.* loss.*",
        lambda c: c.task != "video",
        "for task=video",
    ),
    Rule(
        "data.frames data.sampling data.stride data.difference data.near_keyframes data.shuffle_shards data.decoder "
        "data.max_bad_fraction",
        lambda c: c.task != "video",
        "for task=video",
    ),
    Rule("image.erase_area", lambda c: c.image.erase == 0, "image.erase is 0"),
    Rule("data.crop_scale", lambda c: c.task != "video" and c.image.pad > 0, "image.pad crops instead"),
    Rule("imbalance.*", lambda c: c.task not in ("expression", "video"), "for task=expression and task=video"),
    *map(_read_by_method, sorted(ImbalanceConfig.model_fields.keys() - {"method", "posthoc", "posthoc_tau"})),
    Rule("imbalance.posthoc_tau", lambda c: c.imbalance.posthoc == "none", "imbalance.posthoc is none"),
    Rule("imbalance.scale", lambda c: c.task == "video", "a video model has the logit scale of CLIP"),
    Rule("imbalance.scale", lambda c: c.has_backbone, "image.net=backbone has the logit scale of CLIP"),
    Rule("autoencoder.*", lambda c: c.task != "autoencoder", "for task=autoencoder"),
    *map(_read_by_autoencoder, sorted(set.union(*AUTOENCODER_SETTINGS.values()))),
    Rule(
        "model.experts model.expert_part model.same_init model.drop_path",
        lambda c: c.model.layers == 0,
        "there is no temporal head (model.layers=0)",
    ),
    Rule(
        "loss.merged_weight loss.merge_temperatures loss.route_temperature loss.routing loss.merged",
        lambda c: c.model.layers == 0 or c.model.experts == 1,
        "there is one expert or no temporal head, so nothing is routed or merged",
    ),
    Rule("loss.route_temperature", lambda c: c.loss.routing == "all", "nothing is drawn"),
    Rule("loss.merged", lambda c: c.loss.merged_weight == 0, "loss.merged_weight is 0"),
    Rule(
        "tuning.adapt tuning.rank tuning.alpha tuning.lr_scale",
        lambda c: "lora" not in (c.tuning.vision, c.tuning.text),
        "neither tower has adapters (tuning.vision=lora)",
    ),
    Rule("tuning.text_prompts", lambda c: c.tuning.text == "frozen", "the text tower is frozen"),
    Rule(
        "tuning.text",
        lambda c: c.tuning.text == "full" and c.optim.backbone_lr_scale == 0,
        "its learning rate is 0 (optim.backbone_lr_scale=0)",
    ),
    Rule("data.stride", lambda c: c.data.sampling == "segment", "used by data.sampling=dense only"),
    Rule("data.near_keyframes", lambda c: c.data.decoder != "pyav", "decord names no key frames"),
    Rule("data.near_keyframes data.shuffle_shards", lambda c: c.data.cache_features, "cached features are in memory"),
    Rule(
        "evaluation.clips evaluation.crops evaluation.places evaluation.fusion evaluation.modulation "
        "evaluation.modulation_k evaluation.modulation_gamma evaluation.alpha evaluation.bad_videos evaluation.cache "
        "evaluation.unknown evaluation.accept evaluation.templates",
        lambda c: not c.has_backbone,
        "for task=video",
    ),
    Rule("evaluation.places", lambda c: c.evaluation.clips * c.evaluation.crops == 1, "of several clips or crops"),
    Rule("evaluation.accept", lambda c: c.evaluation.unknown is None, "used with evaluation.unknown only"),
)


def unused(config: Config) -> list[str]:
    """`section.key: why`, once for every setting that differs from its default and has no effect in `config`."""
    lines: dict[str, str] = {}
    names = changed(config)
    for rule in RULES:
        found = [name for name in names if any(fnmatchcase(name, pattern) for pattern in rule.settings.split())]
        if found and rule.idle(config):
            why = rule.why.format(**dict(config))
            lines |= {name: f"{name}: {why}" for name in found if name not in lines}
    return list(lines.values())


def questionable(config: Config) -> list[str]:
    """Valid but probably unintended combinations in the `imbalance` section, one line for each.

    Two corrections of the class frequencies on top of one another over-predict the rare classes. Consistency with the
    mirror image is wrong where the mirror image has another label.
    """
    if config.task not in ("expression", "video"):
        return []
    method, posthoc, lines = config.imbalance.method, config.imbalance.posthoc, []
    if posthoc != "none" and METHODS[method].corrects_prior:
        lines.append(f"imbalance.posthoc={posthoc} corrects once more what imbalance.method={method} has corrected")
    if METHODS[method].consistency and config.data.flip == 0:
        lines.append(f"data.flip=0, but imbalance.method={method} wants the mirror image to have the same label")
    return lines


def changed(config: Config) -> list[str]:
    """`section.key` of every setting of a section that differs from its default, in the order of the tree."""
    default = Config()
    return [
        f"{name}.{key}"
        for name, section in config
        if isinstance(section, Section)
        for key, value in section
        if value != getattr(getattr(default, name), key)
    ]

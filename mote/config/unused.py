"""Settings that were changed but do nothing in the configuration they stand in: a run warns of each."""

from mote.config.sections import (
    AutoencoderConfig,
    ImageConfig,
    ImbalanceConfig,
    LossConfig,
    MixingConfig,
    ModelConfig,
    Section,
    TuningConfig,
)
from mote.config.tree import Config

USED = {  # by each imbalance.method
    "focal": {"gamma"},
    "class_balanced": {"beta"},
    "ldam_drw": {"beta", "margin", "scale", "defer"},
    "logit_adjustment": {"tau"},
    "smoothing": {"epsilon"},
    "consistency": {"strength"},
    "mek": {"strength", "epsilon"},
}
CORRECTIONS = {
    "weighted",
    "sampler",
    "class_balanced",
    "ldam_drw",
    "logit_adjustment",
    "balanced_softmax",
    "crt",
    "mek",
}


def questionable_settings(config: Config) -> list[str]:
    """Settings of the imbalance section that work, but hardly as they are meant.

    Corrections of the class frequencies on top of one another over-predict the minor classes (MEK alone moves the
    decision little, but it counts); and consistency with the mirror image is wrong where that has another label.
    """
    if config.task in ("image", "autoencoder"):
        return []
    method, posthoc, lines = config.imbalance.method, config.imbalance.posthoc, []
    if posthoc != "none" and method in CORRECTIONS:
        lines.append(f"imbalance.posthoc={posthoc} corrects once more what imbalance.method={method} has corrected")
    if method in ("consistency", "mek") and config.data.flip == 0:
        lines.append(f"data.flip=0, but imbalance.method={method} wants the mirror image to have the same label")
    return lines


def idle_settings(config: Config) -> list[str]:
    """Settings that differ from their default but have no effect in this configuration."""
    if config.task == "autoencoder":
        return _idle_autoencoder(config)
    idle = _idle_components(config) + _idle_imbalance(config)
    keys = _changed(config.autoencoder, *AutoencoderConfig.model_fields)
    idle += [f"autoencoder.{key}: for task=autoencoder" for key in keys]
    if config.task in ("image", "expression"):
        return idle
    if config.model.layers == 0:
        idle += [
            f"model.{k}: there is no temporal head (model.layers=0)"
            for k in _changed(config.model, "experts", "expert_part", "same_init")
        ]
    if config.model.layers == 0 or config.model.experts == 1:
        why = "there is one expert or no temporal head, so nothing is routed or merged"
        idle += [
            f"loss.{k}: {why}"
            for k in _changed(
                config.loss, "merged_weight", "merge_temperatures", "route_temperature", "routing", "merged"
            )
        ]
    else:
        if config.loss.routing == "all":
            idle += ["loss.route_temperature: nothing is drawn" for _ in _changed(config.loss, "route_temperature")]
        if config.loss.merged_weight == 0:
            idle += ["loss.merged: loss.merged_weight is 0" for _ in _changed(config.loss, "merged")]
    if "lora" not in {config.tuning.vision, config.tuning.text}:
        adapters = _changed(config.tuning, "adapt", "rank", "alpha", "lr_scale")
        idle += [f"tuning.{k}: neither tower has adapters (tuning.vision=lora)" for k in adapters]
    if config.tuning.text == "frozen":
        idle += [f"tuning.{k}: the text tower is frozen" for k in _changed(config.tuning, "text_prompts")]
    if config.tuning.text == "full" and config.optim.backbone_lr_scale == 0:
        idle += ["tuning.text: its learning rate is 0 (optim.backbone_lr_scale=0)"]
    if config.data.sampling == "segment":
        idle += ["data.stride: used by data.sampling=dense only" for _ in _changed(config.data, "stride")]
    if config.data.decoder == "decord":
        idle += ["data.near_keyframes: decord names no key frames" for _ in _changed(config.data, "near_keyframes")]
    if config.data.cache_features:
        keys = _changed(config.data, "near_keyframes", "shuffle_shards")
        idle += [f"data.{key}: cached features are in memory" for key in keys]
    if config.evaluation.unknown is None:
        idle += ["evaluation.accept: used with evaluation.unknown only" for _ in _changed(config.evaluation, "accept")]
    return idle


def _idle_components(config: Config) -> list[str]:
    idle = []
    mixing = [key for key in MixingConfig.model_fields if key != "methods"]
    if not config.mixing.methods or config.mixing.probability == 0:
        idle += [f"mixing.{key}: nothing is mixed" for key in _changed(config.mixing, *mixing)]
    elif "hmix" not in config.mixing.methods:
        idle += ["mixing.ratio: used by hmix only" for _ in _changed(config.mixing, "ratio")]
    if not config.r_drop.weight:
        idle += ["r_drop.temperature: r_drop.weight is 0" for _ in _changed(config.r_drop, "temperature")]
    if not config.sparsity.strength:
        keys = _changed(config.sparsity, "groups", "layers", "start", "ramp", "stop")
        idle += [f"sparsity.{key}: sparsity.strength is 0" for key in keys]
    if config.task == "video":
        idle += [
            f"image.{key}: for task=image and task=expression"
            for key in _changed(config.image, *ImageConfig.model_fields)
        ]
        return idle
    keep = ("backbone", "pretrained") if config.image.net == "backbone" else ()
    model = [key for key in ModelConfig.model_fields if key not in keep]
    idle += [f"model.{key}: for task=video" for key in _changed(config.model, *model)]
    idle += [f"tuning.{key}: for task=video" for key in _changed(config.tuning, *TuningConfig.model_fields)]
    idle += [f"loss.{key}: for task=video" for key in _changed(config.loss, *LossConfig.model_fields)]
    video = ("frames", "sampling", "stride", "difference", "near_keyframes", "shuffle_shards")
    video += ("max_bad_fraction", "decoder")
    idle += [f"data.{key}: for task=video" for key in _changed(config.data, *video)]
    if config.image.pad:
        idle += ["data.crop_scale: image.pad crops instead" for _ in _changed(config.data, "crop_scale")]
    own = ("mean", "std") if config.image.net == "backbone" or config.image.net.startswith("timm:") else ()
    return idle + [f"image.{key}: {config.image.net} has its own" for key in _changed(config.image, *own)]


def _idle_imbalance(config: Config) -> list[str]:
    keys = _changed(config.imbalance, *ImbalanceConfig.model_fields)
    if config.task not in ("expression", "video"):
        return [f"imbalance.{key}: for task=expression and task=video" for key in keys]
    used = {"method", "posthoc"} | USED.get(config.imbalance.method, set())
    idle = [f"imbalance.{key}: imbalance.method={config.imbalance.method} does not use it" for key in keys]
    idle = [line for key, line in zip(keys, idle, strict=True) if key not in used | {"posthoc_tau"}]
    if config.imbalance.posthoc == "none" and "posthoc_tau" in keys:
        idle.append("imbalance.posthoc_tau: imbalance.posthoc is none")
    if config.task == "video" and config.imbalance.method == "ldam_drw" and "scale" in keys:
        idle.append("imbalance.scale: a video model has the logit scale of CLIP")
    return idle


def _idle_autoencoder(config: Config) -> list[str]:
    idle = [f"image.{key}: for task=image" for key in _changed(config.image, *ImageConfig.model_fields)]
    idle = [line for line in idle if not line.startswith(("image.channels", "image.pad"))] + _idle_imbalance(config)
    sections = {"model": ModelConfig, "tuning": TuningConfig, "loss": LossConfig}
    for name, section in sections.items():
        keys = _changed(getattr(config, name), *section.model_fields)
        idle += [f"{name}.{key}: for task=video" for key in keys]
    used = {
        "gm": ("modes", "separation", "conditional", "cdf_weight", "covariance_weight", "mean_weight"),
        "ae": ("modes",),
        "vae": ("kl_weight",),
        "wae_mmd": ("modes", "separation", "mmd_weight"),
    }
    method = config.autoencoder.method
    others = {key for keys in used.values() for key in keys} - set(used[method])
    return idle + [
        f"autoencoder.{key}: autoencoder.method={method} does not use it"
        for key in _changed(config.autoencoder, *sorted(others))
    ]


def _changed(section: Section, *keys: str) -> list[str]:
    defaults = type(section)()
    return [key for key in keys if getattr(section, key) != getattr(defaults, key)]

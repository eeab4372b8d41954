"""Settings that were changed but do nothing in the configuration they stand in: a run warns of each."""

from mote.config import Config
from mote.settings import ImageConfig, LossConfig, MixingConfig, ModelConfig, Section, TuningConfig


def idle_settings(config: Config) -> list[str]:
    """Settings that differ from their default but have no effect in this configuration."""
    idle = _idle_components(config)
    if config.task == "image":
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
            for k in _changed(config.loss, "merged_weight", "merge_temperatures", "route_temperature")
        ]
    if "lora" not in {config.tuning.vision, config.tuning.text}:
        adapters = _changed(config.tuning, "adapt", "rank", "alpha", "lr_scale")
        idle += [f"tuning.{k}: neither tower has adapters (tuning.vision=lora)" for k in adapters]
    if config.tuning.text == "frozen":
        idle += [f"tuning.{k}: the text tower is frozen" for k in _changed(config.tuning, "text_prompts")]
    if config.tuning.text == "full" and config.optim.clip_lr_scale == 0:
        idle += ["tuning.text: its learning rate is 0 (optim.clip_lr_scale=0)"]
    if config.data.sampling == "segment":
        idle += ["data.stride: used by data.sampling=dense only" for _ in _changed(config.data, "stride")]
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
        idle += [f"image.{key}: for task=image" for key in _changed(config.image, *ImageConfig.model_fields)]
        return idle
    keep = ("clip", "pretrained") if config.image.net == "clip" else ()
    model = [key for key in ModelConfig.model_fields if key not in keep]
    idle += [f"model.{key}: for task=video" for key in _changed(config.model, *model)]
    idle += [f"tuning.{key}: for task=video" for key in _changed(config.tuning, *TuningConfig.model_fields)]
    idle += [f"loss.{key}: for task=video" for key in _changed(config.loss, *LossConfig.model_fields)]
    video = ("frames", "sampling", "stride", "difference", "near_keyframes", "shuffle_shards")
    video += ("max_bad_fraction",)
    idle += [f"data.{key}: for task=video" for key in _changed(config.data, *video)]
    if config.image.pad:
        idle += ["data.crop_scale: image.pad crops instead" for _ in _changed(config.data, "crop_scale")]
    own = ("mean", "std") if config.image.net == "clip" or config.image.net.startswith("timm:") else ()
    return idle + [f"image.{key}: {config.image.net} has its own" for key in _changed(config.image, *own)]


def _changed(section: Section, *keys: str) -> list[str]:
    defaults = type(section)()
    return [key for key in keys if getattr(section, key) != getattr(defaults, key)]

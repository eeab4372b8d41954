"""Visual towers rebuilt from a description, without a download, and the description of a tower."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import open_clip
from torch import nn

from mote.models.plain_import import import_rest


def build_visual(architecture: Mapping[str, Any], device: str = "cpu") -> nn.Module:
    """A visual tower with random weights from open_clip's factory, without its text tower; downloads nothing.

    Args:
        architecture: `embed_dim`, `vision_cfg` and `quick_gelu` as in an open_clip model config.
        device: "meta" for a tower without memory.

    Raises:
        ValueError: a network of timm that is none of its own, which timm would look for on a server.
    """
    timm_name = architecture["vision_cfg"].get("timm_model_name")
    if timm_name is not None:
        import timm  # here, since most towers are open_clip's own

        if not timm.is_model(timm_name.partition(".")[0]):
            raise ValueError(f"timm has no model {timm_name!r}; mote uses timm {timm.__version__}")
        import_rest()  # weights come from our file
        architecture = {**architecture, "vision_cfg": {**architecture["vision_cfg"], "timm_model_pretrained": False}}
    text = {"context_length": 4, "vocab_size": 4, "width": 64, "heads": 1, "layers": 1}  # the factory wants one
    config = json.dumps({**architecture, "text_cfg": text}, sort_keys=True)
    name = "mote-" + hashlib.sha256(config.encode()).hexdigest()[:16]
    if name not in open_clip.list_models():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.json"
            path.write_text(config, encoding="utf-8")
            open_clip.add_model_config(path)
    threshold = logging.root.manager.disable
    logging.disable(logging.WARNING)  # "No pretrained weights loaded": they are, just not by the factory
    try:
        return cast(nn.Module, open_clip.create_model(name, pretrained=None, device=device).visual)
    finally:
        logging.disable(threshold)


def describe_visual(backbone: str | None, visual: nn.Module) -> dict[str, object]:
    """The config of a CLIP's visual tower, with the activation and image size that `visual` really has."""
    if backbone == "tiny":
        from mote.models.tiny import tiny_config

        config = tiny_config()
    else:
        config = open_clip.get_model_config(backbone) if backbone else None
    if config is None:
        raise ValueError(
            f"cannot describe the visual tower of backbone={backbone!r}; expected 'tiny' or an open_clip model"
        )
    vision = dict(config["vision_cfg"])
    size = getattr(visual, "image_size", vision.get("image_size", 224))
    vision["image_size"] = size if isinstance(size, int) or size[0] != size[1] else size[0]
    quick_gelu = any(type(module).__name__ == "QuickGELU" for module in visual.modules())  # some tags switch it on
    return {"embed_dim": config["embed_dim"], "vision_cfg": vision, "quick_gelu": quick_gelu}

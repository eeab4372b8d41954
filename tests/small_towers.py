"""Every open_clip architecture at a size for tests: the same kinds of layers, two blocks of width 64 on 32 pixels.

The reduction: `small_config` shrinks image, width, depth and vocabulary in open_clip's configuration, and takes the
simple tokenizer where the original would be downloaded. timm towers are named there, not described, so `shrink_timm`
passes the sizes to `timm.create_model`. `small_clip` writes such a configuration as a folder for `local-dir:`.
"""

import copy
import json
from pathlib import Path
from typing import Any

import timm

from mote.models.clip import backbone_config

SIZE, WIDTH = 32, 64


def small_config(name: str) -> dict[str, Any]:
    """The open_clip configuration of an architecture, reduced."""
    config = copy.deepcopy(backbone_config(name))
    config["embed_dim"] = WIDTH
    config["vision_cfg"]["image_size"] = SIZE
    if "timm_model_name" not in config["vision_cfg"]:
        config["vision_cfg"].update(layers=2, width=WIDTH, head_width=32, patch_size=16)
    text = config["text_cfg"]
    text.update(width=WIDTH, heads=2, layers=2, context_length=16, vocab_size=49408)
    for key in ("hf_tokenizer_name", "tokenizer_kwargs"):
        text.pop(key, None)
    return config


def small_clip(name: str, folder: Path) -> str:
    """Write the reduced architecture below `folder`; returns its name for `model.backbone` (weights: "random")."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "open_clip_config.json").write_text(json.dumps({"model_cfg": small_config(name)}))
    return f"local-dir:{place}"


def shrink_timm(monkeypatch) -> None:
    """Two blocks, width 64, 32 pixels for every timm vision transformer that is built."""
    original = timm.create_model
    sizes = {"img_size": SIZE, "embed_dim": WIDTH, "depth": 2, "num_heads": 2}
    monkeypatch.setattr(timm, "create_model", lambda name, **options: original(name, **sizes, **options))

"""open_clip imported for plain towers gives the same numbers, and everything else when it is asked for."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import hashlib, json, sys
hash_of = lambda text: hashlib.sha256(text.encode()).hexdigest()
from mote.models.plain_import import import_plain
if sys.argv[1] == "plain":
    import_plain()
import torch
from mote.models.clip import encode_classes, load_backbone
towers = load_backbone("tiny")
text = encode_classes(towers, ["square", "circle"], ["a {}"])
images = towers.visual(torch.linspace(-2, 2, 3 * 64 * 64).reshape(1, 3, 64, 64))
print(hash_of(repr(towers.visual)), text.sum().item().hex(), images.sum().item().hex())
loaded = [name for name in ("timm", "transformers", "torchvision.models", "torch._dynamo") if name in sys.modules]
print(json.dumps(loaded))
if sys.argv[1] == "plain":  # what was left out is there when a model needs it
    from mote.models.clip import backbone_config
    from mote.models.visual import build_visual
    config = backbone_config("ViT-B-16-SigLIP")
    print(type(build_visual({key: config[key] for key in ("embed_dim", "vision_cfg")}, "meta")).__name__)
    import torchvision
    print(torchvision.models.resnet18.__name__, torchvision.ops.nms.__name__)
"""


@pytest.mark.slow
def test_plain_towers_give_the_same_and_the_rest_comes_when_it_is_asked_for():
    plain, whole = (
        subprocess.run([sys.executable, "-c", PROGRAM, way], capture_output=True, text=True, check=True).stdout
        for way in ("plain", "whole")
    )
    numbers, loaded, *rest = plain.splitlines()
    assert numbers == whole.splitlines()[0]
    assert json.loads(loaded) == []
    assert rest == ["TimmModel", "resnet18 nms"]

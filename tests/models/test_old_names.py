"""Files written when CLIP's module and keys were still called `clip`: they load, and give the outputs of then.

The folder old_names was written by commit 52b45c4: a small model folder with a tuned text tower, the state dict of a
`CLIPImages` on the same visual tower, and the outputs of all three.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mote.models.checkpoints import build_visual, load_model, load_text
from mote.models.clip import TextTower, build_backbone
from mote.models.feature_maps import CLIPImages
from mote.models.video_clip import VideoCLIP

FOLDER = Path(__file__).parent / "old_names"
OUTPUTS = load_file(FOLDER / "outputs.safetensors")
FRAMES = torch.arange(2 * 2 * 3 * 8 * 8).mul(37).remainder(256).to(torch.uint8).view(2, 2, 3, 8, 8)
TEXT_CFG = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


def loaded_folder():
    with pytest.warns(UserWarning, match="trained before models named their preprocessing"):
        return load_model(FOLDER)


def same(found, name):
    torch.testing.assert_close(found, OUTPUTS[name], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_model_folder():
    loaded = loaded_folder()
    assert loaded.meta["backbone"] == "toy" and "clip" not in loaded.meta
    assert loaded.meta["pretrained"] == str(FOLDER / "clip.pt") and "clip_file" not in loaded.meta
    same(loaded.model.classify(loaded.model.head(loaded.model.encode_frames(FRAMES)), loaded.tuned_text), "video")


@torch.no_grad()
def test_a_text_tower():
    backbone = build_backbone({**loaded_folder().meta["architecture"], "text_cfg": TEXT_CFG})
    del backbone.visual
    tower = TextTower(backbone, lambda texts: torch.tensor([[1, len(text) % 6, 7, 0] for text in texts])).eval()
    load_text(FOLDER / "text.safetensors", tower)
    same(tower(["a", "bcd"]), "text")
    assert all(name.startswith("backbone.") for name in tower.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "model."])  # alone, and in the checkpoint of a task
def test_an_image_model(prefix):
    visual = build_visual(loaded_folder().meta["architecture"])
    plain = VideoCLIP(visual, torch.zeros(()), embed_dim=8, mean=(0.5,) * 3, std=(0.25,) * 3)
    images = CLIPImages(plain, torch.zeros(2, 8)).eval()
    state = load_file(FOLDER / "images.safetensors")
    assert any(name.startswith("clip.") for name in state)
    around = torch.nn.ModuleDict({"model": images}) if prefix else images
    around.load_state_dict({prefix + name: value for name, value in state.items()})
    same(images(FRAMES[:, 0]), "images")

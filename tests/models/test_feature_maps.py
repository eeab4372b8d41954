"""Feature maps beside logits: what a map says is what the logit says, for every backbone; weights from files."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from mote.models.clip import encode_classes, load_backbone
from mote.models.feature_maps import CLIPImages, TimmMaps, load_net_weights, patch_tokens
from mote.models.image_checkpoints import image_classifier, load_net, save_net
from mote.models.image_nets import ImageClassifier
from mote.models.video_clip import VideoCLIP

PIXELS = {"mean": [0.5], "std": [0.25]}


def make(net: str, size: int = 32, **options) -> ImageClassifier:
    torch.manual_seed(0)
    return image_classifier(net, 5, maps=True, in_channels=1, size=size, **PIXELS, **options).eval()


def images(size: int = 32, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 1, size, size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("net", "size", "places"),
    [
        ("resnet8", 20, 5),
        ("timm:resnet10t", 64, 2),
        ("timm:mobilenetv3_small_050", 64, 2),
        ("timm:swin_tiny_patch4_window7_224", 64, 2),
        ("timm:vit_tiny_patch16_224", 64, 4),
    ],
)
def test_the_mean_over_places_is_the_logit(net, size, places):
    model = make(net, size)
    with torch.no_grad():
        pooled, features = model.encode(images(size))
        logits, at_places = model.classify(pooled), model.place_logits(features)
        assert at_places.shape == (3, 5, places, places)
        torch.testing.assert_close(at_places.mean((2, 3)), model(images(size)))
        torch.testing.assert_close(logits, model(images(size)))
        cam = torch.einsum("kd,bdhw->bkhw", model.directions(), features)
        torch.testing.assert_close(cam + model.net.fc.bias[:, None, None], at_places)


META = {"classes": list("abcde"), "task": "expression", "channels": 1}


def test_a_cosine_head_survives_the_checkpoint(tmp_path):
    model = make("resnet8", cosine=20.0)
    logits = model(images())
    assert logits.abs().max() <= 20 and model.scale == 20
    cosine = F.cosine_similarity(model.encode(images())[0][:, None], model.net.fc.weight[None], dim=-1)
    torch.testing.assert_close(logits, 20 * cosine)
    save_net(tmp_path, model, {"net": "resnet8", "size": 32, **META})
    torch.testing.assert_close(load_net(tmp_path).model(images()), logits)


def test_a_timm_network_survives_the_checkpoint(tmp_path):
    model = make("timm:resnet10t", 64)
    save_net(tmp_path, model, {"net": "timm:resnet10t", "size": 64, **META})
    again, meta = load_net(tmp_path)
    assert isinstance(again.net, TimmMaps) and meta["task"] == "expression"
    torch.testing.assert_close(again(images(64)), model(images(64)))


def test_networks_without_a_map_are_refused():
    with pytest.raises(ValueError, match="lenet has no feature map; take resnet8"):
        make("lenet")


@pytest.mark.parametrize("form", ["bare", "wrapped", "safetensors", "own"])
def test_a_face_pretrained_backbone_is_taken_without_its_head(form, tmp_path):
    source, target = make("timm:resnet10t"), make("timm:resnet10t")
    state = source.net.body.state_dict()
    weights = {name: (value + 0.1 * value.abs().double().mean()).to(value.dtype) for name, value in state.items()}
    head = {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    file = tmp_path / ("w.safetensors" if form in ("safetensors", "own") else "w.pth")
    if form == "bare":
        torch.save(weights | head, file)
    elif form == "wrapped":
        torch.save({"state_dict": {f"module.{name}": value for name, value in (weights | head).items()}}, file)
    elif form == "safetensors":
        save_file(weights | head, file)
    else:
        save_file({f"net.body.{name}": value for name, value in weights.items()}, file)
    before = target.net.fc.weight.clone()
    load_net_weights(target, file)
    assert all(torch.equal(value, weights[name]) for name, value in target.net.body.state_dict().items())
    assert torch.equal(target.net.fc.weight, before)


def test_a_file_that_does_not_fit_is_one_line(tmp_path):
    model = make("resnet8")
    weights = model.net.state_dict()
    cases = {"lacking": {k: v for k, v in weights.items() if "blocks.2" not in k}}
    cases["odd"] = weights | {"conv1.weight": torch.zeros(16, 3, 3, 3)}
    for name, tensors in cases.items():
        torch.save(tensors, tmp_path / f"{name}.pth")
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "code.pth")
    for name, message in (
        ("lacking", "does not fit this network: .* weights are missing, such as blocks.2"),
        ("odd", r"1 have another shape, such as conv1.weight \(\(16, 3, 3, 3\) for \(16, 1, 3, 3\)\)"),
        ("text", "cannot be read as weights"),
        ("code", "cannot be read as weights: it is damaged, or holds more than tensors"),
        ("gone", "cannot be read as weights"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            load_net_weights(model, tmp_path / f"{name}.pth")
        assert "\n" not in str(error.value)


def test_clip_maps_are_cosines_of_patch_tokens_with_class_text():
    towers = load_backbone("tiny")
    text = encode_classes(towers, ["red star", "blue ball"], ["a photo of a {}."])
    options = {"mean": towers.mean, "std": towers.std}
    clip = VideoCLIP(towers.visual, towers.logit_scale, embed_dim=towers.embed_dim, **options).eval()
    model = CLIPImages(clip, text)
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pooled, features = model.encode(pixels)
        torch.testing.assert_close(model.classify(pooled), model(pixels))
        torch.testing.assert_close(features.norm(dim=1), torch.ones(2, 4, 4))
        places = model.place_logits(features)
        torch.testing.assert_close(places[1, :, 2, 3], model.scale * text @ features[1, :, 2, 3])
    assert places.shape == (2, 2, 4, 4)


def test_a_tower_without_patch_tokens_is_refused():
    with pytest.raises(ValueError, match="the visual tower Linear gives no patch tokens; take a ViT"):
        patch_tokens(nn.Linear(2, 2), torch.zeros(1, 3, 4, 4))

import json

import pytest
import torch
from torch import nn

from mote.models.image_checkpoints import image_classifier, is_image_model, load_net, save_net
from mote.models.image_nets import DEPTHS, ImageClassifier, LeNet, ResNet, build_net


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_sizes_are_the_papers():
    lenet = build_net("lenet", 10)
    assert count(lenet) == (25 * 20 + 20) + (20 * 25 * 50 + 50) + (800 * 500 + 500) + (500 * 10 + 10)
    assert count(build_net("mlp", 10)) == 785 * 500 + 501 * 300 + 301 * 10
    for name, depth in (("resnet20", 20), ("resnet32", 32)):
        net = build_net(name, 10)
        weighted = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        assert len(weighted) - 2 == depth  # and two 1x1 shortcuts
    widths = ((16, 16), (16, 32), (32, 64))  # of the stage before, of the stage: 3 blocks of 2 convolutions
    convolutions = 27 * 16 + sum(9 * (b * c + c * c) + 9 * 4 * c * c for b, c in widths)
    batch_norms = 2 * (16 + 6 * (16 + 32 + 64))
    assert count(build_net("resnet20", 10)) == convolutions + batch_norms + 16 * 32 + 32 * 64 + 65 * 10


@pytest.mark.parametrize("name", ["lenet", "mlp", *DEPTHS])
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_networks_give_logits_and_rebuild_from_their_sizes(name, channels, size):
    net = build_net(name, 7, in_channels=channels, size=size).eval()
    twin = build_net(name, 7, **net.sizes).eval()
    twin.load_state_dict(net.state_dict())
    x = torch.randn(2, channels, size, size)
    assert net(x).shape == (2, 7) and torch.equal(net(x), twin(x))


def test_fewer_units_are_the_same_class():
    assert LeNet(10, conv1=3, conv2=12, hidden=7)(torch.randn(1, 1, 28, 28)).shape == (1, 10)
    assert ResNet(10, blocks=1, inner=(3, 5, 1))(torch.randn(1, 3, 32, 32)).shape == (1, 10)


def test_pixels_are_normalised_in_the_model():
    model = ImageClassifier(nn.Flatten(), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    before = images.float()
    assert torch.equal(model(images), model(before)) and torch.equal(before, images.float())
    expected = [
        (images[1, c, 2, 3].item() / 255 - m) / s for c, (m, s) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 1)])
    ]
    torch.testing.assert_close(model(images).view(2, 3, 4, 4)[1, :, 2, 3], torch.tensor(expected))


def test_saved_networks_load_on_their_own(tmp_path):
    for name in ("lenet", "timm:resnet10t"):
        model = image_classifier(name, 3, mean=(0.2,), std=(0.3,), in_channels=1, size=32, dropout=0.5).eval()
        save_net(tmp_path / name, model, {"net": name, "classes": ["a", "b", "c"], "size": 32, "channels": 1})
        loaded = load_net(tmp_path / name)
        images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
        assert torch.equal(model(images), loaded.model(images)) and loaded.meta["classes"] == ["a", "b", "c"]
        assert is_image_model(tmp_path / name) and not is_image_model(tmp_path)
    description = json.loads((tmp_path / "lenet" / "model.json").read_text())
    (tmp_path / "lenet" / "model.json").write_text(json.dumps(description | {"sizes": {"in_channels": 1, "conv1": 3}}))
    with pytest.raises(ValueError, match=r"model\.safetensors: tensors of another shape: net\.conv1\.bias"):
        load_net(tmp_path / "lenet")
    (tmp_path / "lenet" / "model.json").write_text("{}")
    with pytest.raises(ValueError, match=r"model\.json: the key 'task' is missing"):
        load_net(tmp_path / "lenet")


def test_mistakes():
    with pytest.raises(ValueError, match="unknown image network 'alexnet'"):
        build_net("alexnet", 10)
    with pytest.raises(ValueError, match="got 30"):
        build_net("lenet", 10, size=30)
    with pytest.raises(ValueError, match="timm has no model"):
        image_classifier("timm:nonsense", 3, mean=(0.5,), std=(0.5,), in_channels=3, size=32)

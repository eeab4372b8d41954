"""What an autoencoder is scored by: the judge's features, the pictures on the sheets, a perfect latent."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from mote.config import validate
from mote.evaluation import autoencoder
from mote.evaluation.autoencoder import Judge, encode, score_latent
from mote.files.preprocessing import Preprocessing
from mote.inference.latent import LatentModel
from mote.models.autoencoder import ImageAutoencoder
from mote.models.image_checkpoints import image_classifier, save_net
from mote.models.image_nets import LeNet
from mote.regularizers.gaussian_mixture import Mixture, axis_centres, draw_modes, isotropic, sample_mixture


class Perfect(ImageAutoencoder):
    """Codes that were drawn from the prior, whatever the picture: row i of the table for a picture of brightness i."""

    def __init__(self, table: torch.Tensor):
        super().__init__(size=8, latent=table.shape[1], width=4)
        self.table = table

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return self.table[images[:, 0, 0, 0].long() + 256 * images[:, 0, 0, 1].long()]


def loader(num: int, labels: torch.Tensor) -> DataLoader:
    """Pictures that carry their own number."""
    images = torch.zeros(num, 1, 8, 8, dtype=torch.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = torch.arange(num) % 256, torch.arange(num) // 256
    items = [{"images": images[i], "label": labels[i], "index": torch.tensor(i)} for i in range(num)]
    return DataLoader(items, batch_size=64)  # type: ignore[arg-type]


@pytest.fixture
def drawn() -> tuple[Mixture, torch.Tensor, torch.Tensor]:
    prior, generator = isotropic(axis_centres(4, 6)), torch.Generator().manual_seed(0)
    modes = draw_modes(prior, 600, generator)
    return prior, modes, sample_mixture(prior, modes, generator)


def test_a_perfect_latent_scores_one_and_its_modes_are_found(drawn):
    prior, modes, codes = drawn
    latent = LatentModel(Perfect(codes).eval(), prior, {"method": "gm", "conditional": True})
    summary, held_out = score_latent(latent, loader(600, modes), None, list("abcd"), batch=100, seed=0)
    assert torch.equal(held_out.codes, codes) and summary["listed"] == 600
    for terms in (summary["latent"], summary["class_latent"]):
        assert all(terms[name] == pytest.approx(1, abs=0.5) for name in ("cdf", "covariance", "mean"))  # 6 batches
    assert summary["energy"]["p"] > 0.01 and summary["energy"]["distance"] < 3 * summary["energy"]["null"]
    assert summary["coverage"]["used"] == 4 and summary["agreement"]["own"] > 0.98
    shifted = LatentModel(Perfect(codes + 1).eval(), prior, {"method": "gm", "conditional": False})
    worse, _ = score_latent(shifted, loader(600, modes), None, list("abcd"), batch=100, seed=0)
    assert worse["latent"]["mean"] > 5 and worse["latent"]["cdf"] > 3 and worse["energy"]["p"] == 0.005


def test_the_pictures_shown_are_those_of_the_numbers_shown(drawn):
    prior, modes, codes = drawn
    held_out = encode(
        LatentModel(Perfect(codes).eval(), prior, {"method": "gm", "conditional": False}),
        loader(600, modes),
        None,
        seed=3,
    )
    number = (255 * held_out.images[:, 0, 0]).round().long()
    assert torch.equal(number[:, 0] + 256 * number[:, 1], held_out.shown)
    assert len(held_out.shown.unique()) == 100 and not torch.equal(held_out.shown, held_out.shown.sort().values)


def test_the_judges_features_are_what_its_last_layer_takes(tmp_path):
    torch.manual_seed(0)
    model = image_classifier("lenet", 10, mean=(0.1,), std=(0.3,), in_channels=1, size=16).eval()
    save_net(tmp_path, model, {"net": "lenet", "classes": list("0123456789"), "size": 16, "channels": 1})
    pixels = torch.rand(5, 1, 16, 16)
    features, probabilities = Judge(str(tmp_path), 16, 1)(pixels)
    net = model.net
    assert isinstance(net, LeNet)
    with torch.no_grad():
        x = (pixels - 0.1) / 0.3
        for convolution in (net.conv1, net.conv2):
            x = torch.nn.functional.max_pool2d(convolution(x), 2)
        wanted = net.fc1(x.flatten(1)).relu()
        assert torch.allclose(features, wanted, atol=1e-5)
        assert torch.allclose(probabilities, net.fc2(wanted).softmax(1), atol=1e-5)
    with pytest.raises(ValueError, match=r"takes 16 pixels and 1 channels, the autoencoder makes 28 and 1"):
        Judge(str(tmp_path), 28, 1)


@pytest.mark.parametrize("modes", [1, 4])
def test_samples_are_held_against_their_modes_where_there_are_several(modes, drawn):
    """The judge takes every picture for the first of the classes."""
    _, labels, codes = drawn
    prior = isotropic(axis_centres(modes, 6))
    latent = LatentModel(Perfect(codes).eval(), prior, {"method": "gm", "conditional": False})
    answer = torch.tensor([0.97, 0.01, 0.01, 0.01])

    def judge(pixels):
        assert pixels.dtype == torch.float32
        return pixels.flatten(1)[:, :3], answer.expand(len(pixels), 4)

    judge.meta, judge.description = {"classes": list("abcd")}, {"model": "a stand-in"}
    summary, _ = score_latent(latent, loader(600, labels), judge, list("abcd"), batch=100, seed=0)
    assert summary["confident"] == 1 and summary["sample_classes"]["used"] == 1
    assert ("sample_agreement" in summary) == (modes > 1)


def test_pictures_are_prepared_as_the_autoencoder_takes_them(drawn, monkeypatch, tmp_path):
    prior, _, codes = drawn
    squash = {"interpolation": "bilinear", "resize": "squash", "fill": [0, 0, 0]}
    latent = LatentModel(Perfect(codes).eval(), prior, {"method": "gm", "preprocessing": squash})
    seen = []
    monkeypatch.setattr(autoencoder, "image_dataset", lambda *arguments, **options: seen.append(options) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        autoencoder._evaluate(latent, validate({}), tmp_path, None, None, False)
    assert seen == [{"train": False, "preprocessing": Preprocessing("bilinear", "squash")}]


def test_sheets_are_of_the_network_in_evaluation_mode_which_goes_on_training_afterwards(drawn, monkeypatch, tmp_path):
    prior, labels, codes = drawn
    model = Perfect(codes).train()
    seen = []
    monkeypatch.setattr(autoencoder, "image_dataset", lambda *arguments, **options: None)
    monkeypatch.setattr(autoencoder, "evaluation_loader", lambda *arguments: loader(600, labels))
    monkeypatch.setattr(autoencoder, "sheets_of", lambda *arguments: seen.append(model.training) or {})
    monkeypatch.setattr(autoencoder, "evaluation_listing", lambda settings: SimpleNamespace(sha256=lambda records: "0"))
    data = SimpleNamespace(classes=list("abcd"), records=[])
    latent = LatentModel(model, prior, {"method": "gm", "conditional": True, "classes": list("abcd")})
    autoencoder._evaluate(latent, validate({"optim": {"batch_size": 100}}), tmp_path, data, None, False)
    assert seen == [False] and model.training

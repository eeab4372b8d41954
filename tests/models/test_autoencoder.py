import pytest
import torch

from mote.models.autoencoder import ImageAutoencoder, load_autoencoder, save_autoencoder
from mote.regularizers.gaussian_mixture import isotropic

META = {"method": "gm", "conditional": False, "classes": ["0", "1"]}


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (48, 1), (64, 3)])
def test_pictures_come_back_in_their_shape(size, channels):
    model = ImageAutoencoder(size=size, channels=channels, latent=5, codes=10, width=4)
    images = torch.randint(0, 256, (3, channels, size, size), dtype=torch.uint8)
    assert model.encode(images).shape == (3, 10)
    out = model(images)
    assert out.shape == images.shape and out.min() >= 0 and out.max() <= 1
    assert torch.equal(model.target(images) * 255, images.float())


@pytest.mark.parametrize("size", [27, 30, 7, 36])
def test_a_size_that_cannot_be_halved_is_refused(size):
    with pytest.raises(ValueError, match=f"times a power of two .*, got {size}; set data.size"):
        ImageAutoencoder(size=size)


def test_a_folder_gives_the_same_network_back(tmp_path):
    model = ImageAutoencoder(size=8, latent=3, width=4)
    prior = isotropic(torch.randn(2, 3))._asdict()
    save_autoencoder(tmp_path, model, prior, META)
    loaded = load_autoencoder(tmp_path)
    assert loaded.meta["method"] == "gm" and loaded.model.sizes == model.sizes and not loaded.model.training
    assert all(torch.equal(value, loaded.prior[name]) for name, value in prior.items())
    z = torch.randn(2, model.sizes["latent"])
    assert torch.equal(model.eval().decode(z), loaded.model.decode(z))


def test_damaged_folders_are_one_line(tmp_path):
    with pytest.raises(ValueError, match="holds no autoencoder"):
        load_autoencoder(tmp_path)
    save_autoencoder(
        tmp_path, ImageAutoencoder(size=8, latent=3, width=4), isotropic(torch.zeros(2, 3))._asdict(), META
    )
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged"):
        load_autoencoder(tmp_path)
    save_autoencoder(tmp_path, ImageAutoencoder(size=8, latent=3, width=4), {"centres": torch.zeros(2, 3)}, META)
    with pytest.raises(ValueError, match=r"tensors missing: prior\.priors, prior\.scale_tril"):
        load_autoencoder(tmp_path)
    (tmp_path / "model.json").write_text('{"task": "autoencoder", "kind": "sound", "sizes": {}}')
    with pytest.raises(ValueError, match=r"model.json: the key 'method' is missing"):
        load_autoencoder(tmp_path)

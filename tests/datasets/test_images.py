import io
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from mote.datasets.images import ImageDataset, read_image
from mote.datasets.lists.images import CIFAR10, ImageList, read_images
from mote.datasets.lists.manifest import ManifestError, Record

RNG = np.random.default_rng(0)


@pytest.fixture
def npz(tmp_path):
    """Ten grey digits for training, four for the test."""
    arrays = {}
    for split, count in (("train", 10), ("test", 4)):
        arrays[f"{split}_images"] = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 3).astype(np.uint8)
    np.savez(tmp_path / "digits.npz", **arrays)
    return tmp_path / "digits.npz", arrays


def cifar_batch(count: int) -> dict:
    return {b"data": RNG.integers(0, 256, (count, 3072), dtype=np.uint8), b"labels": [i % 10 for i in range(count)]}


@pytest.fixture
def cifar(tmp_path):
    batches = {f"data_batch_{i}": cifar_batch(4) for i in range(1, 6)} | {"test_batch": cifar_batch(3)}
    for name, batch in batches.items():
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol=2))
    return tmp_path, batches


def test_an_npz_gives_its_own_pixels_and_digits_as_names(npz):
    path, arrays = npz
    data = read_images(path, split="test")
    assert data.classes == ["0", "1", "2"] and [r.label for r in data.records] == [0, 1, 2, 0]
    assert str(data.records[3].path).endswith("digits.npz/test/3")
    item = ImageDataset(data, size=28, channels=1, train=False)[2]
    assert np.array_equal(item["images"][0].numpy(), arrays["test_images"][2]) and item["label"] == 2
    colour = ImageDataset(data, size=28, channels=3, train=False)[2]["images"]
    assert colour.shape == (3, 28, 28) and torch.equal(colour[1], item["images"][0])


def test_cifar_batches_are_read_in_order_as_rows_of_red_green_and_blue(cifar):
    folder, batches = cifar
    data = read_images(folder, split="train")
    assert data.classes == list(CIFAR10) and len(data.records) == 20 and data.pixels.shape == (20, 32, 32, 3)
    raw = batches["data_batch_2"][b"data"][1]  # 1024 red, 1024 green, 1024 blue, row by row
    assert data.pixels[5, 3, 7].tolist() == [raw[3 * 32 + 7], raw[1024 + 3 * 32 + 7], raw[2048 + 3 * 32 + 7]]
    assert len(read_images(folder, split="test").records) == 3


def test_a_cifar_batch_cannot_run_code(cifar):
    class Evil:
        def __reduce__(self):
            return os.system, ("touch owned",)

    folder, _ = cifar
    (folder / "data_batch_3").write_bytes(pickle.dumps({b"data": Evil(), b"labels": []}))
    with pytest.raises(ManifestError, match=r"data_batch_3: not a batch .* asks for posix.system"):
        read_images(folder, split="train")
    (folder / "data_batch_3").write_bytes(b"nothing")
    with pytest.raises(ManifestError, match="data_batch_3"):
        read_images(folder, split="train")


def test_folders_and_csv_lists_of_files(tmp_path):
    for name, colour in (("cat", (200, 10, 10)), ("dog", (10, 200, 10))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 30), colour).save(tmp_path / name / "a.png")
        (tmp_path / name / "notes.txt").write_text("not an image")
    data = read_images(tmp_path)
    assert data.classes == ["cat", "dog"] and [r.path.name for r in data.records] == ["a.png", "a.png"]
    item = ImageDataset(data, size=16, channels=3, train=False)[1]
    assert item["images"].shape == (3, 16, 16) and item["images"][:, 8, 8].tolist() == [10, 200, 10]
    (tmp_path / "list.csv").write_text("path,label,split\ncat/a.png,4,train\ndog/a.png,1,test\n")
    numbers = read_images(tmp_path / "list.csv", split="train")
    assert numbers.classes == ["0", "1", "2", "3", "4"] and numbers.records[0].label == 4


def test_training_items_depend_on_epoch_and_index_alone_and_testing_ones_are_plain(npz):
    data = read_images(npz[0], split="train")
    make = lambda **options: ImageDataset(data, size=28, channels=3, train=True, seed=3, **options)  # noqa: E731
    first, again = make()[(1, 4)]["images"], make()[(1, 4)]["images"]
    assert torch.equal(first, again) and not torch.equal(first, make()[(2, 4)]["images"])
    plain = make(scale=(1.0, 1.0), flip=0.0, grayscale=0.0)
    assert torch.equal(plain[(1, 4)]["images"], ImageDataset(data, size=28, channels=3, train=False)[4]["images"])
    assert make(flip=1.0, scale=(1.0, 1.0), grayscale=0.0)[4]["images"].equal(plain[4]["images"].flip(-1))


def test_padding_shifts_the_picture_over_black():
    pixels = np.full((1, 8, 8, 3), 255, dtype=np.uint8)
    data = ImageList([Record(io.__file__, 0)], ["a"], pixels)
    dataset = ImageDataset(data, size=8, channels=3, train=True, pad=2, flip=0.0, grayscale=0.0)
    seen = set()
    for epoch in range(200):
        white = dataset[(epoch, 0)]["images"][0] == 255
        rows, columns = white.any(1).nonzero().flatten(), white.any(0).nonzero().flatten()
        assert white.sum() == len(rows) * len(columns)
        seen.add((int(rows[0]), len(rows), int(columns[0]), len(columns)))
    assert len(seen) == 25  # every shift by -2..2 in both directions
    data.pixels[:] = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    mirror = ImageDataset(data, size=8, channels=3, train=True, pad=2, flip=1.0, grayscale=0.0)
    for epoch in range(5):  # what is drawn for the shift does not depend on what follows
        assert torch.equal(mirror[(epoch, 0)]["images"], dataset[(epoch, 0)]["images"].flip(-1))


def test_mistakes(npz, tmp_path):
    path, arrays = npz
    with pytest.raises(ManifestError, match="splits train and test"):
        read_images(path)
    with pytest.raises(ManifestError, match=r"labels 0\.\.2 for 2 classes"):
        read_images(path, classes=["a", "b"], split="train")
    np.savez(tmp_path / "bad.npz", train_images=arrays["train_images"].astype(float), train_labels=np.zeros(10))
    with pytest.raises(ManifestError, match="expected uint8 images"):
        read_images(tmp_path / "bad.npz", split="train")
    with pytest.raises(ManifestError, match="expected arrays test_images"):
        read_images(tmp_path / "bad.npz", split="test")
    (tmp_path / "no.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"no\.png: cannot be read as an image"):
        read_image(tmp_path / "no.png")


def test_real_digits(real_data):
    data = read_images(real_data / "mnist.npz", split="train")
    assert len(data.records) == 60_000 and data.classes == [str(i) for i in range(10)]
    signs = read_images(real_data / "sign_digits" / "LABELS.csv", split="test")
    assert ImageDataset(signs, size=32, channels=3, train=False)[0]["images"].shape == (3, 32, 32)

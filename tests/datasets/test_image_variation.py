"""RandAugment and random erasing: what they change, that each draw repeats, and that nothing else is disturbed."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

from mote.datasets.image_variation import Variation
from mote.datasets.images import ImageDataset
from mote.datasets.lists.images import ImageList
from mote.datasets.lists.manifest import Record

POLICY = "rand-m9-mstd0.5-inc1"
IMAGE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 20, 20), dtype=np.uint8))


def draw(variation: Variation, seed: int) -> torch.Tensor:
    return variation(IMAGE, np.random.default_rng(seed))


def test_a_policy_gives_what_timm_gives_from_the_same_seed():
    changed = 0
    for seed in range(12):
        first = int(np.random.default_rng(seed).integers(2**32, size=2)[0])
        random.seed(first)
        np.random.seed(first)
        theirs = rand_augment_transform(POLICY, {"translate_const": 9, "img_mean": (128, 128, 128)})
        wanted = np.asarray(theirs(Image.fromarray(IMAGE.permute(1, 2, 0).numpy())))
        ours = draw(Variation(POLICY), seed)
        assert (ours.permute(1, 2, 0).numpy() == wanted).all()
        changed += bool((ours != IMAGE).any())
    assert changed > 6


def test_erasing_is_a_rectangle_of_noise_as_large_and_as_often_as_asked():
    erased, shares, values = 0, [], []
    for seed in range(400):
        different = (draw(Variation(erase=0.25, area=(0.1, 0.2)), seed) != IMAGE).any(dim=0)
        if not different.any():
            continue
        erased += 1
        rows, columns = different.any(dim=1).nonzero(), different.any(dim=0).nonzero()
        height, width = (int(places.max() - places.min()) + 1 for places in (rows, columns))
        shares.append(height * width / 400)
        assert 0.25 < height / width < 4
        inside = draw(Variation(erase=0.25, area=(0.1, 0.2)), seed)[:, different]
        values.append(inside.float().mean())
    assert 70 <= erased <= 130  # 100 expected, three standard deviations are 26
    assert 0.08 <= min(shares) < 0.12 and 0.18 < max(shares) <= 0.22
    assert np.mean(values) == pytest.approx(127.5, abs=3)


def test_draws_repeat_and_leave_global_generators_and_the_image_alone():
    before = IMAGE.clone()
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    wanted = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    one, two = (draw(Variation(POLICY, 1.0), 5) for _ in range(2))
    assert (one == two).all() and (one != draw(Variation(POLICY, 1.0), 6)).any()
    assert (random.random(), np.random.rand(), torch.rand(1)) == wanted
    assert (before == IMAGE).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pad", [0, 2])
def test_images_are_cropped_and_then_varied(channels, pad):
    pixels = IMAGE.permute(1, 2, 0).numpy()[None, ..., :channels]
    data = ImageList([Record("0", 0)], ["a"], pixels)
    settings = {"size": 16, "channels": channels, "seed": 4, "pad": pad, "flip": 0.0, "grayscale": 0.0}
    plain = ImageDataset(data, train=True, **settings).image(2, 0)
    varied = ImageDataset(data, train=True, **settings, variation=Variation(erase=1.0)).image(2, 0)
    kept = (plain == varied).all(dim=0)
    assert plain.shape == varied.shape == (channels, 16, 16) and 0.5 < kept.float().mean() < 1
    tested = [
        ImageDataset(data, train=False, **settings, variation=v).image(2, 0)
        for v in (Variation(POLICY, 1.0), Variation())
    ]
    assert (tested[0] == tested[1]).all()

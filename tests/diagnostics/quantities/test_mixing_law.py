import itertools
import math

import numpy as np
import pytest
import torch

from mote.datasets.mixing import METHODS, Mixer
from mote.diagnostics.quantities.mixing_law import mask_law, mixup_law

# a(d) and E[1 - M] of the authors' primitives at 32 x 32 pixels, alpha 1, hmix ratio .5, measured in another program:
# d = 0, 2, 4, 8, 16, 24, 31.
TABLE = {
    "cutmix": (0.350, (0.350, 0.323, 0.297, 0.247, 0.156, 0.116, 0.129)),
    "hmix": (0.326, (0.196, 0.189, 0.183, 0.171, 0.158, 0.158, 0.161)),
    "gmix": (0.255, (0.184, 0.182, 0.176, 0.156, 0.118, 0.107, 0.114)),
}


def law_of(method, draws=3000, alpha=1.0, seed=0, size=(1, 32, 32), **options):
    rng = np.random.default_rng(seed)
    mixer = Mixer((method,), 2, alpha=alpha, **options)
    return mask_law(mixer.masks(100, size, rng).expand(100, *size) for _ in range(draws // 100))


def test_the_law_is_the_mean_over_pairs_counted_one_by_one():
    masks = torch.rand(3, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    pixels = list(itertools.product(range(2), range(3), range(4)))
    sums, counts = np.zeros((2, 3)), np.zeros((2, 3))
    for mask in masks.double():
        lam = mask.mean().item()
        for p, q in itertools.product(pixels, pixels):
            t, d = abs(p[0] - q[0]), round(math.hypot(p[1] - q[1], p[2] - q[2]))
            if d < 3:
                a, b = mask[p].item(), mask[q].item()
                sums[t, d] += lam * (1 - a) * (1 - b) + (1 - lam) * a * b
                counts[t, d] += 1
    law, share = mask_law([masks[:2], masks[2:]])
    np.testing.assert_allclose(law, sums / counts, rtol=1e-9)
    means = masks.double().mean((1, 2, 3))
    assert share == pytest.approx((2 * means * (1 - means)).mean().item())


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_has_its_closed_form_at_every_distance(alpha):
    law, share = law_of("mixup", 20_000, alpha, size=(1, 4, 4))
    assert np.ptp(law) < 1e-6  # the same for every pair
    error = 5 * 0.25 / math.sqrt(20_000)  # lambda (1 - lambda) lies in 0 .. 1/4
    assert law[0, 0] == pytest.approx(mixup_law(alpha), abs=error) and share == pytest.approx(2 * law[0, 0], abs=1e-6)
    assert mixup_law(1.0) == pytest.approx(1 / 6)


@pytest.mark.parametrize("method", TABLE)
def test_the_other_methods_have_the_law_of_the_authors_masks(method):
    law, share = law_of(method)
    expected_share, expected = TABLE[method]
    assert share == pytest.approx(expected_share, abs=0.012)  # both are sampled
    np.testing.assert_allclose(law[0, [0, 2, 4, 8, 16, 24, 31]], expected, atol=0.012)


def test_tubes_do_not_decay_over_time_and_cuboids_do():
    tube, _ = law_of("cutmix", 500, size=(4, 12, 12))
    np.testing.assert_allclose(tube, np.tile(tube[:1], (4, 1)), rtol=1e-6)
    for method in set(METHODS) - {"mixup"}:
        cuboid, _ = law_of(method, 500, size=(4, 12, 12), extent="spacetime")
        assert cuboid[0, 0] > cuboid[2, 0] and cuboid[0, 0] > cuboid[0, 6]

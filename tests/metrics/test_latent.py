import math

import numpy as np
import pytest
import torch
from oracles import latent_reference as oracle
from scipy.linalg import sqrtm

from mote.metrics.latent import agreement, coverage, energy_test, frechet_distance
from mote.reporting.image_grid import write_image_grid


def normal(num: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frechet_distance_is_that_of_the_matrix_square_root():
    a, b = normal(50, 4, 0) @ normal(4, 4, 1), 0.5 + normal(60, 4, 2)
    c1, c2 = (np.cov(x.numpy(), rowvar=False) for x in (a, b))
    wanted = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(wanted, rel=1e-8)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 3) == pytest.approx(4 * 9, rel=1e-6)  # equal shapes: the squared distance of means
    flat = torch.cat([a, torch.zeros(50, 2)], 1)  # features that never fire: singular covariances
    assert frechet_distance(flat, torch.cat([b, torch.zeros(60, 2)], 1)) == pytest.approx(wanted, rel=1e-6)
    with pytest.raises(ValueError, match="at least 2 images a set, got 1 and 60"):
        frechet_distance(a[:1], b)


def test_energy_distance_is_that_of_the_loop():
    a, b = normal(9, 3, 0), 1 + normal(7, 3, 1)
    distance, null, p = energy_test(a, b)
    assert distance == pytest.approx(oracle.energy_distance(a.tolist(), b.tolist()), rel=1e-9)
    assert 1 / 200 <= p < 0.05 and 0 < null < distance


def test_the_p_value_is_uniform_for_one_distribution():
    values = [
        energy_test(normal(12, 2, 2 * s), normal(15, 2, 2 * s + 1), relabellings=19, seed=s)[2] for s in range(200)
    ]
    assert np.mean(values) == pytest.approx(0.525, abs=4 * 0.29 / math.sqrt(200))  # 1/20, 2/20, ..., 1
    assert np.mean(np.array(values) <= 0.05) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 200)


def test_coverage_and_agreement_of_known_tables():
    even = coverage(torch.arange(40) % 4, 4)
    assert even == {"used": 4, "effective": pytest.approx(4), "smallest": 0.25, "distance": 0}
    lone = coverage(torch.zeros(10, dtype=torch.int64), 4, [0.7, 0.1, 0.1, 0.1])
    assert lone == {"used": 1, "effective": pytest.approx(1), "smallest": 0, "distance": pytest.approx(0.3)}
    label = torch.arange(30) % 3
    shifted = agreement((label + 1) % 3, label, 5)
    assert shifted == {"own": 0, "matched": 1, "purity": 1, "nmi": pytest.approx(1)}
    merged = agreement(label // 2, label, 2)  # classes 0 and 1 share a mode
    assert merged["matched"] == merged["purity"] == pytest.approx(2 / 3) and 0 < merged["nmi"] < 1


def test_a_grid_shows_every_picture_where_it_belongs(tmp_path):
    from PIL import Image

    images = torch.rand(5, 3, 4, 4)
    write_image_grid(tmp_path / "new" / "grid.png", images, columns=3, scale=1)
    with Image.open(tmp_path / "new" / "grid.png") as image:
        pixels = np.asarray(image) / 255
    assert pixels.shape == (12, 18, 3)
    assert np.abs(pixels[7:11, 7:11] - images[4].permute(1, 2, 0).numpy()).max() < 1 / 255
    assert (pixels[6:, 12:][1:-1, 1:-1] == 1).all()  # the empty place
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]
    write_image_grid(tmp_path / "grey.png", images[:, :1], columns=5)
    with Image.open(tmp_path / "grey.png") as image:
        assert image.size == (60, 12) and image.mode == "L"

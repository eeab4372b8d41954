import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import mixing_reference

from mote.datasets.mixing import EXTENTS, METHODS, Mixer, mix

SIZE = (5, 12, 20)  # T, H, W: nothing square


def levels(count: int) -> torch.Tensor:
    """Clips (B, T, 3, H, W) of one grey level each, so that a mixed pixel tells its mask."""
    return (torch.arange(count, dtype=torch.uint8) * 30).view(-1, 1, 1, 1, 1).expand(-1, SIZE[0], 3, *SIZE[1:])


def mixed(count=5, seed=0, **options):
    """A mixed batch of `levels`, labels 0, 1, 2, ... (so that the target names the partner), and its masks."""
    mixer = Mixer(options.pop("methods", tuple(METHODS)), count, **options)
    batch = {"frames": levels(count), "label": torch.arange(count)}
    out = mixer(batch, np.random.default_rng(seed))
    return batch, out


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(9,), (9, 14), (4, 7, 10)])
@pytest.mark.parametrize("lam", [0.0, 0.1, 0.499, 0.5, 0.8, 1.0])
def test_masks_are_the_papers(method, shape, lam):
    middle = tuple(n // 3 for n in shape)
    centre = torch.tensor([[(c + 0.5) / n for c, n in zip(middle, shape, strict=True)]], dtype=torch.float64)
    ours = METHODS[method](torch.tensor([lam], dtype=torch.float64), centre, shape, 0.5).expand(1, *shape)[0]
    theirs = mixing_reference.mask(method, lam, middle, shape, 0.5)
    for pixel, value in theirs.items():
        assert ours[pixel].item() == pytest.approx(value, abs=1e-9)
    if method in ("mixup", "hmix"):
        assert ours.mean().item() == pytest.approx(lam, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    method=st.sampled_from(sorted(METHODS)),
    extent=st.sampled_from(sorted(EXTENTS)),
    count=st.integers(2, 7),
    seed=st.integers(0, 10**6),
    alpha=st.sampled_from([0.05, 0.2, 1.0, 5.0]),
    per_sample=st.booleans(),
)
def test_lambda_is_the_mean_of_the_mask_and_the_target_names_the_partner(
    method, extent, count, seed, alpha, per_sample
):
    batch, out = mixed(count, seed, methods=(method,), extent=extent, alpha=alpha, per_sample=per_sample)
    assert out["frames"].dtype == torch.float32 and out["target"].shape == (count, count)
    torch.testing.assert_close(out["target"].sum(1), torch.ones(count))
    for i in range(count):
        own = out["target"][i, i].item()
        others = [j for j in range(count) if j != i and out["target"][i, j] > 0]
        assert len(others) <= 1 and (others or own == 1)
        if others:  # mixed = M * own + (1 - M) * other
            mine, other = batch["frames"][i].float(), batch["frames"][others[0]].float()
            mask = (out["frames"][i] - other) / (mine - other)
            assert mask.min() >= -1e-5 and mask.max() <= 1 + 1e-5
            assert mask.mean().item() == pytest.approx(own, abs=1e-5)
            assert torch.equal(mask[:, 0], mask[:, 1]) and torch.equal(mask[:, 0], mask[:, 2])  # channels
            if extent == "space":  # a tube
                assert all(torch.equal(mask[0], frame) for frame in mask)


@pytest.mark.parametrize("method", METHODS)
def test_measured_lambda_to_one_millionth(method):
    mixer = Mixer((method,), 2, extent="spacetime")
    batch = {"frames": torch.zeros(50, 8, 1, 30, 44), "label": torch.tensor([0, 1] * 25)}
    batch["target"] = torch.eye(50)
    out = mixer(batch, np.random.default_rng(0))
    cycle = np.random.default_rng(0)
    cycle.permutation(50)
    masks = mixer.masks(50, (8, 30, 44), cycle)
    assert (out["target"].diagonal() - masks.double().mean((1, 2, 3))).abs().max() < 1e-6


def test_partners_form_one_cycle_through_odd_and_even_batches():
    for count in (2, 3, 5, 8):
        _, out = mixed(count, methods=("mixup",))
        follow, seen = 0, []
        for _ in range(count):
            follow = int((out["target"][follow] * (torch.arange(count) != follow)).argmax())
            seen.append(follow)
        assert sorted(seen) == list(range(count))
    _, alone = mixed(1, methods=("cutmix",))
    assert torch.equal(alone["frames"], levels(1).float()) and alone["target"].tolist() == [[1.0]]


def test_mixing_before_normalising_is_mixing_after_it():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (4, 2, 3, 6, 5), dtype=torch.uint8, generator=generator)
    mask, partner = torch.rand(4, 1, 1, 6, 5, generator=generator), torch.tensor([2, 0, 3, 1])
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    before = (mix(x, mask, partner).double() / 255 - mean) / std
    normal = (x.double() / 255 - mean) / std
    torch.testing.assert_close(before, mask * normal + (1 - mask) * normal[partner], rtol=0, atol=2e-6)
    hard = (mask > 0.5).float()
    assert torch.equal(mix(x, hard, partner), torch.where(hard.bool(), x, x[partner]).float())  # no rounding


def test_soft_targets_are_mixed_like_pixels_and_equal_labels_merge():
    mixer, rng = Mixer(("mixup",), 3), np.random.default_rng
    soft = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.5, 0.5]])
    out = mixer({"images": torch.zeros(2, 1, 4, 4), "label": torch.tensor([0, 1]), "target": soft}, rng(3))
    lam = out["target"][:, 0] / torch.tensor([0.7, -0.7]) + torch.tensor([0.0, 1.0])
    expected = lam[:, None] * soft + (1 - lam[:, None]) * soft.flip(0)
    torch.testing.assert_close(out["target"], expected)
    same = mixer({"images": torch.zeros(2, 1, 4, 4), "label": torch.tensor([1, 1])}, rng(3))
    torch.testing.assert_close(same["target"], torch.tensor([[0.0, 1.0, 0.0]] * 2))


def test_undecodable_clips_are_nobodys_partner():
    batch = {
        "frames": levels(6),
        "label": torch.arange(6),
        "valid": torch.tensor([True, False, True, True, True, True]),
    }
    for seed in range(10):
        out = Mixer(tuple(METHODS), 6)(batch, np.random.default_rng(seed))
        assert out["target"][1].tolist() == [0, 1, 0, 0, 0, 0]
        assert not out["target"][[0, 2, 3, 4, 5], 1].any()


def test_per_batch_and_per_sample_choice():
    rng = np.random.default_rng
    once = Mixer(tuple(METHODS), 2, per_sample=False).masks(6, SIZE, rng(0))
    assert all(torch.equal(once[0], mask) for mask in once)
    each = Mixer(tuple(METHODS), 2).masks(400, SIZE, rng(0))
    kinds = {
        "hard": sum(set(mask.unique().tolist()) == {0.0, 1.0} for mask in each),
        "flat": sum(len(mask.unique()) == 1 and 0 < mask.max() < 1 for mask in each),
    }
    assert 60 < kinds["hard"] < 130 and 70 < kinds["flat"] < 130  # a quarter each, but for boxes of no size
    never = Mixer(tuple(METHODS), 2, probability=0.0).masks(50, SIZE, rng(0))
    assert torch.equal(never, torch.ones_like(never))
    some = Mixer(("mixup",), 2, probability=0.3).masks(1000, SIZE, rng(0))
    assert 0.25 < (some.flatten(1)[:, 0] < 1).float().mean() < 0.35


def test_the_second_order_expansion_of_the_loss_holds_exactly_where_it_should():
    """L_mixed = L + R1 + R2 for a linear f and a quadratic h, with a_ij of the masks (Park et al., section 3)."""
    generator = torch.Generator().manual_seed(1)
    n, side = 4, 3
    x = torch.randn(n, side * side, generator=generator, dtype=torch.float64)
    y, w = torch.randn(n, generator=generator).double(), torch.randn(side * side, generator=generator).double()
    h = lambda f: f**2 / 2  # noqa: E731
    for method in METHODS:
        masks = Mixer((method,), 2).masks(200, (1, side, side), np.random.default_rng(5)).double()
        masks = masks.expand(200, 1, side, side).flatten(1)
        lam = masks.mean(1)
        loss, i, j = 0.0, *torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
        i, j = i.flatten(), j.flatten()
        for m, share in zip(masks, lam, strict=True):  # every pair under every mask
            both = mix(torch.cat([x[i], x[j]]), m.expand(2 * n * n, -1), torch.arange(2 * n * n).roll(n * n))
            f = both[: n * n] @ w
            loss += (h(f) - (share * y[i] + (1 - share) * y[j]) * f).mean() / len(masks)
        cut = torch.cat([1 - masks, masks])  # with probability lambda in its role, else in the other's
        weight = torch.cat([lam, 1 - lam]) / len(masks)
        a = torch.einsum("s,si,sj->ij", weight, cut, cut)
        f = x @ w
        centred = x[None] - x[:, None]  # (k, r, d)
        r1 = ((f - y) * (centred.mean(1) * (weight @ cut) @ w)).mean()
        covariance = torch.einsum("kri,krj->ij", centred, centred) / n**2
        r2 = 0.5 * torch.einsum("ij,i,j,ij->", a, w, w, covariance)
        plain = (h(f) - y * f).mean()
        assert loss.item() == pytest.approx((plain + r1 + r2).item(), abs=1e-6)


def test_mistakes():
    with pytest.raises(ValueError, match="choose among mixup, cutmix, hmix, gmix"):
        Mixer(("cutup",), 2)
    with pytest.raises(ValueError, match="extent 'tube'"):
        Mixer(("mixup",), 2, extent="tube")
    with pytest.raises(ValueError, match="alpha > 0"):
        Mixer(("mixup",), 2, alpha=0.0)
    with pytest.raises(ValueError, match="is for clips"):
        batch = {"images": torch.zeros(2, 1, 4, 4), "label": torch.zeros(2).long()}
        Mixer(("cutmix",), 2, extent="time")(batch, np.random.default_rng(0))

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from oracles import released_reference
from PIL import Image

from mote.datasets.decoding.decode import read_frames
from mote.datasets.lists.manifest import Record
from mote.datasets.sampling import segment_indices
from mote.datasets.transforms import eval_transform, random_region, subtract_frames, to_grey, train_transform
from mote.datasets.video import VideoDataset
from mote.files.preprocessing import CUT_FIRST, Preprocessing


def natural(height: int, width: int, frames: int = 2, seed: int = 0) -> np.ndarray:
    """Pictures with detail at every scale: noise, smoothed and enlarged by powers of two, summed."""
    rng = np.random.default_rng(seed)
    total = np.zeros((frames, height, width, 3))
    for octave in range(1, 6):
        small = rng.normal(size=(frames, (height >> octave) + 2, (width >> octave) + 2, 3)) * 2**octave
        for frame, image in enumerate(small):
            for channel in range(3):
                layer = Image.fromarray(image[..., channel].astype(np.float32))
                total[frame, ..., channel] += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC))
    return (128 + total * 1.5).clip(0, 255).astype(np.uint8)


def pil_square(
    frame: np.ndarray,
    box: tuple[int, int, int, int],
    size: int,
    filter: Image.Resampling = Image.Resampling.BICUBIC,
) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).crop(box).resize((size, size), filter)).transpose(2, 0, 1)


@pytest.mark.parametrize("shape", [(240, 320), (360, 202), (50, 50), (96, 97)])
@pytest.mark.parametrize("size", [64, 224])
def test_the_square_of_older_models_is_cut_first_and_resized_then(shape, size):
    frames = natural(*shape)
    (height, width), side = shape, min(shape)
    left, top = (width - side) // 2, (height - side) // 2
    views = eval_transform(frames, size, preprocessing=CUT_FIRST)
    assert (views.shape, views.dtype) == ((1, 2, 3, size, size), torch.uint8)
    for frame, ours in zip(frames, views[0].numpy(), strict=True):
        theirs = pil_square(frame, (left, top, left + side, top + side), size, Image.Resampling.BILINEAR)
        assert abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("shape", [(240, 320), (256, 341), (360, 202), (97, 96), (20, 33), (224, 224)])
@pytest.mark.parametrize("resize", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_test_frames_are_those_of_open_clip(shape, resize, interpolation):
    frames, fill = natural(*shape, frames=1), 90
    for size in (64, 97, 224):
        theirs = image_transform(
            size, False, (0.0,) * 3, (1.0,) * 3, resize_mode=resize, interpolation=interpolation, fill_color=fill
        )
        reference = (255 * theirs(Image.fromarray(frames[0]))).round().numpy()
        ours = eval_transform(frames, size, preprocessing=Preprocessing(interpolation, resize, (fill,) * 3))[0, 0]
        difference = abs(ours.numpy() - reference)
        assert difference.mean() < 0.5 and difference.max() <= 2


def test_bars_have_the_colour_of_the_network():
    frames = np.full((2, 20, 40, 3), 200, np.uint8)
    view = eval_transform(frames, 16, preprocessing=Preprocessing(resize="longest", fill=(1, 2, 3)))[0, 0]
    assert (view[:, 4:12] == 200).all()
    for bar in (view[:, :4], view[:, 12:]):
        assert bar.flatten(1).unique(dim=1).tolist() == [[1], [2], [3]]


def test_real_clips_are_prepared_as_by_the_authors(real_data):
    """Bicubic, short side first, then the centre, by PIL: the acceptance of CLIP backbones."""
    paths = sorted((real_data / "hmdb51_5clips").glob("*.avi"))
    for path in paths:
        frames = read_frames(path, lambda length: segment_indices(length, 2))
        clip = VideoDataset([Record(path, 0)], num_frames=2, size=224, train=False)[0]["frames"][0]
        for frame, ours in zip(frames, clip.numpy(), strict=True):
            picture, short = Image.fromarray(frame), min(frame.shape[:2])
            sides = tuple(224 * side // short for side in picture.size)
            picture = picture.resize(sides, Image.Resampling.BICUBIC)
            left, top = round((picture.width - 224) / 2), round((picture.height - 224) / 2)
            theirs = np.asarray(picture.crop((left, top, left + 224, top + 224))).transpose(2, 0, 1)
            difference = abs(ours.astype(int) - theirs)
            assert difference.mean() < 0.1 and difference.max() <= 2
    assert len(paths) == 5


def test_three_crops_are_cut_from_the_resized_frame_also_where_one_would_be_squashed():
    frames = natural(120, 200)
    plain = eval_transform(frames, 90, crops=3)
    squashing = Preprocessing(resize="squash")
    assert eval_transform(frames, 150, preprocessing=squashing).shape == (1, 2, 3, 150, 150)
    assert torch.equal(plain, eval_transform(frames, 90, crops=3, preprocessing=squashing))
    whole = Image.fromarray(frames[0]).resize((150, 90), Image.Resampling.BICUBIC)
    for view, left in zip(plain, (0, 30, 60), strict=True):
        theirs = np.asarray(whole.crop((left, 0, left + 90, 90))).transpose(2, 0, 1)
        assert abs(view[0].numpy().astype(int) - theirs).max() <= 2


@pytest.mark.parametrize("landscape", [True, False])
def test_three_crops_go_along_the_longer_side(landscape):
    frames = natural(90, 150) if landscape else natural(150, 90)
    views = eval_transform(frames, 90, crops=3)
    assert views.shape == (3, 2, 3, 90, 90)
    for view, start in zip(views, (0, 30, 60), strict=True):
        part = frames[:, :, start : start + 90] if landscape else frames[:, start : start + 90]
        assert torch.equal(view, torch.from_numpy(part).permute(0, 3, 1, 2))
    assert torch.equal(views[1], eval_transform(frames, 90)[0])


@pytest.mark.parametrize("shape", [(90, 157), (155, 90), (90, 90)])
def test_quarters_lie_where_the_authors_code_cuts_them(shape):
    frames = natural(*shape)
    views = eval_transform(frames, 90, crops=3, quarters=True)
    left, right, middle = released_reference.squares(frames[0], 90, 3)
    for view, theirs in zip(views, (left, middle, right), strict=True):
        assert np.array_equal(view[0].numpy(), theirs)
    assert torch.equal(eval_transform(frames, 90, quarters=True), eval_transform(frames, 90))


def test_other_crop_counts_are_refused():
    with pytest.raises(ValueError, match="crops must be 1 or 3, got 5"):
        eval_transform(natural(20, 30), 10, crops=5)


def test_training_clip_is_the_drawn_region_resized():
    frames = natural(120, 160, frames=3)
    top, left, height, width = random_region(120, 160, np.random.default_rng(5), (0.08, 1.0), (3 / 4, 4 / 3))
    clip = train_transform(frames, 64, np.random.default_rng(5), flip=0.0, grayscale=0.0)
    assert (clip.shape, clip.dtype) == ((3, 3, 64, 64), torch.uint8)
    for frame, ours in zip(frames, clip.numpy(), strict=True):
        theirs = pil_square(frame, (left, top, left + width, top + height), 64)
        assert abs(ours.astype(int) - theirs).max() <= 1


def test_one_draw_for_all_frames():
    frames = np.repeat(natural(60, 80, frames=1), 4, axis=0)
    for seed in range(10):
        clip = train_transform(frames, 32, np.random.default_rng(seed))
        assert all(torch.equal(clip[0], frame) for frame in clip[1:])


def test_the_generator_decides_everything():
    frames = natural(60, 80)
    first, again, other = (train_transform(frames, 32, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_flip_mirrors_the_same_crop():
    frames = natural(60, 80)
    plain = train_transform(frames, 32, np.random.default_rng(3), flip=0.0, grayscale=0.0)
    flipped = train_transform(frames, 32, np.random.default_rng(3), flip=1.0, grayscale=0.0)
    assert np.array_equal(flipped.numpy(), plain.numpy()[..., ::-1])


def test_grey_is_pils_luma_of_the_same_crop():
    frames = natural(60, 80)
    plain = train_transform(frames, 32, np.random.default_rng(3), flip=0.0, grayscale=0.0)
    grey = train_transform(frames, 32, np.random.default_rng(3), flip=0.0, grayscale=1.0)
    for colour, result in zip(plain.numpy(), grey.numpy(), strict=True):
        luma = np.asarray(Image.fromarray(colour.transpose(1, 2, 0)).convert("L"))
        assert all(np.array_equal(channel, luma) for channel in result)
    assert torch.equal(to_grey(grey), grey)


def test_flips_and_greys_come_as_often_as_asked():
    frames = np.zeros((1, 8, 8, 3), np.uint8)
    frames[:, :, :4, 0] = 200  # red on the left half
    rng = np.random.default_rng(0)
    clips = [
        train_transform(frames, 8, rng, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.3, grayscale=0.2)
        for _ in range(2000)
    ]
    flipped = np.mean([clip[0, 0, 0, 0].item() == 0 for clip in clips])
    grey = np.mean([clip[0, 1].max().item() > 0 for clip in clips])
    assert abs(flipped - 0.3) < 0.04
    assert abs(grey - 0.2) < 0.04


@pytest.mark.parametrize("shape", [(240, 320), (100, 400), (7, 5), (1, 50), (50, 1), (1, 1)])
def test_regions_lie_inside_with_the_area_and_aspect_asked_for(shape):
    height, width = shape
    rng = np.random.default_rng(0)
    for _ in range(300):
        top, left, h, w = random_region(height, width, rng, (0.08, 1.0), (3 / 4, 4 / 3))
        assert 0 <= top <= top + h <= height
        assert 0 <= left <= left + w <= width
        assert h > 0
        assert w > 0
        if min(shape) >= 100:
            assert 0.07 < h * w / (height * width) <= 1
            assert 0.72 < w / h < 1.38


def test_areas_are_spread_evenly():
    rng = np.random.default_rng(0)
    regions = [random_region(256, 256, rng, (0.2, 0.6), (3 / 4, 4 / 3)) for _ in range(3000)]
    shares = np.array([h * w for _, _, h, w in regions]) / 256**2
    assert abs(np.quantile(shares, [0.25, 0.5, 0.75]) - [0.3, 0.4, 0.5]).max() < 0.02


def test_a_region_that_never_fits_falls_back_to_the_widest_central_one():
    region = random_region(10, 400, np.random.default_rng(0), (1.0, 1.0), (3 / 4, 4 / 3))
    assert region == (0, 193, 10, 13)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3)])
def test_tiny_frames_are_enlarged(shape):
    frames = np.full((2, *shape, 3), 77, np.uint8)
    assert (eval_transform(frames, 16, crops=3) == 77).all()
    assert (train_transform(frames, 16, np.random.default_rng(0)) == 77).all()


def drawn(count: int, scale=(0.1, 0.1), ratio=(0.5, 3.0), size=(600, 600)) -> np.ndarray:
    """(count, 4): top, left, height, width."""
    rng = np.random.default_rng(0)
    return np.array([random_region(*size, rng, scale, ratio) for _ in range(count)])


def test_the_logarithm_of_the_aspect_is_spread_evenly_also_where_the_ratio_is_not_symmetric():
    """Width over height, from 1/2 to 3: its logarithm has the quantiles of a uniform, its own mean is not 1."""
    regions = drawn(2000)
    aspect = regions[:, 3] / regions[:, 2]
    assert 0.49 < aspect.min() < 0.52 and 2.9 < aspect.max() < 3.05
    low, high = np.log(0.5), np.log(3.0)
    quantiles = np.quantile(np.log(aspect), [0.1, 0.25, 0.5, 0.75, 0.9])
    assert abs(quantiles - (low + (high - low) * np.array([0.1, 0.25, 0.5, 0.75, 0.9]))).max() < 0.06
    assert abs(regions[:, 2] * regions[:, 3] / 360_000 - 0.1).max() < 0.002  # whatever the aspect


def test_the_first_and_the_last_row_and_column_are_drawn_and_no_other_place_is_missed():
    regions = drawn(600, scale=(0.25, 0.25), ratio=(1.0, 1.0), size=(8, 12))  # 96 pixels: 5 x 5 of area 24
    assert set(regions[:, 2]) == set(regions[:, 3]) == {5}
    assert set(regions[:, 0]) == set(range(4)) and set(regions[:, 1]) == set(range(8))
    counts = np.bincount(regions[:, 0])
    assert counts.min() > 110 and counts.max() < 190  # 150 each


def test_a_region_as_large_as_the_frame_is_the_frame_without_a_fallback():
    assert set(map(tuple, drawn(5, scale=(1.0, 1.0), ratio=(1.5, 1.5), size=(20, 30)))) == {(0, 0, 20, 30)}


@pytest.mark.parametrize(
    ("size", "ratio", "region"),
    [
        ((400, 10), (3 / 4, 4 / 3), (193, 0, 13, 10)),  # too tall: the smallest ratio of width to height
        ((10, 400), (3 / 4, 4 / 3), (0, 193, 10, 13)),  # too wide: the largest
        ((10, 400), (0.5, 3.0), (0, 185, 10, 30)),
        ((400, 10), (0.5, 3.0), (190, 0, 20, 10)),
    ],
)
def test_the_fallback_is_central_and_as_wide_or_tall_as_the_ratio_allows(size, ratio, region):
    assert random_region(*size, np.random.default_rng(0), (1.0, 1.0), ratio) == region


class Counting(np.random.Generator):
    """Counts the draws of shares and aspects; the share is the largest until `fits_at`, then the smallest."""

    def __init__(self, fits_at: int):
        super().__init__(np.random.PCG64(0))
        self.draws, self.fits_at = 0, fits_at

    def uniform(self, low, high):
        self.draws += 1
        return low if self.draws > 2 * self.fits_at else high


def test_ten_draws_are_tried_before_the_fallback():
    rng = Counting(fits_at=99)
    assert random_region(100, 400, rng, (0.2, 1.0), (0.9, 1.1)) == (0, 145, 100, 110) and rng.draws == 20
    rng = Counting(fits_at=9)
    assert random_region(100, 400, rng, (0.2, 1.0), (0.9, 1.1))[2:] == (94, 85) and rng.draws == 20


def test_the_defaults_are_those_of_inception_crops():
    frames = natural(60, 80)
    chosen = {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3), "flip": 0.5, "grayscale": 0.2}
    for seed in range(8):
        plain, named = (train_transform(frames, 24, np.random.default_rng(seed), **o) for o in ({}, chosen))
        assert torch.equal(plain, named)


def test_a_clip_of_the_right_size_is_not_interpolated():
    frames = natural(32, 32)
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "grayscale": 0.0}
    clip = train_transform(frames, 32, np.random.default_rng(0), **whole)
    assert torch.equal(clip, torch.from_numpy(frames).permute(0, 3, 1, 2))


def test_differences_are_of_later_minus_earlier_around_mid_grey():
    rng = np.random.default_rng(0)
    pairs = torch.from_numpy(rng.integers(0, 256, (2, 6, 3, 4, 4), dtype=np.uint8))  # two views of three pairs
    found = subtract_frames(pairs)
    assert (found.shape, found.dtype) == ((2, 3, 3, 4, 4), torch.uint8)
    for view in range(2):
        for t in range(3):
            expected = 128 + pairs[view, t + 3].numpy().astype(int) - pairs[view, t].numpy().astype(int)
            assert np.array_equal(found[view, t].numpy(), expected.clip(0, 255))
    assert (subtract_frames(torch.full((4, 3, 2, 2), 9, dtype=torch.uint8)) == 128).all()

"""The world of habits: its classes, how clips fade, and the files that are written."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from mote.datasets.synthetic.clips import MOTIONS, PRETRAINED, render_clip, split_class
from mote.datasets.synthetic.habits import CLASSES, HABITS, fade, make_habits, render_habit


def test_every_object_has_one_habit_and_every_group_has_all_motions():
    objects = [split_class(title)[0] for titles in HABITS.values() for title in titles]
    assert sorted(objects) == sorted(PRETRAINED)
    for titles in HABITS.values():
        counts = [sum(split_class(title)[1] == motion for title in titles) for motion in MOTIONS]
        assert sum(counts) == len(titles) and max(counts) - min(counts) <= 1 and min(counts) >= 1


class Drawn:
    """Stands in for a generator: the numbers that are wanted, and no noise."""

    def __init__(self, saturation: float, contrast: float, side: int):
        self.floats, self.side = [saturation, contrast], side

    def uniform(self, low: float, high: float) -> float:
        value = self.floats.pop(0)
        assert low <= value <= high
        return value

    def integers(self, low: int, high: int, shape=None, dtype=int):
        if shape is not None:
            return np.zeros(shape, dtype)
        return self.side if (low, high) == (2, 4) else low


@pytest.mark.parametrize("side", [2, 3])
def test_clips_fade_as_pillow_fades_them(side):
    clip = render_clip(np.random.default_rng(3), "red star", "moving left", 4)
    faded = fade(Drawn(0.5, 0.7, side), clip)
    mean = np.mean([np.asarray(ImageEnhance.Color(Image.fromarray(f)).enhance(0.5), float).mean() for f in clip])
    for frame, ours in zip(clip, faded, strict=True):
        pale = np.asarray(ImageEnhance.Color(Image.fromarray(frame)).enhance(0.5), dtype=float)
        pale = Image.fromarray(np.clip(np.rint(mean + 0.7 * (pale - mean)), 0, 255).astype(np.uint8))
        if side == 3:
            wanted = np.asarray(pale.filter(ImageFilter.BoxBlur(1)), dtype=float)
        else:  # each pixel with its neighbours to the right and below
            x = np.asarray(pale, dtype=float)
            right = np.concatenate([x[:, 1:], x[:, -1:]], axis=1)
            wanted = (x + right) / 2
            wanted = (wanted + np.concatenate([wanted[1:], wanted[-1:]])) / 2
        assert np.abs(ours - wanted).max() <= 2 and np.abs(ours - wanted).mean() < 0.6


def test_noise_is_grey_and_within_its_bounds():
    flat = np.full((6, 16, 16, 3), 128, np.uint8)
    amplitudes = set()
    for seed in range(60):
        faded = fade(np.random.default_rng(seed), flat).astype(int)
        assert (faded == faded[..., :1]).all()
        amplitudes.add(int(np.abs(faded - 128).max()))
    assert amplitudes == {2, 3, 4, 5, 6, 7}


def test_the_files_are_those_of_the_classes(tmp_path):
    splits = make_habits(tmp_path, seed=4, clips_per_class=dict.fromkeys(CLASSES, 1), num_frames=2, workers=0)
    assert set(splits) == {*CLASSES, "unseen_objects"}
    assert splits["train"].classes == splits["closed_test"].classes == splits["closed_choice"].classes
    assert splits["unseen_objects"].manifest == splits["unseen"].manifest
    named = splits["unseen_objects"].classes.read_text().splitlines()
    assert named == [split_class(title)[0] for title in splits["unseen"].classes.read_text().splitlines()]
    lines = splits["choice"].manifest.read_text().splitlines()
    assert lines == [f"choice/{i:05d}.mp4 {i}" for i in range(12)]
    before = (tmp_path / "choice" / "00003.mp4").stat().st_mtime_ns
    make_habits(tmp_path, seed=4, clips_per_class=dict.fromkeys(CLASSES, 1), num_frames=2, workers=0)
    assert (tmp_path / "choice" / "00003.mp4").stat().st_mtime_ns == before


def test_a_clip_depends_on_its_seed_alone():
    one, two = (render_habit(np.random.default_rng(1), "red star bouncing", 3) for _ in range(2))
    assert (one == two).all() and one.shape == (3, 64, 64, 3)

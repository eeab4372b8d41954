"""Faces found in pictures that are built from real ones: place, roll, and what is said where there is none."""

import csv

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2", reason="needs the extra `faces`")

from mote.datasets import face_crop
from mote.datasets.face_crop import (
    MARGIN,
    NoFaceError,
    Square,
    cut,
    face_of_frame,
    face_of_image,
    find_face,
    median_face,
)


@pytest.fixture(scope="module")
def portraits(real_data) -> list[Image.Image]:
    """Real faces, 160 pixels."""
    with (real_data / "faces" / "LABELS.csv").open() as file:
        paths = [row["path"] for row in csv.DictReader(file)][:8]
    return [Image.open(real_data / "faces" / path).convert("RGB").resize((160, 160)) for path in paths]


def scene(portrait: Image.Image, x: int, y: int) -> np.ndarray:
    """A portrait in a large picture of dull noise."""
    pixels = np.random.default_rng(0).integers(90, 130, (240, 300, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture.paste(portrait, (x, y))
    return np.asarray(picture)


def test_real_faces_are_found_where_they_were_put(portraits):
    found = [(find_face(scene(one, 100, 50)), one) for one in portraits]
    places = [np.hypot(square.x - 180, square.y - 130) for square, _ in found if square is not None]
    assert len(places) >= 6 and np.median(places) < 16  # a tenth of the portrait


def test_a_turned_face_comes_out_upright(portraits):
    turned = []
    for one in portraits:
        level, tilted = (
            find_face(scene(one, 100, 50)),
            find_face(scene(one.rotate(-12, fillcolor=(110,) * 3), 100, 50)),
        )
        if level and tilted and level.roll and tilted.roll:
            turned.append(tilted.roll - level.roll)
    assert len(turned) >= 3 and np.median(turned) == pytest.approx(12, abs=3)


def test_the_cut_is_the_picture_turned_about_the_centre():
    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((121, 121), Image.Resampling.BICUBIC))
    plain = cut(pixels, Square(60, 60, 50, 0.0))
    side = round(50 * (1 + 2 * MARGIN))
    assert plain.shape == (side, side, 3) and side == 60
    half = cut(pixels, Square(60, 60, 50, 90.0))  # falls to the right by 90 degrees: turned back counter-clockwise
    assert np.abs(half.astype(int) - np.rot90(plain)).max() <= 1
    corner = cut(pixels, Square(0, 0, 50, 0.0))
    assert np.array_equal(corner[0, 0], pixels[0, 0])  # outside, the border goes on


def test_a_clip_is_cut_by_the_median_square_and_no_face_is_told(monkeypatch):
    frames = np.random.default_rng(2).integers(0, 256, (4, 120, 120, 3), dtype=np.uint8)
    found = iter([Square(50, 60, 40, 0), None, Square(54, 70, 44, 4), Square(51, 61, 41, 1)])
    monkeypatch.setattr(face_crop, "find_face", lambda frame: next(found, None))
    assert median_face(np.stack([face_of_frame(frame) for frame in frames]), "clip.mp4") == Square(51, 61, 41, 1)
    with pytest.raises(NoFaceError, match=r"wall\.png: no face was found"):
        face_of_image(frames[0], "wall.png")
    monkeypatch.setattr(face_crop, "find_face", lambda frame: Square(50, 60, 40, 3))
    assert np.array_equal(face_of_image(frames[0], "a.png"), cut(frames[0], Square(50, 60, 40, 3)))


def test_a_wall_has_no_face():
    assert find_face(np.full((80, 80, 3), 100, np.uint8)) is None


def test_without_opencv_one_line_tells_what_to_install(monkeypatch):
    face_crop._cascade.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(ValueError, match=r"pip install 'mote-video\[faces\]'"):
        face_crop.check_installed()

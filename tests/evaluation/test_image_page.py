"""The faces of an expression page: which, how many, in their own colours and the right way up."""

from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from mote.evaluation.image_page import SIDE, overlay, shown_faces

CLASSES = ["calm", "glad", "odd"]


def dataset(channels: int, num: int):
    """Faces of random pixels, all different."""
    pixels = torch.randint(0, 256, (num, channels, 12, 12), generator=torch.Generator().manual_seed(0)).byte()
    return SimpleNamespace(data=SimpleNamespace(classes=CLASSES), image=lambda epoch, place: pixels[place]), pixels


def rows(num: int) -> list[dict[str, str]]:
    """Every second prediction right, of the first two classes in turn; the last face is of the third."""
    found = []
    for place in range(num):
        label = CLASSES[2] if place == num - 1 else CLASSES[place // 2 % 2]
        right = place % 2 == 0
        shown = label if right else CLASSES[(CLASSES.index(label) + 1) % 3]
        probability = f"{0.4 + place / (2 * num):.9f}"
        cells = {"path": f"{place}.png", "label": label, "predicted": shown, "correct": str(int(right)), "valid": "1"}
        found.append(cells | {"probability": probability, "label_probability": probability, "top5": shown})
    return found


def model():
    """Attention that lies on the upper left for the first class, on the lower right for the others."""
    maps = torch.zeros(1, 3, 4, 4)
    maps[0, 0, 0, 0] = maps[0, 1:, 3, 3] = 5
    return SimpleNamespace(logits_and_places=lambda images: (None, maps))


@pytest.mark.parametrize("channels", [1, 3])
def test_faces_are_shown_as_they_are(channels, monkeypatch):
    data, pixels = dataset(channels, 30)
    kept = []
    monkeypatch.setattr("mote.evaluation.image_page.shown_clip", lambda row, frames, under: kept.append(
        (row, frames, under)) or row["path"])  # fmt: skip
    best, worst = shown_faces(model(), data, rows(30), {"calm", "glad"})
    assert len(best) == len(worst) == 6 and "29.png" not in {*best, *worst}
    for row, frames, under in kept:
        face = pixels[int(row["path"].removesuffix(".png"))].expand(3, 12, 12).float()
        large = interpolate(face[None], (SIDE, SIDE), mode="bicubic")[0].clamp(0, 255)
        assert np.array_equal(frames[0], large.permute(1, 2, 0).round().byte().numpy())
        assert under[0] == "the face" and under[1].startswith(f"true: {row['label']}, at most ")
        bright = frames[1].astype(int).sum(axis=2) - frames[0].astype(int).sum(axis=2)
        corner = np.abs(bright[:20, :20]).mean() - np.abs(bright[-20:, -20:]).mean()
        assert frames.shape == (3, SIDE, SIDE, 3) and corner != 0


def test_a_face_that_is_not_symmetric_is_not_turned():
    face = np.zeros((8, 8, 3), np.uint8)
    face[:, 4:] = 200  # the right half
    large = overlay(face, None, side=16)
    assert (large[:, :6] < 40).all() and (large[:, 10:] > 160).all()


def test_an_overlay_covers_a_quarter_where_nothing_is_seen_and_three_where_most_is():
    """White under the darkest and the brightest colour of the map."""
    face, share = np.full((8, 8, 3), 255, np.uint8), np.zeros((2, 2), np.float32)
    dark, bright = ((255 * np.array(matplotlib.colormaps["inferno"](value)[:3])) for value in (0.0, 1.0))
    for fill, colour, cover in ((0.0, dark, 0.25), (1.0, bright, 0.75)):
        found = overlay(face, share + np.float32(fill), side=16)
        np.testing.assert_allclose(found, np.broadcast_to((1 - cover) * 255 + cover * colour, found.shape), atol=1)

"""The contact sheet: which clips, which frames, and what stands under them, read back from its HTML."""

import base64
import re
from io import BytesIO

import numpy as np
import pytest
from made_evaluation import dots, make_evaluation
from PIL import Image

from mote.reporting.contact_sheet import (
    ShownClip,
    contact_sheet,
    largest_change,
    pick_clips,
    shown_clip,
    side_for,
)

TOP = [("skiing", 0.75), ("surfing", 0.2), ("<b>", 0.05)]


def clip(importance=None, label="skiing", frames=None):
    frames = dots(4) if frames is None else frames
    return ShownClip("a/b.mp4", frames, label, TOP, None if importance is None else np.array(importance))


def jpegs(html):
    return [
        np.asarray(Image.open(BytesIO(base64.b64decode(data))))
        for data in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    ]


def cells(html):
    """(text, background, ink) of each cell of the strips, the legend's left out."""
    strips = "".join(re.findall(r'<div class="frames".*?<ol', html, re.DOTALL))
    return re.findall(r'class="change" style="background: (#\w+); color: (#\w+)">([^<]*)<', strips)


def test_best_and_worst_are_the_surest_right_and_wrong(tmp_path):
    made = make_evaluation(tmp_path, list("abcde"), clips_each=20)
    best, worst = pick_clips(made.predictions, 6)
    scores = made.scores
    confidence, predicted = scores.probabilities.max(axis=1), scores.probabilities.argmax(axis=1)
    right = [i for i in range(100) if scores.valid[i] and predicted[i] == scores.label[i]]
    wrong = [i for i in range(100) if scores.valid[i] and predicted[i] != scores.label[i]]
    true = scores.probabilities[np.arange(100), scores.label]
    assert len(best) == len(worst) == 6
    np.testing.assert_allclose(true[best], sorted(true[right])[::-1][:6])
    np.testing.assert_allclose(confidence[worst], sorted(confidence[wrong])[::-1][:6])
    assert set(best) <= set(right) and set(worst) <= set(wrong)


def test_ties_keep_the_order_and_undecoded_clips_are_never_picked():
    rows = [("0.5", "1", "1"), ("", "0", "0"), ("0.5", "1", "1"), ("0.9", "0", "1"), ("0.95", "1", "1")]
    rows = [{"probability": p, "correct": correct, "valid": valid} for p, correct, valid in rows]
    assert pick_clips(rows, 6) == ([4, 0, 2], [3])
    assert pick_clips(rows, 1) == ([4], [3])
    assert pick_clips(rows, 0) == ([], [])
    with pytest.raises(ValueError, match="count is -1"):
        pick_clips(rows, -1)


def test_a_row_becomes_a_picture(tmp_path):
    made = make_evaluation(tmp_path, ["a", "b", "c"])
    picture = shown_clip(made.predictions[4], dots(2), np.zeros(2))
    assert (picture.path, picture.label) == ("videos/a/00004.mp4", "a")
    order = made.scores.probabilities[4].argsort()[::-1]
    assert [name for name, _ in picture.top] == [made.classes[k] for k in order]
    np.testing.assert_allclose([p for _, p in picture.top], made.scores.probabilities[4][order], rtol=1e-8)
    assert picture.correct == (order[0] == 0)


def test_frames_are_shown_small_and_in_order():
    frames = dots(5, 200, 400)
    shown = jpegs(contact_sheet([clip(frames=frames)]))
    assert [image.shape for image in shown] == [(88, 176, 3)] * 5
    small = [Image.fromarray(frame).resize((176, 88), Image.Resampling.BOX) for frame in frames]
    apart = np.array([[np.abs(image.astype(float) - np.asarray(own)).mean() for own in small] for image in shown])
    assert apart.argmin(axis=1).tolist() == [0, 1, 2, 3, 4]
    assert apart.diagonal().max() < 1.5 < 3 < apart[~np.eye(5, dtype=bool)].min()
    assert [image.shape for image in jpegs(contact_sheet([clip(frames=dots(1, 20, 30))]))] == [(20, 30, 3)]
    alts = re.findall(r'alt="([^"]+)"', contact_sheet([clip()]))
    assert alts == [f"frame {i} of 4" for i in (1, 2, 3, 4)]


def test_strip_shows_sign_and_size_by_colour_and_text():
    found = cells(contact_sheet([clip([-2.0, 0.0, 1.0, 2.0])]))
    assert [text for _, _, text in found] == ["\u22122.0", "0", "+1.0", "+2.0"]
    assert [colour for colour, _, _ in found] == ["#d55e00", "#f2f2f2", "#79b2d2", "#0072b2"]  # the third is halfway


def test_one_scale_for_all_strips():
    clips = [clip([-8.0, 0, 0, 0]), clip([-2.0, 0, 0, 0])]
    assert largest_change([*clips, clip()]) == 8
    assert contact_sheet(clips) == contact_sheet(clips, scale=8.0)
    both, alone = cells(contact_sheet(clips)), cells(contact_sheet(clips[1:]))
    assert both[4][0] != both[0][0] == alone[0][0] == "#d55e00"


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return np.dot([0.2126, 0.7152, 0.0722], [c / 12.92 if c < 0.04 else ((c + 0.055) / 1.055) ** 2.4 for c in channels])


def test_text_on_colour_is_readable():
    steps = np.linspace(-3, 3, 61)
    for background, ink, _ in cells(contact_sheet([clip(steps, frames=dots(61, 8, 8))])):
        bright, dark = sorted([luminance(background), luminance({"#000": "#000000", "#fff": "#ffffff"}[ink])])[::-1]
        assert (bright + 0.05) / (dark + 0.05) >= 4.5


def test_no_importance_no_strip():
    html = contact_sheet([clip()])
    assert "change" not in html and "legend" not in html
    assert largest_change([clip()]) == 0
    zero = contact_sheet([clip([0.0, 0.0, 0.0, 0.0])])
    assert [text for _, _, text in cells(zero)] == ["0"] * 4


@pytest.mark.parametrize(("value", "text"), [(0.0123, "+0.012"), (0.5, "+0.50"), (37.4, "+37"), (3e-9, "0")])
def test_digits_follow_the_largest_change(value, text):
    assert cells(contact_sheet([clip([value, 0, 0, 0])]))[0][2] == text


def test_bars_have_the_lengths_of_the_probabilities():
    html = contact_sheet([clip(label="surfing")])
    bars = re.findall(r'<li class="(\w+)"><span class="name">([^<]*)<.*?width: ([\d.]+)%.*?value">([^<]*)<', html)
    assert bars == [
        ("taken", "skiing", "75.00", "75.0 %"),
        ("true", "surfing (true)", "20.00", "20.0 %"),
        ("other", "&lt;b&gt;", "5.00", "5.0 %"),
    ]
    assert "<h3>surfing: taken for skiing</h3>" in html
    assert "<h3>skiing: right</h3>" in contact_sheet([clip()])


def test_the_true_class_is_always_among_the_bars():
    row = {"path": "x", "label": "z", "predicted": "a"}
    row |= {f"top{k}": name for k, name in enumerate("abcde", 1)} | {f"top{k}_probability": "0.1" for k in range(1, 6)}
    html = contact_sheet([shown_clip({**row, "label_probability": "0.02"}, dots(1))])
    assert html.count("<li") == 6 and "z (true)" in html and "2.0 %" in html
    older = contact_sheet([shown_clip(row, dots(1))])  # a table that does not say it
    assert "z (true)" in older and "&lt; 10.0 %" in older


def test_words_below_frames_are_their_description():
    shown = ShownClip("x", dots(2), "skiing", TOP, under=["the face", "true: <b>"])
    html = contact_sheet([shown])
    assert html.count("true: &lt;b&gt;") == 2 and 'alt="the face"' in html
    with pytest.raises(ValueError, match="1 texts below 2 frames"):
        ShownClip("x", dots(2), "skiing", TOP, under=["the face"])


def test_nearly_uniform_probabilities_get_more_digits():
    top = [("a", 0.00252), ("b", 0.00251)]
    html = contact_sheet([ShownClip("x", dots(1), "a", top)])
    assert "0.2520 %" in html and "0.2510 %" in html


def test_clips_that_cannot_be_shown_are_named():
    with pytest.raises(ValueError, match=r"a/b\.mp4: 3 importances for 4 frames"):
        clip([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"a/b\.mp4: 0 frames, 3 classes"):
        clip(frames=dots(4)[:0])
    with pytest.raises(ValueError, match="not finite"):
        clip([1.0, np.nan, 0.0, 0.0])


@pytest.mark.parametrize("num_frames", [8, 32])
def test_a_sheet_of_noise_stays_below_3_mb(num_frames):
    frames = np.random.default_rng(0).integers(0, 256, (num_frames, 240, 240, 3), dtype=np.uint8)
    clips = [clip(frames=frames)] * 12
    assert len(contact_sheet(clips, side=side_for(clips))) < 3_000_000

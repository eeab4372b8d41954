"""The page of a timeline: what stands in it, and where its links lead."""

import re
from itertools import pairwise

import numpy as np
import pytest

from mote.reporting.timeline_page import (
    COLOURS,
    POINTS,
    ShownTimeline,
    clock,
    link_to,
    most_probable,
    small,
    strip_times,
    timeline_markup,
    write_timeline_page,
)

NAMES = [f"class {k}" for k in range(8)] + ["<script>"]


def shown(count=2000, link="a%20b.mp4", threshold=0.3):
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(9), count)
    frames = [(moment, rng.integers(0, 256, (90, 160, 3), dtype=np.uint8)) for moment in strip_times(100.0)]
    segments = [(0.0, 20.0, "class 3", 0.5), (20.0, 50.0, None, 0.2), (50.0, 90.0, "<script>", 0.9)]
    segments += [(90.0 + k, 91.0 + k, f"class {k}", 0.4) for k in (0, 1, 2, 4, 5, 6, 7)] + [
        (98.0, 100.0, "class 3", 1.0)
    ]
    centres = np.linspace(1, 99, count)
    return ShownTimeline("a b.mp4", link, 100.0, frames, centres, scores, NAMES, segments, threshold)


def test_names_of_segments_come_first_by_their_time():
    assert most_probable(shown())[:2] == ["<script>", "class 3"] and len(most_probable(shown())) == len(COLOURS)


def test_markup_has_frames_bars_curves_and_links():
    html = timeline_markup(shown(), "How & why.")
    assert html.count("<img ") == 16 and html.count("<polyline ") == len(COLOURS)
    assert html.count('class="named"') == 10 and html.count('class="none"') == 1
    assert 'href="a%20b.mp4#t=50.000" data-t="50.000"' in html and "&lt;script&gt;" in html and "How &amp; why." in html
    assert "left: 50.000%; width: 40.000%" in html and 'class="threshold"' in html and 'y1="70.00"' in html
    points = re.findall(r'points="([^"]*)"', html)
    assert all(len(curve.split()) == POINTS for curve in points)
    x, y = np.array([pair.split(",") for pair in points[0].split()], dtype=float).T  # the last name is drawn first
    column = NAMES.index(most_probable(shown())[-1])
    edges = np.unique(np.linspace(0, 2000, POINTS + 1).astype(int))
    means = [shown().scores[a:b, column].mean() for a, b in pairwise(edges)]
    assert y == pytest.approx(100 - 100 * np.array(means), abs=0.01) and (np.diff(x) > 0).all()


def test_without_a_video_nothing_is_clickable():
    html = timeline_markup(shown(count=1, link=None, threshold=None), "")
    assert "<a " not in html and "<video" not in html and "<script>" not in html and "data-t" not in html
    assert 'class="threshold"' not in html and html.count("<polyline ") == len(COLOURS)


def test_page_is_one_file_without_network(tmp_path):
    page = write_timeline_page(
        tmp_path / "page.html", shown(), "note", {"model": "tiny", "hashes": {"weights": "ab12"}}
    )
    text = page.read_text()
    assert "Timeline: a b.mp4" in text and "ab12" in text and [*tmp_path.iterdir()] == [page]
    assert "http" not in text


def test_links_lead_to_videos_beside_the_page(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("x #1?.mp4", "deep/y.mp4"):
        (tmp_path / name).touch()
    page = tmp_path / "page.html"
    assert link_to(str(tmp_path / "x #1?.mp4"), page) == "x%20%231%3F.mp4"
    assert link_to(str(tmp_path / "deep/y.mp4"), page) == "deep/y.mp4"
    assert link_to(str(tmp_path / "x #1?.mp4"), tmp_path / "deep" / "page.html") is None
    assert link_to("https://example.org/a.mp4", page) is None


def test_small_frames_and_clocks():
    assert small(np.zeros((1080, 1920, 3), np.uint8)).shape == (90, 160, 3)
    texts = {0.0: "0:00.0", 59.96: "1:00.0", 61.25: "1:01.2", 3600.0: "1:00:00.0", 36001.5: "10:00:01.5"}
    assert {moment: clock(moment) for moment in texts} == texts

"""The page of a search: hits with frames, escaped, alone; whole on a phone."""

import numpy as np

from mote.reporting.search_page import ShownHit, write_search_page

EVIL = "<script>alert('&')</script>"


def hits(count: int) -> list[ShownHit]:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (90, 160, 3), dtype=np.uint8) for _ in range(count)]
    path = "videos/" + "a_long_name_without_any_blank" * 4 + EVIL
    return [
        ShownHit(path, f"{i}.00 - {i + 1}.00 s", 0.3 - i / 100, None if i == 2 else frame)
        for i, frame in enumerate(frames)
    ]


def test_each_hit_has_its_frame_its_place_and_its_score(tmp_path):
    page = write_search_page(tmp_path / "hits.html", {EVIL: hits(4), "nothing": []}, {"templates": ["{}"]})
    html = page.read_text()
    assert html.count("data:image/jpeg") == 3 and html.count("no frame could be decoded") == 1
    assert "<script>" not in html and html.count("&lt;script&gt;") == 6  # the query and its link, and a path four times
    for words in (
        "<b>1.</b> 0.3000",
        "<b>4.</b> 0.2700",
        "3.00 - 4.00 s",
        "overflow-wrap: anywhere",
        "<h2>nothing</h2>",
    ):
        assert words in html
    assert "http:" not in html and "https:" not in html

"""Every kind of page, with few and many classes and hostile names: its structure, and in Chromium how it looks."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import find_browser, look_at
from made_pages import HOSTILE, KINDS, eval_page, frontier_rows, make_pages, protocol_page, search_page, timeline_page

from mote.demos.videos_page import Errors, errors_of
from mote.reporting.compare_page import verdict as compare_verdict
from mote.reporting.frontier_page import conclusion as frontier_conclusion

VOID = {"meta", "link", "img", "br", "input", "source"}
WIDTHS = (1440, 800, 400)
QUICK = {"eval": eval_page, "search": search_page, "protocol": protocol_page}


class Reader(HTMLParser):
    """Tags, attributes and text of a page; tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def problems(page: Path) -> list[str]:
    """What is wrong with the structure of a page."""
    html, reader = page.read_text(encoding="utf-8"), Reader()
    reader.feed(html)
    assert not reader.open
    wrong = [f"{mark} in the page" for mark in ("<script>alert", "<b>bold", "@import") if mark in html]
    tags = [tag for tag, _ in reader.found]
    wrong += [f"no {tag}" for tag in ("h1", "h2", "nav", "header", "main") if tag not in tags]
    wrong += [f"no {name}" for name in ("conclusion", "card") if f'class="{name}"' not in html]
    for tag, given in reader.found:
        for name in ("src", "href", "xlink:href", "srcset", "poster"):
            if (place := given.get(name)) and not re.match(r"data:|#|[\w./%-]+$", place):
                wrong.append(f"{tag} {name} {place[:60]}")
        if (tag == "img" and not given.get("alt")) or (tag == "svg" and not given.get("aria-label")):
            wrong.append(f"{tag} without words")
    ids = [given["id"] for _, given in reader.found if "id" in given]
    wrong += [f"id {name} twice" for name in {*ids} if ids.count(name) > 1]
    wrong += [
        f"link to {given['href']}"
        for tag, given in reader.found
        if tag == "a" and (given.get("href") or "").startswith("#") and (given["href"] or "")[1:] not in ids
    ]
    return wrong


@pytest.mark.parametrize("kind", QUICK)
def test_structure(kind, tmp_path):
    assert problems(QUICK[kind](tmp_path, len(HOSTILE))) == []


def test_structure_of_a_timeline_with_many_segments(tmp_path):
    html = timeline_page(tmp_path, 3).read_text()
    assert "Show all 50 segments" in html and 'class="segments sorts' in html
    assert "takes 28 % of the video" in html  # of a hundred seconds the first name has 14 segments of two


def report(difference: float, p: float) -> dict:
    return {
        "difference": difference,
        "p_value": p,
        "difference_interval": [difference - 0.01, difference + 0.01],
        "videos": 9,
    }


def test_conclusions_follow_the_numbers():
    assert (
        compare_verdict(report(0.1, 0.001))
        == "b is better than a: b minus a is +10.0 points [+9.0, +11.0], p = 0.001, 9 videos."
    )
    assert compare_verdict(report(-0.1, 0.001)).startswith("a is better than b: b minus a is -10.0")
    assert compare_verdict(report(-0.1, 0.2)).startswith("No difference between a and b can be shown")
    rows = frontier_rows()
    best = max(rows, key=lambda row: row["harmonic_mean"])
    text = frontier_conclusion(rows)
    assert f"“{best['name']}”, {100 * best['harmonic_mean']:.1f} %" in text
    assert ("is not on the frontier" in text) != next(row["pareto"] for row in rows if row["name"] == "model")


def test_where_a_model_errs_is_counted():
    rows = [
        ("red star moving left", named) for named in ("red star moving left", "red star growing", "red ball growing")
    ]
    rows += [("red star moving left", "blue ball moving left"), ("blue ball growing", "")]
    table = [{"label": label, "predicted": predicted} for label, predicted in rows]
    assert errors_of([table]) == Errors(0.2, 0.2, 0.2, 0.4)
    assert errors_of([[{"label": "surfing", "predicted": "surfing"}]]) is None


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    find_browser()
    return make_pages(tmp_path_factory.mktemp("pages"), (2, 72, 400, 1000))


@pytest.mark.slow
def test_structure_of_every_page(pages):
    assert {name.rpartition(" ")[0] for name in pages} >= {*KINDS}
    assert {name: found for name, page in pages.items() if (found := problems(page))} == {}


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_every_page_fits_and_is_read_at_three_widths(pages, tmp_path, dark):
    console, found = look_at(pages, WIDTHS, tmp_path, dark=dark)
    assert console == []
    assert len(found) == len(WIDTHS) * len(pages) and all(one["dark"] == dark for one in found.values())
    for key in ("wide", "faint", "unnamed", "loaded", "twice"):
        assert {name: one[key][:6] for name, one in found.items() if one[key]} == {}, key
    assert {name: one["page"] for name, one in found.items() if one["page"] > 0} == {}


@pytest.mark.slow
def test_the_test_sees_what_goes_wrong(tmp_path):
    bad = tmp_path / "bad.html"
    style = '<p style="width: 900px; color: #999; background: #fff">x</p><svg width="9" height="9"></svg>'
    bad.write_text(
        f'<img src="http://example.org/a.png">{style}<p id="a">.</p><p id="a">.</p><script>missing();</script>'
    )
    console, found = look_at({"bad": bad}, (400,), tmp_path, dark=False)
    one = found["bad at 400"]
    assert any("missing is not defined" in line for line in console)
    assert (
        one["wide"] and one["faint"] and "img" in one["unnamed"] and "svg" in one["unnamed"] and one["twice"] == ["a"]
    )
    assert one["loaded"] == ["http://example.org/a.png"] and one["page"] > 0

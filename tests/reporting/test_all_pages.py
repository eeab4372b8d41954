"""Every kind of page, with few and many classes and hostile names: its structure, and in Chromium how it looks."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import find_browser, look_at
from made_pages import HOSTILE, KINDS, compare_page, diagnose_page, eval_page, make_pages, search_page, timeline_page

VOID = {"meta", "link", "img", "br", "input", "source"}
WIDTHS = (1440, 800, 400)
QUICK = {"eval": eval_page, "diagnose": diagnose_page, "compare": compare_page, "search": search_page}


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

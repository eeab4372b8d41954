"""The report page and the text tables."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from mote.reporting.inline_svg import inline_svg
from mote.reporting.page import (
    Head,
    Section,
    command_line,
    data_uri,
    day,
    markdown_table,
    percent,
    text_table,
    tradeoff_table,
    write_page,
)

VOID = {"meta", "link", "img", "br", "input"}
EVIL = "<script>alert('&')</script>"


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


SVG = """<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/svg11.dtd">
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 40 20" width="40pt">
<metadata>http://example.org</metadata><defs><path id="p" d="M0 0" style="stroke: #0072b2; fill: #ffffff"/></defs>
<use xlink:href="#p"/><g clip-path="url(#p)"><text style="fill: #000000">line</text></g></svg>"""


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "dot.png"
    Image.new("RGB", (2, 2), "red").save(path)
    return path


@pytest.fixture
def page(tmp_path, picture):
    svg = tmp_path / "line.svg"
    svg.write_text(SVG)
    sections = [
        Section("Result", "Some words.", table=[{"method": EVIL, "top-1": "61.4 [58.1, 64.6]"}]),
        Section("Pictures", figures=[(picture, 'a "red" dot'), (svg, "a line")]),
        Section("Commands", commands=["mote eval a b=c > d", "mote demo"]),
        Section("Provenance", facts={"config": {"lr": 1e-4, "path": Path("x/y")}, "name": "\udce9.mp4 ü"}),
    ]
    return write_page(tmp_path / "new" / "index.html", f"Report {EVIL}", sections)


def read(page):
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    reader.close()
    assert not reader.open
    return reader


def test_page_is_well_formed_and_complete(page):
    reader = read(page)
    text = "".join(reader.text)
    for words in ("Some words.", "61.4 [58.1, 64.6]", "mote eval a b=c > d\nmote demo", '"lr": 0.0001', "x/y", "ü"):
        assert words in text
    assert [tag for tag in reader.tags if tag == "h2"] == ["h2"] * 4
    assert ("img", "alt", 'a "red" dot') in reader.attributes
    assert any(name == "name" and value == "viewport" for _, name, value in reader.attributes)


def test_page_stands_alone(page):
    reader = read(page)
    sources = [value for _, name, value in reader.attributes if name in {"src", "href", "srcset", "poster", "action"}]
    assert len(sources) == 2 + 4  # a picture and the empty icon, and links to the four sections
    assert all(source.startswith(("data:", "#part-")) for source in sources)
    html = page.read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert "script" not in reader.tags  # nothing to sort


def test_figures_take_the_colours_of_the_page_and_ids_of_their_own(page):
    html = page.read_text(encoding="utf-8")
    figure = html[html.index("<svg") : html.index("</svg>")]
    assert 'role="img" aria-label="a line"' in figure and 'viewBox="0 0 40 20"' in figure
    assert "stroke: var(--c0); fill: none" in figure and "fill: currentColor" in figure
    assert 'id="f2-p"' in figure and 'href="#f2-p"' in figure and "url(#f2-p)" in figure and "metadata" not in figure
    with pytest.raises(ValueError, match="has no <svg>"):
        inline_svg("<html></html>", "", "f1")


def test_page_escapes_what_it_is_given(page):
    reader = read(page)
    assert "script" not in reader.tags
    assert "".join(reader.text).count(EVIL) == 3  # title, heading, cell


def test_the_head_says_what_is_known(tmp_path):
    head = Head(f"It works {EVIL}.", [("92.8 %", "top-1"), ("3", "lost")], model="tiny", date="30 November 2026")
    reader = read(write_page(tmp_path / "index.html", "Title", [Section("Alone", "words")], head))
    text = "".join(reader.text)
    assert EVIL in text and "92.8 %" in text and "30 November 2026" in text and "nav" not in reader.tags
    assert head.about == [("model", "tiny"), ("date", "30 November 2026")]
    assert (day("2026-11-03T12:00:00+00:00"), day(None), day("soon")) == ("3 November 2026", "", "")


def test_long_tables_are_sorted_and_folded_and_intervals_stand_apart(tmp_path):
    rows = [{"class": f"c{i}", "recall": percent(i / 30, (0, 1))} for i in range(30)]
    html = write_page(
        tmp_path / "index.html", "T", [Section("A", table=rows), Section("B", table=rows[:20])]
    ).read_text()
    assert html.count("<input") == 1 and "Show all 30 rows" in html and html.count('<table class="sorts ') == 2
    assert '<td class="number between"' in html and '0.0 <span class="interval">[0.0, 100.0]</span>' in html
    assert html.count("<script>") == 1


def test_the_command_is_that_of_mote(monkeypatch):
    for program, said in (
        ("/x/bin/mote", "mote eval 'a b'"),
        ("/x/mote/__main__.py", "mote eval 'a b'"),
        ("pytest", ""),
    ):
        monkeypatch.setattr("sys.argv", [program, "eval", "a b"])
        assert command_line() == said


def test_data_uri_holds_the_file(picture, tmp_path):
    kind, data = data_uri(picture).split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == picture.read_bytes()
    with pytest.raises(ValueError, match=r"clip\.mp4: expected an image file"):
        data_uri(tmp_path / "clip.mp4")
    with pytest.raises(FileNotFoundError):
        data_uri(tmp_path / "absent.png")


def test_empty_parts_leave_no_trace(tmp_path):
    reader = read(write_page(tmp_path / "index.html", "Title", [Section("Alone", "words")]))
    assert not {"table", "img", "pre", "details", "nav", "dl"} & set(reader.tags)


def test_percent():
    assert percent(0.6144) == "61.4"
    assert percent(1.0, (0.9, 1.0)) == "100.0 [90.0, 100.0]"


ROWS = [
    {"method": "plain", "clips": 9, "top-1": "8.1 [5.0, 9.9]"},
    {"method": "動作 | ours", "clips": 400, "top-1": "91.0 [87.8, 93.4]"},
]


def test_text_table_is_aligned():
    assert text_table(ROWS).splitlines() == [
        "method       clips              top-1",
        "-----------  -----  -----------------",
        "plain            9     8.1 [5.0, 9.9]",
        "動作 | ours    400  91.0 [87.8, 93.4]",
    ]


def test_markdown_table():
    assert markdown_table(ROWS).splitlines() == [
        "| method | clips | top-1 |",
        "| --- | --: | --: |",
        "| plain | 9 | 8.1 [5.0, 9.9] |",
        "| 動作 \\| ours | 400 | 91.0 [87.8, 93.4] |",
    ]


def test_tables_need_equal_columns():
    with pytest.raises(ValueError, match="row has columns b; expected a"):
        text_table([{"a": 1}, {"b": 2}])
    with pytest.raises(ValueError, match="at least one row"):
        markdown_table([])


def test_tradeoff_table():
    row = {
        "method": "ours",
        "closed_set": 0.9,
        "closed_set_interval": (0.85, 0.95),
        "zero_shot": 0.5,
        "zero_shot_interval": (0.4, 0.6),
        "harmonic_mean": 0.643,
        "harmonic_mean_interval": (0.6, 0.7),
        "zero_shot_sets": {"pairs": 0.6, "objects": 0.43},
    }
    assert tradeoff_table([row]) == [
        {
            "method": "ours",
            "closed-set": "90.0 [85.0, 95.0]",
            "zero-shot pairs": "60.0",
            "zero-shot objects": "43.0",
            "zero-shot": "50.0 [40.0, 60.0]",
            "harmonic mean": "64.3 [60.0, 70.0]",
        }
    ]
    assert list(tradeoff_table([{**row, "zero_shot_sets": {"pairs": 0.5}}])[0]) == [
        "method",
        "closed-set",
        "zero-shot",
        "harmonic mean",
    ]

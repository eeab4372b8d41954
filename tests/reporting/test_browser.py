"""A page opened in headless Chromium: nothing on its console, nothing from the network, nothing wider than a phone."""

import json
import re

import numpy as np
import pytest
from browser import find_browser, open_page
from evaluated_clips import settings, write_clips
from made_evaluation import make_clips, make_evaluation
from PIL import Image
from video_files import numbered_frames, write_video

from mote.cli import main
from mote.reporting.evaluation_page import write_evaluation_page
from mote.reporting.search_page import ShownHit, write_search_page
from mote.reporting.timeline_page import COLOURS, ShownTimeline, link_to, strip_times, write_timeline_page

# A phone is a frame of 420 pixels: windows cannot be that narrow everywhere. What it measures is written into the dump.
# Beside it the page in wider frames, which a picture of the window shows: each start of the browser takes a second.
PHONE = """<!DOCTYPE html><body style="margin: 0; width: 420px; overflow-wrap: anywhere">
<iframe src="{page}" style="width: 420px; height: 800px; border: 0"></iframe>{wide}<script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument, images = [...page.images];
  document.body.append("<<" + JSON.stringify({{
    wide: page.documentElement.scrollWidth, room: page.documentElement.clientWidth,
    images: images.length, loaded: images.filter(image => image.naturalWidth > 0).length,
    frame: page.querySelector(".frames img")?.getBoundingClientRect().width }}) + ">>");
}});</script>"""


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Open a file with further flags: (what it wrote on the console, standard output)."""
    browser = find_browser()
    return lambda file, *flags: open_page(browser, tmp_path_factory.mktemp("profile"), file, *flags)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    made = make_evaluation(folder / "made", ["climbing", "fight", "no fight", "surfing", "a walk in the park"])
    return write_evaluation_page(folder / "page" / "index.html", made.result, made.predictions, make_clips(made))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The page that `mote eval` draws, of synthetic clips and the built-in tiny CLIP."""
    folder = tmp_path_factory.mktemp("evaluated")
    write_clips(folder)
    more = [f"evaluation.unknown={folder / 'other.csv'}", "evaluation.name=page of eval"]
    with pytest.raises(SystemExit, match="0"):
        main(["eval", "tiny", *settings(folder, *more), "--out", str(folder)])
    return folder / "page of eval" / "index.html"


def measure(browse, page, folder):
    """(what the page wrote on the console, what a phone measures)."""
    console, found, _ = shown(browse, page, folder, (), 800)
    return console, found


def shown(browse, page, folder, widths, height):
    """As `measure`, and the pixels (H, W, 3) of the page in a frame of each of the `widths`."""
    wrapper, picture = folder / "phone.html", folder / "screen.png"
    lefts = [420 + sum(widths[:i]) for i in range(len(widths) + 1)]
    wide = "".join(
        f'<iframe src="{page.as_uri()}" style="position: absolute; top: 0; left: {left}px; width: {width}px; '
        f'height: {height}px; border: 0"></iframe>'
        for left, width in zip(lefts, widths, strict=False)
    )
    wrapper.write_text(PHONE.format(page=page.as_uri(), wide=wide))
    taken = [f"--screenshot={picture}", f"--window-size={lefts[-1]},{height}"] if widths else []
    console, dump = browse(wrapper, "--allow-file-access-from-files", "--dump-dom", *taken)
    found = json.loads(re.findall(r"&lt;&lt;(.*?)&gt;&gt;", dump)[0])
    return console, found, [window(picture, left, width, height) for left, width in zip(lefts, widths, strict=False)]


def window(picture, left, width, height):
    with Image.open(picture) as image:
        assert image.size[0] >= left + width and image.size[1] == height
        return np.asarray(image.convert("RGB"))[:, left : left + width]


@pytest.mark.slow
def test_page_is_quiet_and_whole_on_a_phone(browse, page, tmp_path):
    console, found = measure(browse, page, tmp_path)
    assert console == []
    assert found["images"] == found["loaded"] == page.read_text().count("<img") > 30
    assert found["wide"] == found["room"] <= 420
    assert found["frame"] >= 80  # four frames a line


def test_page_of_a_search_is_quiet_and_whole_on_a_phone(browse, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 90, 160, 3), dtype=np.uint8)
    hits = [ShownHit("videos/" + "name_without_blank" * 9, "1.00 - 2.00 s", 0.25, frame) for frame in [*frames, None]]
    console, found = measure(browse, write_search_page(tmp_path / "hits.html", {"a red car": hits}, {"a": 1}), tmp_path)
    assert console == [] and found["wide"] == found["room"] <= 420
    assert found["images"] == found["loaded"] == 5


def test_page_of_an_evaluation_is_quiet_offline_and_readable_at_two_widths(browse, evaluated, tmp_path):
    html = evaluated.read_text()
    assert "http:" not in html and "https:" not in html and "None of these" in html
    console, found, pictures = shown(browse, evaluated, tmp_path, (600, 1200), 2400)
    assert console == [] and found["wide"] == found["room"] <= 420
    assert found["images"] == found["loaded"] >= 6 * 8  # eight frames of six right clips at least
    for pixels, width in zip(pictures, (600, 1200), strict=True):
        assert pixels.shape == (2400, width, 3)
        below = (pixels[:, 0] == pixels[-1, 0]).all(axis=1)  # of the head, which has a colour of its own
        marked = (pixels != pixels[-1, 0]).any(axis=2)
        assert marked.any(axis=1).mean() > 0.5  # lines that hold something
        assert 0.5 < below.mean() < 0.98 and not marked[below, -4:].any()  # nothing is cut at the right


CLICK = """<!DOCTYPE html><iframe src="{page}" style="width: 400px; height: 800px; border: 0"></iframe><script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument, video = page.querySelector("video");
  const seek = () => {{
    video.addEventListener("seeked", () => document.body.append("<<" + JSON.stringify(video.currentTime) + ">>"));
    page.querySelector(".bars .named:last-child").click();
  }};
  video.readyState ? seek() : video.addEventListener("loadedmetadata", seek);
}});</script>"""


@pytest.fixture(scope="module")
def timeline(tmp_path_factory):
    """The page of a timeline, its video beside it."""
    folder = tmp_path_factory.mktemp("timeline")
    video, frames = folder / "long video.mp4", numbered_frames(100)
    write_video(video, frames)
    scores = np.random.default_rng(0).dirichlet(np.ones(7), 13)
    names = [f"a rather long name of class {k}" for k in range(7)]
    segments = [(0.0, 1.0, names[0], 0.5), (1.0, 2.5, None, 0.2), (2.5, 4.0, names[1], 0.4)]
    strip = [(moment, frames[int(moment * 25)]) for moment in strip_times(4.0)]
    page = folder / "page.html"
    link = link_to(str(video), page)
    shown = ShownTimeline(video.name, link, 4.0, strip, np.linspace(0.5, 3.5, 13), scores, names, segments, 0.3)
    return write_timeline_page(page, shown, "How windows were scored.", {"hashes": {"weights": "ab" * 32}})


def test_timeline_is_quiet_on_a_phone_and_plays_where_it_is_clicked(browse, timeline, tmp_path):
    console, found, (light,) = shown(browse, timeline, tmp_path, (1000,), 1300)
    assert console == [] and found["wide"] == found["room"] <= 420
    assert found["images"] == 16 and "http" not in timeline.read_text()
    wrapper = tmp_path / "click.html"
    wrapper.write_text(CLICK.format(page=timeline.as_uri()))
    console, dump = browse(wrapper, "--allow-file-access-from-files", "--virtual-time-budget=20000", "--dump-dom")
    assert console == [] and re.findall(r"&lt;&lt;(.*?)&gt;&gt;", dump) == ["2.5"]
    file = tmp_path / "dark.png"
    console, _ = browse(timeline, f"--screenshot={file}", "--window-size=1000,1300", "--force-dark-mode")
    assert console == []
    for pixels, bright in (light, True), (window(file, 0, 1000, 1300), False):
        assert (pixels[:, :10].mean() > 200) == bright
        for colour in (COLOURS[0], COLOURS[1]):  # bars and curves
            assert (pixels == list(bytes.fromhex(colour[1:]))).all(-1).sum() > 1000


def test_the_test_sees_what_goes_wrong(browse, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text('<img src="http://example.org/a.png"><p style="width: 900px">x</p><script>missing();</script>')
    console, found = measure(browse, bad, tmp_path)
    assert len(console) == 1 and "missing is not defined" in console[0]
    assert (found["images"], found["loaded"]) == (1, 0)
    assert found["wide"] > found["room"]


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "bright"), [((), True), (("--force-dark-mode",), False)])
def test_screenshot_shows_a_page_in_light_and_dark(browse, page, tmp_path, flags, bright):
    file = tmp_path / "screen.png"
    console, _ = browse(page, f"--screenshot={file}", "--window-size=1000,3000", *flags)
    assert console == []
    with Image.open(file) as image:
        assert image.format == "PNG" and image.size == (1000, 3000)
        pixels = np.asarray(image.convert("RGB"))
    paper = pixels[-1, 0]
    assert (pixels[1000:, :10] == paper).all() and (paper.mean() > 200) == bright  # the margin below the head
    marked = (pixels != paper).any(axis=2)
    assert marked.any(axis=1).mean() > 0.5  # lines that hold something
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 500  # the frames have come up

"""Pages opened in headless Chromium: several at several widths at once, and what is wrong with each of them."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0"]
DARK = ["--force-dark-mode"]
LOOK = Path(__file__).with_name("browser_look.js").read_text()  # a function `look`
FRAMES = """<!DOCTYPE html><meta charset="utf-8"><body>{frames}<script>{look}
addEventListener("load", () => {{
  const found = [...document.querySelectorAll("iframe")].map(frame => look(frame.contentDocument, frame.clientWidth));
  const data = document.createElement("pre");
  data.textContent = "<<" + JSON.stringify(found) + ">>";
  document.body.replaceChildren(data);
}});</script>"""


def find_browser() -> str:
    """The browser; skips the test where there is none."""
    found = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    return found


def open_page(browser: str, profile: Path, file: Path, *flags: str) -> tuple[list[str], str]:
    """(what the page wrote on the console, standard output)."""
    command = [browser, *FLAGS, f"--user-data-dir={profile}", *flags, file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return re.findall(r"CONSOLE.*", done.stderr), done.stdout


def look_at(
    pages: Mapping[str, Path], widths: Sequence[int], folder: Path, *, dark: bool
) -> tuple[list[str], dict[str, dict]]:
    """(console of all, what `LOOK` finds by "name at width") of pages in frames of these widths, in one window."""
    names = [f"{name} at {width}" for name in pages for width in widths]
    frames = "".join(
        f'<iframe src="{html.escape(page.as_uri())}" style="width: {width}px; height: 900px; border: 0"></iframe>'
        for page in pages.values()
        for width in widths
    )
    wrapper = folder / "frames.html"
    wrapper.write_text(FRAMES.format(frames=frames, look=LOOK))
    flags = ["--allow-file-access-from-files", "--dump-dom", *(DARK if dark else [])]
    console, dump = open_page(find_browser(), folder / f"profile {dark}", wrapper, *flags)
    found = json.loads(html.unescape(re.findall(r"&lt;&lt;(.*)&gt;&gt;", dump, re.DOTALL)[0]))
    return console, dict(zip(names, found, strict=True))

"""An SVG figure as part of an HTML page: in the colours of the page, with text that can be read, found and resized.

Figures are drawn on white, in black and in the colours of `mote.reporting.plots`. On a page these become variables of
its style sheet, which has values for light and for dark.
"""

import re
from collections import Counter

from markupsafe import Markup

COLOURS = {  # of figures -> of the page
    "#000000": "currentColor",
    "#ffffff": "none",
    "#0072b2": "var(--c0)",
    "#d55e00": "var(--c1)",
    "#009e73": "var(--c2)",
    "#cc79a7": "var(--c3)",
    "#e69f00": "var(--c4)",
    "#56b4e9": "var(--c5)",
    "#444444": "var(--soft)",
    "#555555": "var(--soft)",
    "#767676": "var(--soft)",
    "#999999": "var(--soft)",
    "#b5b5b5": "var(--line)",
    "#dddddd": "var(--line)",
    "#eeeeee": "var(--line)",
}
LARGEST = 1.75  # CSS pixels for a point of the figure at most: text of 9 points is as large as that of the page then
SIZE = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')


def inline_svg(svg: str, description: str, prefix: str) -> Markup:
    """The <svg> element of a file of matplotlib; `prefix` keeps its ids apart from those of other figures.

    Raises:
        ValueError: no <svg> element.
    """
    start, end = svg.find("<svg"), svg.rfind("</svg>")
    if start < 0 or end < 0:
        if svg[start:].rstrip().endswith("/>") and start >= 0:
            return Markup(_rooted(svg[start:].strip(), description))
        raise ValueError("not an SVG file: it has no <svg> element")
    body = svg[start : end + len("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    seen: Counter[str] = Counter()

    def own(found: re.Match[str]) -> str:
        seen[found[1]] += 1  # equal pictures in one figure have one id
        return f'id="{prefix}-{found[1]}{f"-{seen[found[1]]}" if seen[found[1]] > 1 else ""}"'

    body = re.sub(r'\bid="([^"]*)"', own, body)
    body = re.sub(r'href="#', f'href="#{prefix}-', body)
    body = re.sub(r"url\(#", f"url(#{prefix}-", body)
    body = re.sub(r"#[0-9a-f]{6}\b(?![-\w])", lambda found: COLOURS.get(found[0], found[0]), body)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    return Markup(_rooted(body, description))


def _rooted(body: str, description: str) -> str:
    """The element without the namespaces that HTML knows, as wide as its place, with its description."""
    head, _, rest = body.partition(">")
    size = SIZE.search(head)
    width = f' style="max-width: {LARGEST * float(size[1]):.0f}px"' if size else ""
    box = f' viewBox="{size[0][9:-1]}"' if size else ""
    close = "/" if head.endswith("/") else ""
    label = Markup(' role="img" aria-label="{}"').format(description)
    return f"<svg{box}{width}{label}{close}>{rest}"

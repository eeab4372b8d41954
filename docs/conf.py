"""Settings of Sphinx for the documentation: `uv run sphinx-build -W docs docs/_build`."""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER)]

import generate  # noqa: E402

import mote  # noqa: E402

generate.write(FOLDER / "generated")

project = "mote"
author = "The mote developers"
release = version = mote.__version__
extensions = ["myst_parser", "sphinx.ext.mathjax", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # shell blocks with elided arguments
exclude_patterns = ["_build", "generated/protocols_table.md"]
html_theme = "furo"
html_title = f"mote {mote.__version__}"
html_show_sphinx = False

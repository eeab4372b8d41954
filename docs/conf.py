"""Settings of Sphinx for the documentation: `uv run sphinx-build -W docs docs/_build`."""

import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER)]

import generate  # noqa: E402

import mote  # noqa: E402

generate.write(FOLDER / "generated")

project = "mote"
author = project_copyright = "The mote developers"
release = version = mote.__version__
extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # shell blocks with elided arguments
exclude_patterns = ["_build", "generated/protocols_table.md"]
html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"mote {mote.__version__}"
html_show_sphinx = False


def setup(app):
    """Mathematics as MathML, which browsers draw themselves: nothing is fetched when a page is read."""

    def write(display: str):
        def visit(writer, node):
            formula = convert(node.astext(), display=display)
            writer.body.append(
                formula if display == "inline" else f'<div style="overflow:auto hidden;padding:.4rem 0">{formula}</div>'
            )
            raise nodes.SkipNode

        return visit

    app.add_html_math_renderer("mathml", (write("inline"), None), (write("block"), None))

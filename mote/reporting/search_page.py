"""The page of a search: for each query its hits, best first, each with a frame, its place and its score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mote.reporting.contact_sheet import jpeg
from mote.reporting.page import Section, write_page

TEMPLATE = Path(__file__).with_name("search_page.html.j2")
SIDE = 240  # longest side of a frame in pixels


@dataclass(frozen=True, eq=False)
class ShownHit:
    """A hit: the path of its video, where it lies in it in words, its cosine, and a frame, None where there is none."""

    path: str
    where: str
    score: float
    frame: UInt8[np.ndarray, "H W 3"] | None


def write_search_page(path: Path | str, found: Mapping[str, Sequence[ShownHit]], facts: Mapping[str, object]) -> Path:
    """Write the page of the hits of each query to `path` and return it; facts: where the numbers come from."""
    note = "Scores are cosines of features of videos and texts. Compare them within one query only."
    sections = [Section(query, markup=hits_markup(hits)) for query, hits in found.items()]
    return write_page(path, "Search", [*sections, Section("Provenance", note, facts=facts)])


def hits_markup(hits: Sequence[ShownHit]) -> Markup:
    """Hits as HTML for `Section.markup`."""
    described = [
        {
            "rank": rank,
            "path": hit.path,
            "where": hit.where,
            "score": f"{hit.score:.4f}",
            "image": None if hit.frame is None else jpeg(hit.frame, SIDE),
        }
        for rank, hit in enumerate(hits, 1)
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return Markup(environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(hits=described))

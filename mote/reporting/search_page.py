"""The page of a search: for each query its hits, best first, each with a frame, its place and its score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mote.reporting.contact_sheet import jpeg
from mote.reporting.page import Head, Section, command_line, short, write_page

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
    sections = [
        Section(query, "" if hits else "Nothing was found.", markup=hits_markup(hits) if hits else "")
        for query, hits in found.items()
    ]
    features = str(facts.get("features") or "")
    head = Head(
        conclusion(found), _cards(found), data=f"features in {features}" if features else "", command=command_line()
    )
    return write_page(path, "Search", [*sections, Section("Provenance", note, facts=facts)], head)


def conclusion(found: Mapping[str, Sequence[ShownHit]]) -> str:
    """One sentence: the best hit of the query, or of how many queries there are hits."""
    some = {query: hits for query, hits in found.items() if hits}
    if not some:
        return "Nothing was found."
    if len(found) > 1:
        return f"{len(some)} of {len(found)} queries have hits; scores compare within one query only."
    (query, hits), *_ = some.items()
    where = f", {hits[0].where}" if hits[0].where else ""
    return f"Nearest to “{short(query, 60)}” is {short(hits[0].path, 80)}{where} (cosine {hits[0].score:.3f})."


def _cards(found: Mapping[str, Sequence[ShownHit]]) -> list[tuple[str, str]]:
    hits = [hit for part in found.values() for hit in part]
    cards = [(str(len(found)), "queries"), (str(len(hits)), "hits shown"), (str(len({h.path for h in hits})), "videos")]
    return [*cards, (f"{max(h.score for h in hits):.3f}", "highest cosine")] if hits else cards


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

"""The verb `mote search`: the pieces of encoded videos that are most like a text.

A query is a sentence, and goes into the text tower as it is; class names go into prompt templates, so `--templates`
takes some for queries that are names. The model is the one that encoded the folder: its weights are compared.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mote.datasets.decoding.decode import open_video
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.decoding.reading import Frame
from mote.datasets.lists.class_files import read_templates
from mote.files.addresses import without_secrets
from mote.files.names import check_names
from mote.files.provenance import versions
from mote.files.writing import csv_text, to_json, write_atomic
from mote.inference.classifier import VideoClassifier
from mote.inference.loading import load_video
from mote.models.clip import encode_classes
from mote.prediction.asked import said_with_model
from mote.prediction.encode import feature_hashes, text_hash
from mote.prediction.encodings import FeaturePlan, stored_features, text_facts
from mote.prediction.folder import base_folder
from mote.prediction.nearest import Hit, open_index, search
from mote.prediction.windows import shown
from mote.reporting.search_page import ShownHit, write_search_page

AS_IT_IS = ["{}"]  # the template of a sentence
HEADER = ["query", "rank", "path", "start", "end", "frame", "score"]


@dataclass(frozen=True)
class Request:
    """What `mote search` is asked for.

    Args:
        folder: of features, see `mote.prediction.encodings`.
        queries: texts.
        top: pieces found for each.
        model: where the model lies now; None = where it was when the folder was made.
        templates: file of prompt templates for the queries; None = they are sentences.
        csv_file, json_file, page: where the hits are written.
    """

    folder: str
    queries: Sequence[str]
    top: int = 20
    model: str | None = None
    templates: str | None = None
    csv_file: str | None = None
    json_file: str | None = None
    page: str | None = None


def run(request: Request) -> int:
    """Print and write the best pieces for each query; the exit code 0.

    Raises:
        ValueError, FileNotFoundError: no folder of features, nothing in it, another model, or queries that are none.
    """
    out, queries = Path(request.folder), list(request.queries)
    if request.top < 1:
        raise ValueError(f"--top {request.top}: expected at least 1")
    check_names(queries, "queries")
    templates = AS_IT_IS if request.templates is None else read_templates(request.templates)
    plan = stored_features(out)
    index = open_index(out, plan)
    if not len(index.pieces):
        raise ValueError(f"{out}: holds no features yet; run mote encode with --out {out}")
    model = model_of(out, plan, request.model)
    text = encode_classes(model.towers(), queries, templates, device=model.device)
    found = search(index, text.cpu().numpy().astype(np.float32), request.top)
    for query, hits in zip(queries, found, strict=True):
        print(query)
        for hit in hits:
            print(f"  {hit.score:.4f}  {without_secrets(hit.path)}{in_words(hit)}")
    facts = {"features": request.folder, "settings": plan.document["settings"], "templates": templates}
    _write(request, found, facts | {"versions": versions()})
    return 0


def model_of(out: Path, plan: FeaturePlan, place: str | None = None) -> VideoClassifier:
    """The model that encoded a folder, from where it was then, or from `place`.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it has changed.
    """
    known, backbone = plan.source["model"], plan.source["backbone"]
    with said_with_model(out, place):
        model = load_video(str(place or known), backbone=backbone)
    then = plan.document["settings"]["hashes"]["weights"]
    text = text_facts(out).get("text_tower")
    for what, expected, now in (
        ("weights", then, feature_hashes(model)["weights"]),
        ("text tower", text, None if text is None else text_hash(model)),
    ):
        if expected != now:
            was = f"{what} were {str(expected)[:12]}..., are {str(now)[:12]}..."
            raise ValueError(f"{place or known}: not the model that encoded {out}: {was}; give that one with --model")
    return model


def in_words(hit: Hit) -> str:
    """Where in its video a hit lies."""
    time = "" if hit.start is None or hit.end is None else f"  {hit.start:.2f} - {hit.end:.2f} s"
    return time if hit.frame is None else f"{time}  frame {hit.frame}"


def _write(request: Request, found: Sequence[Sequence[Hit]], facts: Mapping[str, object]) -> None:
    pairs = list(zip(request.queries, found, strict=True))
    if request.csv_file is not None:
        lines = [
            [query, rank, hit.path, hit.start, hit.end, hit.frame, f"{hit.score:.6f}"]
            for query, hits in pairs
            for rank, hit in enumerate(hits, 1)
        ]
        write_atomic(request.csv_file, csv_text(HEADER, lines))
    if request.json_file is not None:
        queries = [{"query": query, "hits": [asdict(hit) for hit in hits]} for query, hits in pairs]
        write_atomic(request.json_file, to_json({**facts, "queries": queries}))
    if request.page is not None:
        base = base_folder(Path(request.folder))
        shown = {query: [_shown(hit, base) for hit in hits] for query, hits in pairs}
        write_search_page(request.page, shown, facts)


def _shown(hit: Hit, base: Path) -> ShownHit:
    return ShownHit(without_secrets(hit.path), in_words(hit).strip(), hit.score, frame_of(hit, base))


def frame_of(hit: Hit, base: Path) -> Frame | None:
    """The frame of a hit, the one in the middle of a window or video; None where it cannot be decoded any more.

    base: where relative paths start.
    """
    path = hit.path if "://" in hit.path else os.path.join(base, hit.path)
    try:
        with open_video(path) as video:
            number = video.num_frames // 2
            if hit.frame is not None:
                number = hit.frame
            elif hit.start is not None and hit.end is not None:
                number = int(shown(video.times, np.array([(hit.start + hit.end) / 2]))[0])
            return video.read([min(max(number, 0), video.num_frames - 1)])[0]
    except (DecodeError, OSError):
        return None

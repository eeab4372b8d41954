"""The verb `mote encode`: features of videos, or of their frames or windows, in a folder that other programs read.

What they are features of: see `pieces`. Frames are those that the model samples of a video, or with `--every` those
shown in the middle of every so many seconds.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import nn
from tqdm import tqdm

from mote.datasets.sources import Source
from mote.files.hashes import sha256_lines
from mote.files.provenance import versions, without_places
from mote.files.tensor_hashes import sha256_tensors
from mote.inference.classifier import VideoClassifier
from mote.inference.loading import load_video
from mote.inference.pipeline import TIMEOUT, File
from mote.prediction.asked import EncodeRequest as Request
from mote.prediction.asked import check_encoding, pace_of
from mote.prediction.encodings import Encoded, FeaturePlan, has_text, write_text
from mote.prediction.folder import open_folder
from mote.prediction.pieces import by_sampling, by_time
from mote.prediction.predict import exit_code, launched, load_for, share_of
from mote.prediction.write import Outcome, write_parts


def encode(request: Request, inputs: Sequence[Source] | None = None) -> int:
    """Write features that are not there yet; the exit code: 0, or 1 when a video has none.

    inputs: what `check_encoding` gave, where the request was checked.

    Raises:
        ValueError, OSError: unknown model, no such file, a folder of something else; before anything slow.
    """
    pace, inputs = pace_of(request), check_encoding(request) if inputs is None else inputs
    out = Path(request.out)
    together = launched()
    device, share = None if together is None else together.device, share_of(request, together)
    model = load_video(request.model, backbone=request.backbone, templates=request.templates, device=device)
    plan = feature_plan(model, request, pace)
    open_folder(out, plan)
    names = request.class_names and model.chosen(request.class_names)
    if names and share.process == 0 and not has_text(out, names):
        facts = {"templates": model.templates, "text_tower": text_hash(model)}
        write_text(out, names, model.text_features(names).cpu().numpy(), facts)
    found = write_parts(
        lambda missing: _with_words(_rows(model, missing, request, pace), len(missing), share.process == 0),
        inputs,
        out,
        plan,
        share=share,
        retry_failed=request.retry_failed,
    )
    _say(out, found)
    return exit_code(found, share)


def _say(out: Path, found: Outcome) -> None:
    mine = "" if found.own == found.listed else f", {found.own} of them here"
    print(f"{out}: {found.listed} videos{mine}: {found.now} encoded now, {found.own - found.now} were there before")
    if found.failed:
        print(f"mote: {found.failed} videos have no features; --retry-failed tries them again", file=sys.stderr)


def _with_words(rows: Iterator[Encoded | None], count: int, shown: bool) -> Iterator[Encoded | None]:
    """The rows; each video moves a bar on, and each failure is said."""
    with tqdm(total=count, unit="video", disable=None if shown and count > 1 else True) as bar:
        before: File | None = None
        for row in rows:
            if row is not None:
                bar.update(row.path != before)
                before = row.path
                if row.error is not None:
                    bar.write(f"mote: skipped: {row.error}", file=sys.stderr)
            yield row


def feature_plan(model: VideoClassifier, request: Request, pace: tuple[float, float] | None) -> FeaturePlan:
    """What decides the features that `request` asks for."""
    settings: dict[str, object] = {
        "hashes": feature_hashes(model),
        "text_tower": _text_tower(model),
        "recipe": model.recipe,
        "clips": request.views.clips,
        "crops": request.views.crops,
        **({} if pace is None else {"window": pace[0], "every": pace[1]}),
        "gate": model.gate,
        "precision": model.precision,
        "device": model.device.type,
        "versions": versions(),
    }
    return FeaturePlan(settings, level=request.level, dim=model.model.embed_dim, source=source_of(model))


def feature_hashes(model: VideoClassifier) -> dict[str, str]:
    """SHA-256 of the weights, and of the prompt templates that text features are made with."""
    return {"weights": sha256_tensors(model.model.state_dict()), "templates": sha256_lines(model.templates)}


def source_of(model: VideoClassifier) -> dict[str, str | None]:
    """Where a model lies, also from elsewhere."""
    assert model.source is not None
    name, backbone = model.source
    return {"model": str(Path(name).absolute()) if Path(name).exists() else name, "backbone": backbone}


def _text_tower(model: VideoClassifier) -> dict[str, str | None]:
    """Whose text tower belongs to the model; where it was tuned, the hash of its weights."""
    known: dict[str, object] = {name: model.meta.get(name) for name in ("backbone", "pretrained")}
    tuned = text_hash(model) if model.meta.get("text_tuned") else None
    return {**without_places(known), "tuned": tuned}


def text_hash(model: VideoClassifier) -> str | None:
    """SHA-256 of the weights of the text tower; None where it has none."""
    tower = model.towers().encode_text
    return sha256_tensors(tower.state_dict()) if isinstance(tower, nn.Module) else None


def _rows(
    model: VideoClassifier, files: Sequence[File], request: Request, pace: tuple[float, float] | None
) -> Iterator[Encoded | None]:
    if pace is not None:
        return by_time(model, files, pace, request.level)
    options = {"load": load_for(len(files), request.workers), "cache": request.cache or "auto", "timeout": TIMEOUT}
    return by_sampling(model, files, request.views, request.level, **options)

"""The verb `mote predict`: name videos, or images with a network for them. A bad file is reported and stops nothing."""

import csv
import io
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from tqdm import tqdm

from mote.datasets.sources import Source
from mote.files.addresses import public_name
from mote.files.provenance import versions
from mote.files.writing import write_together
from mote.inference.asked import Prediction, Views
from mote.inference.classifier import VideoClassifier
from mote.inference.correction import corrected
from mote.inference.features import Load
from mote.inference.loading import load
from mote.inference.model import Namer
from mote.inference.pipeline import TIMEOUT
from mote.inference.threshold import read_threshold
from mote.parallel.launch import has_company
from mote.prediction.asked import EncodeRequest, Request, check_request
from mote.prediction.share import Share

if TYPE_CHECKING:
    from mote.parallel.accelerator import Accelerator
    from mote.prediction.parts import Plan, Result
    from mote.prediction.write import Outcome

NONE = "none of these"
TOP = 5  # names that are printed
WORKERS = 2  # processes that decode, as `data.workers`


def predict(request: Request, files: Sequence[Source] | None = None) -> int:
    """Print the best names of every file and write all scores; the exit code: 0, or 1 when a file was bad.

    files: what `check_request` gave, where the request was checked.

    Processes that a launcher started take turns with the files; the first of them says and writes what all have found.

    Raises:
        ValueError, FileNotFoundError: unknown model, no class names, no such file, a threshold of something else.
    """
    views, files = request.views, check_request(request) if files is None else files
    if request.engine is not None:
        _check_engine(request)
    together = launched()
    device = None if together is None else together.device
    model = load(request.model, backbone=request.backbone, templates=request.templates, device=device)
    if not isinstance(model, Namer):
        raise ValueError(f"{request.model}: an autoencoder names nothing; use mote sample or mote eval")
    if model.kind == "image":
        _check_images(request)
    names = model.chosen(request.class_names)
    if request.csv_file and (taken := {"path", "predicted", "error"} & {*names}):
        raise ValueError(f"--csv: a class is called {taken.pop()!r}, as a column of the table is; write --json instead")
    model = corrected(model, names)
    least = 0.0
    if request.threshold is not None:
        least = read_threshold(request.threshold, lambda: model.hashes(names), clips=views.clips, crops=views.crops)
    rank, processes = (0, 1) if together is None else (together.process_index, together.num_processes)
    if request.out is not None:
        return _into_folder(request, model, names, files, least, share_of(request, together))
    own = files[rank::processes]
    alone = together is None
    bar = tqdm(total=len(own), unit=model.kind, disable=None if len(own) > 1 and rank == 0 else True)
    predictions = []
    for path, outcome in _outcomes(request, model, own, names):
        predictions.append(_answer(path, outcome, least))
        if alone:
            _say(predictions[-1], request.top, bar)
        bar.update()
    bar.close()
    if together is not None:
        from mote.parallel.accelerator import collect

        found = collect(together, predictions)
        predictions = [found[i % processes][i // processes] for i in range(len(files))]
        if rank > 0:
            return 0
        for prediction in predictions:
            _say(prediction, request.top, bar)
    _write(request, model, names, predictions, least)
    bad = sum(p.error is not None for p in predictions)
    if bad:
        what = "used" if views.faces else "decoded"
        print(f"mote: {bad} of {len(files)} {model.kind}s could not be {what}", file=sys.stderr)
    return int(bad > 0)


def launched() -> "Accelerator | None":
    """What the processes of a launch have in common; None where this one is alone, which needs no accelerate."""
    if not has_company():
        return None
    from mote.parallel.accelerator import make_accelerator

    return make_accelerator(cpu=not torch.cuda.is_available())


def share_of(request: Request | EncodeRequest, together: "Accelerator | None") -> Share:
    """The share of the request that is this process's own."""
    if together is None:
        return request.share
    return request.share._replace(process=together.process_index, processes=together.num_processes)


def _into_folder(
    request: Request, model: Namer, names: list[str], files: Sequence[str | Path], least: float, share: Share
) -> int:
    """Write what is missing in the folder of parts; the exit code: 1 where a file has no result."""
    from mote.prediction.parts import Plan  # pyarrow is an extra

    views = request.views

    def predictions(missing: list[str | Path]) -> Iterator[Prediction]:
        found = _outcomes(request, model, missing, names)
        off = None if len(missing) > 1 and share.process == 0 else True
        for path, outcome in tqdm(found, total=len(missing), unit=model.kind, disable=off):
            yield _answer(path, outcome, least)

    settings = decisive(model, names, views, least if request.threshold is not None else None)
    return write_missing(request, Plan(settings, names, request.top), predictions, files, share, model.kind)


def write_missing(
    request: Request,
    plan: "Plan",
    predictions: Callable[[list[str | Path]], "Iterator[Result | None]"],
    files: Sequence[str | Path],
    share: Share,
    kind: str,
) -> int:
    """Write what is missing in the folder of a request, see `write_parts`, and say so; the exit code."""
    from mote.prediction.write import write_parts

    out = Path(cast(str, request.out))
    done = write_parts(predictions, files, out, plan, share=share, retry_failed=request.retry_failed)
    if share.process == 0:
        what = f"{done.now} of {done.own} {kind}s done now, {done.own - done.now} before"
        print(f"{out}: {what}; mote collect {shlex.quote(str(out))} makes one table of all")
    if done.failed:
        print(f"mote: {done.failed} of {done.own} {kind}s have no result", file=sys.stderr)
    return exit_code(done, share)


def exit_code(done: "Outcome", share: Share) -> int:
    """1 where an input of this process failed; but 0 in a launch, which ends all processes when one of them says 1."""
    return int(done.failed > 0 and share.processes == 1)


def decisive(model: Namer, names: Sequence[str], views: Views, threshold: float | None) -> dict[str, object]:
    """What decides the numbers of a prediction, besides the names to choose among: by it folders are told apart."""
    settings: dict[str, object] = {"kind": model.kind, "hashes": dict(model.hashes(names)), **views._asdict()}
    if isinstance(model, VideoClassifier):
        gate = {"modulation": model.modulation, "modulation_gate": asdict(model.modulation_gate)}
        offset = None if model.offset is None else model.offset.tolist()
        settings |= {"recipe": model.recipe, **gate, "precision": model.precision, "offset": offset}
    return {**settings, "threshold": threshold, "device": model.device.type, "versions": versions()}


def _check_engine(request: Request) -> None:
    """Refuse what another engine decides. Raises ValueError, also where Ray is not installed."""
    from mote.prediction import ray_engine  # noqa: F401

    if has_company():
        raise ValueError("--engine ray starts the processes itself; start mote without a launcher")
    if request.workers is not None or request.cache is not None:
        raise ValueError("--workers and --cache are for this machine; with --engine ray the cluster decides")


def _check_images(request: Request) -> None:
    """Refuse what is for videos where the model takes images. Raises ValueError."""
    given = {
        "--clips and --crops are": (request.views.clips, request.views.crops) != (1, 1),
        "--workers is": request.workers is not None,
        "--cache is": request.cache is not None,
        "--engine is": request.engine is not None,
    }
    for option, is_given in given.items():
        if is_given:
            raise ValueError(f"{option} for videos; {request.model} holds a network for still images")


def _outcomes(
    request: Request, model: Namer, files: Sequence[str | Path], names: Sequence[str]
) -> Iterator[tuple[str | Path, dict[str, float] | Exception]]:
    """Scores of each file, by the engine that was asked for."""
    if request.engine == "ray":
        from mote.prediction.ray_engine import name_with_ray  # an extra

        return name_with_ray(cast(VideoClassifier, model), files, names, request.views, timeout=TIMEOUT)
    options = {"load": load_for(len(files), request.workers), "cache": request.cache or "auto", "timeout": TIMEOUT}
    return model.outcomes(files, names, request.views, **options)


def load_for(videos: int, workers: int | None) -> Load:
    """How so many videos are decoded, by at most so many processes; None = `WORKERS`, and none for one video."""
    workers = min(WORKERS if workers is None else workers, videos) if videos > 1 else 0
    return Load(max(1, min(8, videos // (2 * max(workers, 1)))), workers)


def _answer(path: str | Path, outcome: dict[str, float] | Exception, least: float) -> Prediction:
    if isinstance(outcome, Exception):
        return Prediction(path, {}, str(outcome))
    name, highest = next(iter(outcome.items()))
    return Prediction(path, outcome, name=name if highest >= least else None)


def _say(prediction: Prediction, top: int | None, bar: tqdm) -> None:
    if prediction.error is not None:
        bar.write(f"mote: skipped: {prediction.error}", file=sys.stderr)
        return
    name = public_name(prediction.path)
    best = ", ".join(f"{one} {score:.3f}" for one, score in list(prediction.scores.items())[: top or TOP])
    bar.write(f"{name}: {best}" if prediction.name is not None else f"{name}: {NONE} ({best})")


def _write(request: Request, model: Namer, names: list[str], predictions: list[Prediction], least: float) -> None:
    """The table and the document that are asked for."""
    contents: dict[Path, str | bytes] = {}
    if request.csv_file:
        contents[Path(request.csv_file)] = _as_csv(predictions, names)
    if request.json_file:
        views = request.views
        settings = {"model": request.model, "labels": names, "clips": views.clips, "crops": views.crops}
        settings |= {"versions": versions()} | ({"faces": True} if views.faces else {})
        settings |= {"recipe": model.recipe} if isinstance(model, VideoClassifier) else {}
        settings |= {"threshold": least} if request.threshold is not None else {}
        document = {**settings, f"{model.kind}s": [_as_json(p) for p in predictions]}
        contents[Path(request.json_file)] = json.dumps(document, indent=1)
    if contents:
        write_together(contents)


def _as_json(prediction: Prediction) -> dict:
    if prediction.error:
        return {"path": public_name(prediction.path), "error": prediction.error}
    return {"path": public_name(prediction.path), "predicted": prediction.name, "scores": prediction.scores}


def _as_csv(predictions: Sequence[Prediction], names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "predicted", *names, "error"])
    for p in predictions:
        scores = [f"{p.scores[name]:.6f}" for name in names] if p.scores else [""] * len(names)
        writer.writerow([public_name(p.path), p.name or (NONE if p.scores else ""), *scores, p.error or ""])
    return text.getvalue()

"""What the verbs about own videos are asked for, and the mistakes in it that can be told before a model is loaded.

No torch is imported here, so that they are said at once.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mote.datasets.face_crop import check_installed
from mote.datasets.lists.class_files import read_templates
from mote.datasets.sources import Source, find_sources
from mote.files.extras import check_extra
from mote.inference.asked import ONE_VIEW, Views
from mote.inference.finding import check_model, place_of
from mote.inference.threshold import check_threshold
from mote.parallel.launch import has_company
from mote.prediction.outputs import check_webvtt
from mote.prediction.share import ALL, Share
from mote.prediction.windows import Cutting, Level, cutting, seconds

NO_NAMES = "this model has no classes of its own; give the labels to choose among"


@dataclass(frozen=True)
class Request:
    """What `mote predict` is asked for.

    Args:
        model: see `mote.load`; it must name files.
        places: files, or folders that are searched for them.
        class_names: names to choose among; None = the model's own.
        templates, backbone: see `mote.load`.
        views: how often each file is looked at; images have one view.
        top: names printed for each file, or kept in `out`; None = 5 printed, all kept.
        threshold: a probability, or a result file that holds one (see `read_threshold`); what no name reaches it in is
            answered "none of these".
        csv_file, json_file: where all scores are written; of timelines see `write_tables`.
        workers: processes that decode videos; 0 = this one; None = `WORKERS`, fewer for few videos.
        engine: "ray" for the machines of a Ray cluster, see `name_with_ray`; None = this process, or those of a launch.
        out: folder of Parquet parts in the place of tables, see `write_parts`; what it holds is not done again.
        share: which of the files are done here; needs `out`.
        retry_failed: files that failed before are tried again; needs `out`.
        cache: folder of frame features that are kept; None = as `evaluation.cache=auto`, see `cache_folder`, and for
            timelines none.
        cutting: timelines of videos that are cut so; None = one answer a file. They have one view, and neither workers
            nor an engine.
        vtt, page: of timelines: a file for one video, or a folder with a file for each.
        live: the place is a live stream, which is known of rtsp:// and its like, of cameras and of named pipes; "-" is
            then a video that comes in at the standard input, and http:// one that has no end.
    """

    model: str
    places: Sequence[str]
    class_names: list[str] | None = None
    templates: str | None = None
    backbone: str | None = None
    views: Views = ONE_VIEW
    top: int | None = None
    threshold: str | None = None
    csv_file: str | None = None
    json_file: str | None = None
    workers: int | None = None
    cache: str | None = None
    engine: str | None = None
    out: str | None = None
    share: Share = ALL
    retry_failed: bool = False
    cutting: Cutting | None = None
    vtt: str | None = None
    page: str | None = None
    live: bool = False


@dataclass(frozen=True)
class EncodeRequest:
    """What `mote encode` is asked for.

    Args:
        model: a video model, see `mote.load`.
        places: see `find_sources`.
        out: folder of features, new, or of an earlier run of the same command, which goes on.
        level: what a row is about.
        window, every: lengths of time as texts, see `seconds`: of a window, and from one to the next (None = half a
            window) or from frame to frame (None = those that the model samples).
        views: of a video; frames and windows have one crop.
        class_names: names whose text features are written too; None = none.
        templates, backbone: see `mote.load`.
        share: which of the videos are encoded here.
        retry_failed: encode those again that failed.
        workers: processes that decode, see `load_for`; not with `window` or `every`.
        cache: folder of frame features that are kept; None = as `evaluation.cache=auto`; not with `window` or `every`.
    """

    model: str
    places: Sequence[str]
    out: str
    level: Level = "video"
    window: str | None = None
    every: str | None = None
    views: Views = ONE_VIEW
    class_names: list[str] | None = None
    templates: str | None = None
    backbone: str | None = None
    share: Share = ALL
    retry_failed: bool = False
    workers: int | None = None
    cache: str | None = None


def check_request(request: Request) -> Sequence[Source]:
    """The files of a request to `mote predict`, and whatever is wrong with the request that can be told already.

    There are none where a live stream is watched, see `is_watched`.

    Raises:
        ValueError, FileNotFoundError: unknown model, no class names, no such file, a threshold of something else.
    """
    _check_written(request)
    if request.cutting is not None:
        _check_timelines(request)
    if request.views.faces:
        check_installed()
    if request.engine is not None:
        check_extra("ray", ("ray",), f"--engine {request.engine}")
    kind = _check_model(request)
    if kind == "autoencoder":
        raise ValueError(f"{request.model}: an autoencoder names nothing; use mote sample or mote eval")
    if is_watched(request):
        return []
    return find_sources(request.places, "video" if kind == "video" else "image")


def _check_written(request: Request) -> None:
    """Raise ValueError for files that cannot be written, or not beside one another."""
    written = [Path(file) for file in (request.csv_file, request.json_file) if file]
    if folders := [file for file in written if file.is_dir()]:
        raise ValueError(f"{folders[0]}: is a folder; --csv and --json take the name of a file")
    if len({os.path.abspath(file) for file in written}) < len(written):
        raise ValueError(f"{written[0]}: --csv and --json name the same file; give each its own")
    if request.vtt is not None:
        check_webvtt()
    if request.out is not None:
        from mote.prediction import arrow  # noqa: F401  # a missing package is said here


def _check_timelines(request: Request) -> None:
    """Raise ValueError for what timelines do not go with."""
    if request.out is None and has_company():
        raise ValueError("--window in several processes needs --out, a folder that they write into together")
    if request.out is not None and (request.vtt is not None or request.page is not None):
        option = "--page" if request.vtt is None else "--vtt"
        raise ValueError(f"{option} does not go with --out; write it for single videos, without --out")
    given = {"--out": request.out, "--cache": request.cache}
    option = next((name for name, value in given.items() if value is not None), None)
    if option is not None and is_watched(request):
        why = "a live stream is watched once, and nothing of it is done already"
        raise ValueError(f"{option}: {why}; leave it out, and write --csv, --json or --vtt")


def is_watched(request: Request) -> bool:
    """Whether a live stream is among the places; `-` is one only where the request says so."""
    if request.cutting is None:
        return False
    from mote.datasets.decoding.live import is_live  # loads PyAV

    return request.live or any(place != "-" and is_live(place) for place in request.places)


def check_features(folder: str, model: str | None) -> None:
    """Raise where a folder holds no features, or their model is not where it was, nor at `model`; see `model_of`."""
    from mote.prediction.encodings import stored_features  # needs pyarrow, an extra

    source = stored_features(Path(folder)).source
    with said_with_model(folder, model):
        check_model(str(model or source["model"]), backbone=source["backbone"], video=True)


@contextmanager
def said_with_model(folder: str | Path, model: str | None) -> Iterator[None]:
    """Context in which the error of a model that is missing says what to do, where `model` was not given."""
    try:
        yield
    except FileNotFoundError as error:
        if model is not None:
            raise
        raise FileNotFoundError(f"{error}; say with --model where the model of {folder} lies now") from error


def check_encoding(request: EncodeRequest) -> Sequence[Source]:
    """The files of a request to `mote encode`, and whatever can be told to be wrong; raises as `check_request`."""
    pace_of(request)
    from mote.prediction import arrow  # noqa: F401  # a missing package is said here

    check_model(request.model, backbone=request.backbone, templates=request.templates, video=True)
    if request.templates is not None:
        read_templates(request.templates)
    return find_sources(request.places)


def pace_of(request: EncodeRequest) -> tuple[float, float] | None:
    """Length and step, in seconds, of the windows that are asked for; frames are windows of one. Raises ValueError."""
    level, window, every, views = request.level, request.window, request.every, request.views
    if level != "video" and views.crops != 1:
        raise ValueError(f"--crops is for --level video; features of a {level} are of its middle crop")
    if level == "window" and window is None:
        raise ValueError("--level window: say with --window how long the windows are")
    if level != "window" and window is not None:
        raise ValueError(f"--window is for --level window, this is --level {level}")
    if level == "video" and every is not None:
        raise ValueError("--every is for windows and frames; say with --window how long windows are")
    if window is None and every is None:
        return None
    if request.workers or request.cache is not None:
        raise ValueError("--workers and --cache do not go with --window and --every, which decode one video at a time")
    if views.clips != 1:
        raise ValueError("--clips does not go with --window and --every: each window is one view")
    if window is None:
        assert every is not None
        return (step := seconds(every, "--every")), step
    return cutting(window, every)[:2]


def _check_model(request: Request) -> str:
    """The kind of the model, see `check_model`; also its templates, names and threshold."""
    video = request.cutting is not None
    kind = check_model(request.model, backbone=request.backbone, templates=request.templates, video=video)
    if request.templates is not None:
        read_templates(request.templates)
    if kind == "video" and request.class_names is None and _is_plain(request):
        raise ValueError(NO_NAMES)
    if request.threshold is not None:
        check_threshold(request.threshold)
    return kind


def _is_plain(request: Request) -> bool:
    """Whether the model is a CLIP as it is, which has no classes of its own."""
    return place_of(request.model, None, request.backbone) == "backbone"

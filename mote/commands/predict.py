"""`mote predict`."""

import argparse

from mote.commands.verbs import MODEL_HELP, Verbs, add_verb, class_names


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    predict = add_verb(verbs, "predict", _run, "name your own videos, or images with a network for them")
    predict.add_argument("model", help=MODEL_HELP)
    predict.add_argument(
        "videos",
        nargs="+",
        help="video or image files, or folders that are searched for them; without videos a folder of images is a clip",
    )
    names = predict.add_mutually_exclusive_group()
    names.add_argument("--labels", help="comma-separated names to choose among (default: the model's own classes)")
    names.add_argument("--classes", help="file of names, one per line or id,name csv")
    predict.add_argument("--templates", help="prompt-template file, one {} per line")
    predict.add_argument("--backbone", help="name:tag of the text tower, for an authors' checkpoint")
    predict.add_argument("--clips", type=int, default=1, help="temporal clips per video (default: %(default)s)")
    predict.add_argument("--crops", type=int, default=1, choices=(1, 3), help="spatial crops (default: %(default)s)")
    predict.add_argument("--top", type=int, default=5, help="names printed per video (default: %(default)s)")
    predict.add_argument(
        "--threshold", help='answer "none of these" below this probability, or that of a result with evaluation.unknown'
    )
    predict.add_argument(
        "--faces", action="store_true", help="look at the largest face only, upright (pip install 'mote[faces]')"
    )
    predict.add_argument("--workers", type=int, help="processes that decode videos (default: 2, for one video none)")
    predict.add_argument(
        "--cache", help="folder of frame features that are kept (default: the user's, where the model is a large one)"
    )
    predict.add_argument("--csv", help="write all scores here, one line per video")
    predict.add_argument("--json", help="write all scores here")
    timeline = predict.add_argument_group(
        "timelines", "what happens when in long videos: --csv and --json hold segments and windows"
    )
    timeline.add_argument("--window", help="length of the windows that are scored, such as 2s or 500ms")
    timeline.add_argument("--every", help="from one window to the next (default: half a window)")
    timeline.add_argument("--smooth", help="moving average of the scores over so much time, such as 3s")
    timeline.add_argument("--vtt", help="write segments here as WebVTT; a folder for several videos")
    timeline.add_argument("--page", help="write a page with frames, curves and segments; a folder for several videos")


TIMELINE = ("every", "smooth", "vtt", "page")  # options that --window brings
ONE_ANSWER = {"clips": 1, "crops": 1, "top": 5, "faces": False}  # options of one answer a file: their defaults


def _run(arguments: argparse.Namespace) -> int:
    if arguments.window is not None:
        return _timelines(arguments)
    if given := [name for name in TIMELINE if getattr(arguments, name) is not None]:
        raise ValueError(f"--{given[0]} is for timelines; say with --window how long their windows are")
    from mote.inference.model import Views
    from mote.prediction.predict import Request, predict

    request = Request(
        arguments.model,
        arguments.videos,
        class_names=class_names(arguments),
        templates=arguments.templates,
        backbone=arguments.backbone,
        views=Views(arguments.clips, arguments.crops, arguments.faces),
        top=arguments.top,
        threshold=arguments.threshold,
        csv_file=arguments.csv,
        json_file=arguments.json,
        workers=arguments.workers,
        cache=arguments.cache,
    )
    return predict(request)


def _timelines(arguments: argparse.Namespace) -> int:
    if given := [name for name, value in ONE_ANSWER.items() if getattr(arguments, name) != value]:
        raise ValueError(f"--{given[0]} does not go with --window: each window is one view of whole frames")
    from mote.prediction.timeline_verb import Request, predict_timelines

    request = Request(
        arguments.model,
        arguments.videos,
        window=arguments.window,
        every=arguments.every,
        class_names=class_names(arguments),
        templates=arguments.templates,
        backbone=arguments.backbone,
        smooth=arguments.smooth,
        threshold=arguments.threshold,
        csv_file=arguments.csv,
        json_file=arguments.json,
        vtt=arguments.vtt,
        page=arguments.page,
    )
    return predict_timelines(request)

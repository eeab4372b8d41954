"""`mote predict`."""

import argparse

from mote.commands.verbs import MODEL_HELP, Verbs, add_verb, class_names, import_for


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    predict = add_verb(
        verbs,
        "predict",
        _run,
        "name your own videos, or images with a network for them",
        writes="nothing but what --csv, --json, --out, --vtt and --page name",
        examples=(
            'mote predict tiny clip.mp4 --labels "a cat,a dog"',
            "mote predict runs/a videos --csv answers.csv",
            "mote predict runs/a long.mp4 --window 2s --page long.html",
            "mote predict runs/a videos --out named --part 1/4",
            "mote predict runs/a films --window 2s --out timelines",
        ),
    )
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
    predict.add_argument(
        "--top", type=int, help="names printed per video (default: 5), or kept by --out (default: all)"
    )
    predict.add_argument(
        "--threshold", help='answer "none of these" below this probability, or that of a result with evaluation.unknown'
    )
    predict.add_argument(
        "--faces", action="store_true", help="look at the largest face only, upright (pip install 'mote-video[faces]')"
    )
    predict.add_argument("--workers", type=int, help="processes that decode videos (default: 2, for one video none)")
    predict.add_argument(
        "--cache",
        help="folder of frame features that are kept (default: the user's for a large model; none for timelines)",
    )
    predict.add_argument(
        "--engine", choices=["ray"], help="name on a Ray cluster (RAY_ADDRESS; pip install 'mote-video[ray]')"
    )
    predict.add_argument(
        "--out", help="write Parquet parts into this folder; the same command again does what is missing (mote collect)"
    )
    predict.add_argument(
        "--part", default="1/1", metavar="I/N", help="with --out: do the i-th of n shares of the files"
    )
    predict.add_argument("--retry-failed", action="store_true", help="with --out: try files again that failed before")
    predict.add_argument("--csv", help="write all scores here, one line per video")
    predict.add_argument("--json", help="write all scores here")
    _add_timelines(predict)


def _add_timelines(predict: argparse.ArgumentParser) -> None:
    timeline = predict.add_argument_group(
        "timelines", "what happens when in long videos: --csv and --json hold segments and windows"
    )
    timeline.add_argument("--window", help="length of the windows that are scored, such as 2s or 500ms")
    timeline.add_argument("--every", help="from one window to the next (default: half a window)")
    timeline.add_argument("--smooth", help="moving average of the scores over so much time, such as 3s")
    timeline.add_argument("--vtt", help="write segments here as WebVTT; a folder for several videos")
    timeline.add_argument(
        "--live", action="store_true", help="a live stream at - (a video that is piped in) or http://"
    )
    timeline.add_argument("--page", help="write a page with frames, curves and segments; a folder for several videos")


TIMELINE = ("every", "smooth", "vtt", "page", "live")  # options that --window brings
ONE_ANSWER = {"clips": 1, "crops": 1, "faces": False, "workers": None, "engine": None}  # or takes away


def _run(arguments: argparse.Namespace) -> int:
    from mote.inference.asked import Views
    from mote.prediction.asked import Request, check_request, is_watched
    from mote.prediction.share import parse_share
    from mote.prediction.windows import cutting

    _check_options(arguments)
    length = arguments.window
    windows = None if length is None else cutting(length, arguments.every, arguments.smooth)
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
        engine=arguments.engine,
        out=arguments.out,
        share=parse_share(arguments.part),
        retry_failed=arguments.retry_failed,
        cutting=windows,
        vtt=arguments.vtt,
        page=arguments.page,
        live=arguments.live,
    )
    files = check_request(request)
    import_for(request.model, request.backbone)
    if windows is None:
        from mote.prediction.predict import predict

        return predict(request, files)
    if is_watched(request):
        from mote.prediction.live_verb import predict_live

        return predict_live(request)
    from mote.prediction.timeline_verb import predict_timelines

    return predict_timelines(request, files)


def _check_options(arguments: argparse.Namespace) -> None:
    """Raise ValueError for options that do not go together."""
    if arguments.window is None:
        if given := [name for name in TIMELINE if getattr(arguments, name)]:
            raise ValueError(f"--{given[0]} is for timelines; say with --window how long their windows are")
    else:
        without = ONE_ANSWER if arguments.out else {**ONE_ANSWER, "top": None}
        if given := [name for name, value in without.items() if getattr(arguments, name) != value]:
            raise ValueError(
                f"--{given[0]} does not go with --window, whose windows are scored one by one, each as one view"
            )
    if arguments.out is None and (arguments.part != "1/1" or arguments.retry_failed):
        raise ValueError(
            f"{'--retry-failed' if arguments.retry_failed else '--part'} needs --out, a folder to write into"
        )
    if arguments.out is not None and (arguments.csv or arguments.json):
        raise ValueError("--csv and --json are in the place of --out; make tables of its folder by `mote collect`")
    if arguments.top is not None and arguments.top < 1:
        raise ValueError(f"--top {arguments.top}: expected a number of names from 1 on")

"""`mote encode`."""

import argparse

from mote.commands.verbs import MODEL_HELP, Verbs, add_verb, class_names, import_for


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    encode = add_verb(
        verbs,
        "encode",
        _run,
        "write features of your videos as Parquet files (pip install 'mote-video[parquet]')",
        writes="--out: features as Parquet files, with what they were made with",
        examples=(
            "mote encode tiny videos --out features",
            'mote encode runs/a videos --out features --window 2s --labels "a cat,a dog"',
        ),
    )
    encode.add_argument("model", help=MODEL_HELP)
    encode.add_argument("videos", nargs="+", help="as for mote predict")
    encode.add_argument("--out", required=True, help="folder of the features; the same command again goes on there")
    encode.add_argument(
        "--level",
        choices=("frame", "window", "video"),
        help="what a row is about (default: video, or window)",
    )
    encode.add_argument("--window", help="length of the windows of long videos, such as 2s or 500ms")
    encode.add_argument("--every", help="from one window to the next (default: half a window)")
    names = encode.add_mutually_exclusive_group()
    names.add_argument("--labels", help="comma-separated names whose text features are written too")
    names.add_argument("--classes", help="file of such names, one per line or id,name csv")
    encode.add_argument("--templates", help="prompt-template file for the names, one {} per line")
    encode.add_argument("--backbone", help="name:tag of the text tower, for an authors' checkpoint")
    encode.add_argument("--clips", type=int, default=1, help="temporal clips per video (default: %(default)s)")
    encode.add_argument("--crops", type=int, default=1, choices=(1, 3), help="spatial crops (default: %(default)s)")
    encode.add_argument("--part", default="1/1", help="encode part i/n of the videos, for n independent jobs")
    encode.add_argument("--retry-failed", action="store_true", help="encode videos again that had no features")
    encode.add_argument("--workers", type=int, help="processes that decode (default: 2, for one video none)")
    encode.add_argument(
        "--cache", help="folder of frame features that are kept (default: the user's, where the model is a large one)"
    )


def _run(arguments: argparse.Namespace) -> int:
    from mote.inference.asked import Views
    from mote.prediction.asked import EncodeRequest, check_encoding
    from mote.prediction.share import parse_share

    request = EncodeRequest(
        arguments.model,
        arguments.videos,
        arguments.out,
        level=arguments.level or ("video" if arguments.window is None else "window"),
        window=arguments.window,
        every=arguments.every,
        views=Views(arguments.clips, arguments.crops),
        class_names=class_names(arguments),
        templates=arguments.templates,
        backbone=arguments.backbone,
        share=parse_share(arguments.part),
        retry_failed=arguments.retry_failed,
        workers=arguments.workers,
        cache=arguments.cache,
    )
    inputs = check_encoding(request)
    import_for(request.model, request.backbone)
    from mote.prediction.encode import encode

    return encode(request, inputs)

"""`mote export`."""

import argparse
from pathlib import Path

from mote.commands.verbs import MODEL_HELP, Verbs, add_verb, class_names, import_for


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    export = add_verb(
        verbs,
        "export",
        _run,
        "write one file that gives the logits of `mote predict`, and compare it",
        writes="the file that --out names, with what belongs to it",
        examples=(
            "mote export runs/a --out a.safetensors",
            'mote export tiny --out tiny.onnx --labels "a cat,a dog"',
        ),
    )
    export.add_argument("model", help=MODEL_HELP)
    export.add_argument("--out", required=True, help="the file: .safetensors, .pt2 (torch-export) or .onnx")
    export.add_argument(
        "--format", choices=("safetensors", "torch-export", "onnx"), help="default: by the suffix of --out"
    )
    names = export.add_mutually_exclusive_group()
    names.add_argument("--labels", help="comma-separated names to choose among (default: the model's own classes)")
    names.add_argument("--classes", help="file of names, one per line or id,name csv")
    names.add_argument("--text-input", action="store_true", help="class features are an input, not part of the file")
    export.add_argument("--templates", help="prompt-template file, one {} per line")
    export.add_argument("--backbone", help="name:tag of the text tower, for an authors' checkpoint")
    export.add_argument(
        "--modulation",
        action=argparse.BooleanOptionalAction,
        help="temporal feature modulation (default: as predict, on for other labels than the tuned classes)",
    )
    export.add_argument("--check", metavar="VIDEO_OR_FOLDER", help="compare on these (default: on synthetic clips)")
    export.add_argument(
        "--tolerance", type=float, default=1e-4, help="refuse a larger difference of logits (default: %(default)s)"
    )


def _run(arguments: argparse.Namespace) -> int:
    from mote.datasets.lists.class_files import read_templates
    from mote.datasets.sources import find_sources
    from mote.inference.finding import check_model
    from mote.inference.formats import format_of

    names, given = class_names(arguments), {"templates": arguments.templates, "backbone": arguments.backbone}
    format_of(arguments.format, Path(arguments.out))
    check_model(arguments.model, **given, video=True)
    if arguments.templates is not None:
        read_templates(arguments.templates)
    if arguments.check is not None:
        find_sources([arguments.check])
    import_for(arguments.model, arguments.backbone)
    from mote.inference.export import export
    from mote.inference.loading import load_video

    export(
        load_video(arguments.model, **given, device="cpu"),
        arguments.out,
        arguments.format,
        class_names=names,
        text_input=arguments.text_input,
        modulation=arguments.modulation,
        check=arguments.check,
        tolerance=arguments.tolerance,
    )
    return 0

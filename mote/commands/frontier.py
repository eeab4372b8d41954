"""`mote frontier`."""

import argparse
from pathlib import Path

from mote.commands.verbs import Verbs, add_verb, load_config, named_settings, own_config
from mote.files.run_directory import config_file


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    frontier = add_verb(
        verbs,
        "frontier",
        _run,
        "what a model trades between its own classes and new ones; what each choice of an evaluation moves",
        writes="MODEL/frontier, ./frontier or --out: frontier.json, .csv, .svg, .png and index.html; with --choices "
        "MODEL/choices, ./choices or --out: choices.json, choices.csv and the result of each",
        examples=(
            "mote frontier runs/a --closed val.csv --zero-shot new.csv,new.txt",
            "mote frontier MoTE_B16.pt --choices ucf101-zs-released=lists/ucf101",
        ),
    )
    frontier.add_argument("model", help="run directory or authors' checkpoint (.pt)")
    frontier.add_argument("config", nargs="*", help="YAML files and a.b=c overrides on top of the run's own config")
    what = "PROTOCOL=LISTS, a YAML file with an evaluation section, or MANIFEST[,CLASSES]"
    frontier.add_argument("--closed", metavar="P", help=f"the classes of tuning: {what}")
    frontier.add_argument("--zero-shot", nargs="+", metavar="Q", help="new classes, in the same ways")
    frontier.add_argument(
        "--choices",
        nargs="+",
        metavar="P",
        help="in the place of both: PROTOCOL=LISTS, carried out as it is and with one choice changed at a time "
        "(filter, decoder, templates, fusion, alpha, views); further ones: other lists, by the rules of the first",
    )
    frontier.add_argument("--root", help="what relative paths in the lists of protocols start from")
    frontier.add_argument("--alphas", help="weights of the tuned tower, with commas (default: 0,0.25,0.5,0.75,0.9)")
    frontier.add_argument("--gates", help="factors of the temporal branch, with commas (default: 0,0.25,0.5,0.75,1)")
    frontier.add_argument("--backbone", help="name:tag of the original CLIP, for an authors' checkpoint")
    frontier.add_argument("--out", help="folder for the results (default: see above)")


def _run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    config = load_config(arguments.config, arguments.model, warn=False)
    values = {
        name: _numbers(name, getattr(arguments, name))
        for name in ("alphas", "gates")
        if getattr(arguments, name) is not None
    }
    from mote.inference.asked import Entry, Source
    from mote.inference.finding import check_model

    check_model(arguments.model, backbone=arguments.backbone, video=True)
    folder = "frontier" if arguments.choices is None else "choices"
    out = Path(arguments.out or (Path(arguments.model) / folder if config_file(arguments.model) else folder))
    named = frozenset(named_settings(arguments.config))
    entry = Entry(Source(arguments.model, arguments.backbone), config, named, own_config(arguments.model))
    if arguments.choices is not None:
        from mote.protocols.choices import choices

        choices(entry, arguments.choices, out, root=arguments.root)
        return 0
    from mote.protocols.frontier import frontier

    frontier(entry, arguments.closed, arguments.zero_shot, out, root=arguments.root, **values)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raise ValueError unless there is either what the sweeps or what the choices are measured on."""
    sweeps = ("closed", "zero_shot", "alphas", "gates")
    given = [f"--{name.replace('_', '-')}" for name in sweeps if getattr(arguments, name) is not None]
    if arguments.choices is not None and given:
        raise ValueError(f"{given[0]} does not go with --choices; leave one of them out")
    if arguments.choices is None and (arguments.closed is None or arguments.zero_shot is None):
        raise ValueError("say what to measure on: --closed P and --zero-shot Q, or --choices P")


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part]
    except ValueError:
        raise ValueError(f"--{name} {text}: expected numbers with commas between them, such as 0,0.5,0.9") from None

"""`mote diagnose mixing`."""

import argparse
from pathlib import Path

from mote.commands.verbs import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verbs."""
    parser = add_verb(verbs, "diagnose", _no_verb, "measure what a component does; pictures and CSV")
    inner = parser.add_subparsers(metavar="WHAT", required=True)
    mixing = inner.add_parser("mixing", help="the mask law a(d) of Mixup, CutMix, HMix and GMix")
    mixing.add_argument("--out", default="diagnostics", help="folder for the files (default: %(default)s)")
    mixing.add_argument("--alpha", type=float, default=1.0, help="of the Beta distribution (default: %(default)s)")
    mixing.add_argument("--ratio", type=float, default=0.5, help="of hmix (default: %(default)s)")
    mixing.add_argument("--size", type=int, default=32, help="side of the picture in pixels (default: %(default)s)")
    mixing.add_argument("--frames", type=int, default=1, help="frames of a clip (default: %(default)s)")
    mixing.add_argument("--extent", default="space", help="space, spacetime or time (default: %(default)s)")
    mixing.add_argument("--draws", type=int, default=6000, help="masks of each method (default: %(default)s)")
    mixing.add_argument("--seed", type=int, default=0)
    mixing.set_defaults(verb=_mixing)


def _no_verb(arguments: argparse.Namespace) -> int:
    raise AssertionError(f"argparse demands a verb: {arguments}")


def _mixing(arguments: argparse.Namespace) -> int:
    from mote.mixing_report import mixing_report

    size = (arguments.frames, arguments.size, arguments.size)
    options = {"alpha": arguments.alpha, "ratio": arguments.ratio, "extent": arguments.extent}
    mixing_report(Path(arguments.out), size=size, draws=arguments.draws, seed=arguments.seed, **options)
    return 0

"""`mote sample`."""

import argparse

from mote.commands.verbs import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    sample = add_verb(
        verbs,
        "sample",
        _run,
        "draw images from an autoencoder: a sheet (PNG) and their arrays (.npz)",
        writes="FILE.png, a sheet of the images, FILE.html, their page, and FILE.npz, their arrays",
        examples=("mote sample runs/autoencoder --out samples.png",),
    )
    sample.add_argument("model", help="run directory with task=autoencoder")
    sample.add_argument("--count", type=int, default=64, help="images (default: %(default)s)")
    sample.add_argument("--out", required=True, metavar="FILE.png", help="the sheet; FILE.npz is written beside it")
    sample.add_argument("--mode", type=int, help="of this Gaussian of the prior only, from 0 (default: of all)")
    sample.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")


def _run(arguments: argparse.Namespace) -> int:
    from mote.inference.finding import check_autoencoder

    check_autoencoder(arguments.model)
    from mote.inference.latent import sample_run

    sample_run(arguments.model, arguments.count, arguments.out, mode=arguments.mode, seed=arguments.seed)
    return 0

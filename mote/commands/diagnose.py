"""`mote diagnose`: a run, several runs beside each other, or the mixing of samples."""

import argparse
from pathlib import Path

from mote.commands.verbs import Verbs, add_verb, load_config, named_settings
from mote.files.run_directory import config_file

MIXING = {"alpha": 1.0, "ratio": 0.5, "size": 32, "frames": 1, "extent": "space", "draws": 6000}
RUN = ("samples", "inputs", "parameters", "quantities", "batch_size", "probes", "tolerance", "max_products", "name")
COMPARE = ("result", "name", "loss", "within")


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "diagnose",
        _run,
        "how smooth and stable a trained network is; compare runs; what mixing of samples does",
        writes="RUN/diagnostics (or --out): NAME.json, .csv, .svg, .png; compare.json; mixing_law.csv, .svg, .png",
        examples=(
            "mote diagnose runs/a --samples 64",
            "mote diagnose --compare runs/a runs/b runs/c",
            "mote diagnose mixing --alpha 0.5",
        ),
    )
    parser.add_argument("run", help="run directory, or `mixing`: the mask law a(d) of Mixup, CutMix, HMix and GMix")
    parser.add_argument(
        "config", nargs="*", help="YAML files and a.b=c overrides on the run's own; --compare: more runs"
    )
    parser.add_argument("--compare", action="store_true", help="rank runs that were diagnosed by each quantity")
    parser.add_argument("--out", help="folder for the files (default: RUN/diagnostics, else ./diagnostics)")
    parser.add_argument("--seed", type=int, default=0, help="of samples and random signs, or of the masks")
    one = parser.add_argument_group("a run")
    one.add_argument("--samples", type=int, metavar="N", help="drawn from data.train, the training list (256)")
    one.add_argument(
        "--inputs", choices=("features", "pixels"), help="features: the temporal head alone (video default)"
    )
    one.add_argument("--parameters", metavar="PATTERN", help="names of those measured, such as '*.blocks.0.*'")
    one.add_argument(
        "--quantities", metavar="A,B", help="of margin,smoothness,gradients,gauss_newton,hessian,noise (all)"
    )
    one.add_argument("--batch-size", type=int, help="samples that go through the network at once")
    one.add_argument("--probes", type=int, help="of traces; exact up to as many classes (8)")
    one.add_argument("--tolerance", type=float, help="relative residual at which Lanczos may stop (0.01)")
    one.add_argument("--max-products", type=int, help="at which it must (60)")
    one.add_argument("--name", help="stem of the files, also those that --compare reads (diagnose)")
    several = parser.add_argument_group("--compare A B ...")
    several.add_argument("--result", help="file in each run with the held-out result (metrics.json)")
    several.add_argument("--loss", type=float, help="training loss to match (default: the median over the runs)")
    several.add_argument("--within", type=float, help="greatest factor between a run's loss and it (2)")
    mixing = parser.add_argument_group("mixing")
    mixing.add_argument("--alpha", type=float, help="of the Beta distribution (1)")
    mixing.add_argument("--ratio", type=float, help="of hmix (0.5)")
    mixing.add_argument("--size", type=int, help="side of the image in pixels (32)")
    mixing.add_argument("--frames", type=int, help="frames of a clip (1)")
    mixing.add_argument("--extent", help="space, spacetime or time (space)")
    mixing.add_argument("--draws", type=int, help="masks of each method (6000)")


def _run(arguments: argparse.Namespace) -> int:
    if arguments.compare:
        given = _given(arguments, COMPARE, "--compare")
        from mote.files.extras import check_analysis

        check_analysis("mote diagnose --compare")
        from mote.diagnostics.compare import compare_runs

        compare_runs(
            [arguments.run, *arguments.config], Path(arguments.out or "diagnostics"), seed=arguments.seed, **given
        )
        return 0
    if arguments.run == "mixing":
        if arguments.config:
            raise ValueError(f"diagnose mixing takes options only, got {' '.join(arguments.config)}")
        settings = MIXING | _given(arguments, tuple(MIXING), "mixing")
        from mote.diagnostics.mixing_report import mixing_report

        frames, side = settings.pop("frames"), settings.pop("size")
        mixing_report(Path(arguments.out or "diagnostics"), size=(frames, side, side), seed=arguments.seed, **settings)
        return 0
    folder = Path(arguments.run)
    if config_file(folder) is None:
        raise ValueError(f"{folder}: is no run directory (it has no config.yaml); `mote train` makes one")
    given = _given(arguments, RUN, "a run")
    config = load_config(arguments.config, folder, warn=False)
    if "quantities" in given:
        given["parts"] = tuple(part for part in given.pop("quantities").split(",") if part)
    from mote.diagnostics.report import diagnose
    from mote.diagnostics.request import Request

    request = Request(seed=arguments.seed, named=frozenset(named_settings(arguments.config)), **given)
    diagnose(folder, config, Path(arguments.out or folder / "diagnostics"), request)
    return 0


def _given(arguments: argparse.Namespace, own: tuple[str, ...], what: str) -> dict:
    """The options that were given, all of which must belong to `what`."""
    known = {*MIXING, *RUN, *COMPARE}
    given = {name: value for name, value in vars(arguments).items() if name in known and value is not None}
    if foreign := sorted(set(given) - set(own)):
        raise ValueError(f"--{foreign[0].replace('_', '-')} has no meaning for {what}")
    return given

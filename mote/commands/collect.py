"""`mote collect`."""

import argparse
import sys
from pathlib import Path

from mote.commands.verbs import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    text = "one table of what `mote predict --out` wrote, every input once and in order; says what is missing or failed"
    collect = add_verb(
        verbs,
        "collect",
        _run,
        text,
        writes="the table that --csv or --parquet names",
        examples=(
            "mote collect named --csv all.csv",
            "mote collect named --parquet all.parquet --inputs videos",
        ),
    )
    collect.add_argument("folder", help="what `mote predict --out` wrote (pip install 'mote-video[parquet]')")
    collect.add_argument("--csv", help="write the table here, as `mote predict --csv` does, with --window too")
    collect.add_argument(
        "--parquet",
        help="write the table here, with the columns of the parts; of timelines segments, with windows beside",
    )
    what = "files, folders or lists that have to be there, in order (default: all that the folder was ever asked for)"
    collect.add_argument("--inputs", nargs="+", metavar="PLACE", help=what)


def _run(arguments: argparse.Namespace) -> int:
    from mote.prediction.collect import collect
    from mote.prediction.folder import stored_plan

    inputs = None
    if arguments.inputs is not None:
        from mote.datasets.sources import find_sources

        kind = stored_plan(Path(arguments.folder)).settings.get("kind", "video")
        inputs = find_sources(arguments.inputs, str(kind))
    found = collect(Path(arguments.folder), csv_file=arguments.csv, parquet_file=arguments.parquet, inputs=inputs)
    done = found.listed - found.failed - found.missing
    print(f"{arguments.folder}: {found.listed} inputs: {done} done, {found.failed} failed, {found.missing} missing")
    if found.unlisted:
        print(f"mote: {found.unlisted} more inputs have results and are not listed: left out", file=sys.stderr)
    if found.failed:
        more = "" if found.failed == len(found.some_failed) else "; ..."
        print(f"mote: failed: {'; '.join(found.some_failed)}{more}", file=sys.stderr)
    if found.missing:
        more = "" if found.missing == len(found.some_missing) else ", ..."
        print(f"mote: missing: {', '.join(found.some_missing)}{more}; run the same command again", file=sys.stderr)
    return int(found.failed + found.missing > 0)

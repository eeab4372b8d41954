"""`mote compare`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from mote.commands.verbs import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    compare = add_verb(
        verbs, "compare", run, "compare two results on the same videos: paired bootstrap, McNemar, per class"
    )
    compare.add_argument("a", help="result file NAME.json, with NAME.csv beside it")
    compare.add_argument("b", help="the other result file")
    compare.add_argument("--json", help="write the whole comparison here")
    compare.add_argument(
        "--picture", help="expressions: draw what the major classes give the minor ones, here as .svg and .png"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    from mote.files.writing import write_atomic
    from mote.metrics.compare import class_table, compare, comparison_table, read_result
    from mote.reporting.page import text_table

    a, b = read_result(Path(arguments.a)), read_result(Path(arguments.b))
    report: dict[str, Any] = compare(a.document, b.document, a.predictions, b.predictions)
    for line in report["warnings"]:
        print(f"mote: warning: {line}", file=sys.stderr)
    print(text_table(comparison_table(report)))
    if classes := class_table(report):
        changed = sum(row["difference"] != 0 for row in report["per_class"])
        print(f"\nclasses that differ: {changed} of {len(report['per_class'])}, the largest differences:")
        print(text_table(classes))
    report["extra_knowledge"] = _mined(a.document, b.document, arguments.picture)
    if arguments.json:
        write_atomic(Path(arguments.json), json.dumps(report, indent=1) + "\n")
    return 0


def _mined(a: dict[str, Any], b: dict[str, Any], picture: str | None) -> dict[str, Any] | None:
    """Print, and draw where that is wanted, what the major classes give the minor ones in both; None for no such."""
    from mote.metrics.imbalance import compare_knowledge
    from mote.reporting.imbalance_plots import mined_plot
    from mote.reporting.page import text_table

    tables = compare_knowledge(a, b)
    if picture and not (tables and any(tables.values())):
        raise ValueError("--picture needs two results of task=expression, of runs with the same training counts")
    for kind, rows in (tables or {}).items():
        shown = [
            {key: f"{100 * cell:.2f}" if isinstance(cell, float) else cell for key, cell in row.items()} for row in rows
        ]
        if shown:
            print(f"\n{kind} that samples of the head give to the tail, in %: a before, b after")
            print(text_table(shown))
        if picture and rows:
            path = Path(picture).with_suffix("")
            mined_plot(rows, ("a", "b"), path.with_name(f"{path.name}_{kind}"))
    return tables

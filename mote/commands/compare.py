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


def run(arguments: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    from mote.evaluation.compare import class_table, compare, comparison_table, read_result
    from mote.evaluation.results import write_atomic
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
    if arguments.json:
        write_atomic(Path(arguments.json), json.dumps(report, indent=1) + "\n")
    return 0

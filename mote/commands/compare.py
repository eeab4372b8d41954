"""`mote compare`."""

import argparse
import json
import sys
from pathlib import Path

from mote.commands.verbs import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    compare = add_verb(
        verbs,
        "compare",
        _run,
        "compare two results on the same videos: paired bootstrap, McNemar, per class",
        writes="nothing but what --json and --figure name",
        examples=(
            "mote compare runs/a/evaluations/eval.json runs/b/evaluations/eval.json",
            "mote compare runs/a/metrics.json runs/b/metrics.json --json difference.json",
        ),
    )
    compare.add_argument("a", help="result file NAME.json, with NAME.csv beside it, or metrics.json of a run directory")
    compare.add_argument("b", help="the other result file")
    compare.add_argument("--json", help="write the whole comparison here")
    compare.add_argument("--page", metavar="FILE.html", help="write a page with the verdict, figures and all classes")
    drawn = "expressions: draw what the major classes give the minor ones, here as .svg and .png"
    compare.add_argument("--figure", help=drawn)


def _run(arguments: argparse.Namespace) -> int:
    from mote.files.writing import complete, write_atomic
    from mote.metrics.compare import class_table, compare, comparison_table, read_result
    from mote.reporting.page import text_table

    for file in (arguments.a, arguments.b):
        complete(Path(file).parent)
    a, b = read_result(arguments.a), read_result(arguments.b)
    report = compare(a.document, b.document, a.predictions, b.predictions)
    report["a"]["file"], report["b"]["file"] = str(a.file), str(b.file)
    for line in report["warnings"]:
        print(f"mote: warning: {line}", file=sys.stderr)
    print(text_table(comparison_table(report)))
    if classes := class_table(report):
        changed = sum(row["difference"] != 0 for row in report["per_class"])
        print(f"\nclasses that differ: {changed} of {len(report['per_class'])}, the largest differences:")
        print(text_table(classes))
    report["extra_knowledge"] = _mined(a.document, b.document, arguments.figure)
    if arguments.page:
        from mote.reporting.compare_page import write_compare_page

        print(write_compare_page(arguments.page, report))
    if arguments.json:
        write_atomic(Path(arguments.json), json.dumps(report, indent=1) + "\n")
    return 0


def _mined(a: dict, b: dict, figure: str | None) -> dict[str, list[dict[str, str | float]]] | None:
    """Tables of what the major classes give the minor ones in both results, printed and, with `figure`, drawn.

    None where a result has no such numbers.
    """
    from mote.metrics.imbalance import compare_knowledge
    from mote.reporting.page import text_table

    tables = compare_knowledge(a, b)
    if figure and not (tables and any(tables.values())):
        raise ValueError("--figure needs two results of task=expression, of runs with the same training counts")
    for kind, rows in (tables or {}).items():
        shown = [
            {key: f"{100 * cell:.2f}" if isinstance(cell, float) else cell for key, cell in row.items()} for row in rows
        ]
        if shown:
            print(f"\n{kind} that samples of the head give to the tail, in %: a before, b after")
            print(text_table(shown))
    if figure:
        _draw(tables or {}, Path(figure).with_suffix(""))
    return tables


def _draw(tables: dict[str, list[dict[str, str | float]]], path: Path) -> None:
    """Draw each table that has rows as PATH_KIND.svg and .png; an older figure of another kind goes."""
    from mote.files.writing import replacing_together
    from mote.metrics.imbalance import KINDS

    drawn = [f"{path.name}_{kind}{end}" for kind in KINDS for end in (".svg", ".png")]
    with replacing_together(path.parent, gone=drawn) as stage:
        for kind, rows in tables.items():
            if rows:
                from mote.reporting.imbalance_plots import mined_plot  # loads matplotlib

                mined_plot(rows, ("a", "b"), stage / f"{path.name}_{kind}")

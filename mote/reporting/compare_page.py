"""The page of `mote compare`: which of two results is better, how sure that is, and on which classes they differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mote.reporting.imbalance_plots import mined_plot
from mote.reporting.page import Head, Section, chance, command_line, day, percent, short, write_page
from mote.reporting.plots import COLOURS, SMALL, _figure, _save, plain_text

SURE = 0.05  # p below which a difference is called one
DRAWN = 10  # classes that gain most, and as many that lose most


def write_compare_page(path: Path | str, report: Mapping) -> Path:
    """Write the page of a report of `mote.metrics.compare.compare` to `path` and return it.

    report: `extra_knowledge`, tables by kind of what major classes give minor ones, may be among its keys.
    """
    with TemporaryDirectory() as place:
        folder = Path(place)
        sections = [
            Section("Both results", AGREEMENT, _sides(report)),
            Section("Video by video", PAIRED, _fourfold(report)),
            _classes(report, folder),
            *_knowledge(report.get("extra_knowledge") or {}, folder),
        ]
        if report["warnings"]:
            sections.append(Section("Warnings", "\n".join(report["warnings"])))
        return write_page(path, "Comparison of two results", sections, _head(report))


def verdict(report: Mapping) -> str:
    """One sentence: which result is better, or that no difference can be shown."""
    difference, p = report["difference"], report["p_value"]
    low, high = (100 * end for end in report["difference_interval"])
    size = f"{100 * difference:+.1f} points [{low:+.1f}, {high:+.1f}], {chance(p)}, {report['videos']} videos"
    if p < SURE and difference:
        better, worse = ("b", "a") if difference > 0 else ("a", "b")
        return f"{better} is better than {worse}: b minus a is {size}."
    return f"No difference between a and b can be shown: b minus a is {size}."


def differences_plot(rows: Sequence[Mapping], path: Path | str) -> tuple[Path, Path]:
    """Draw the classes on which b gains and loses most, in points of recall; returns the SVG and PNG path."""
    changed = [row for row in rows if row["difference"]]
    if not changed:
        raise ValueError("the results differ on no class; nothing to draw")
    gains, losses = ([row for row in changed if (row["difference"] > 0) == up] for up in (True, False))
    shown = [*gains[:DRAWN], *losses[-DRAWN:]]
    figure, axes = _figure(0.8 + 0.2 * len(shown))
    values = np.array([100 * row["difference"] for row in shown])
    bars = axes.barh(range(len(shown)), values, 0.7, color=[COLOURS[0] if v > 0 else COLOURS[1] for v in values])
    axes.bar_label(bars, [f"{v:+.0f}" for v in values], fontsize=7.5, padding=3)
    axes.axvline(0, color="#444444", linewidth=0.8)
    axes.set_yticks(range(len(shown)), [short(row["class"], 20) for row in shown], fontsize=SMALL)
    plain_text(axes.get_yticklabels())
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.margins(x=0.16)
    axes.grid(False, axis="y")
    axes.set_xlabel("recall of b minus recall of a (points)")
    return _save(figure, path)


def _head(report: Mapping) -> Head:
    a, b = report["a"], report["b"]
    low, high = report["difference_interval"]
    cards = [
        (f"{100 * report['difference']:+.1f}", f"points, b minus a [{100 * low:+.1f}, {100 * high:+.1f}]"),
        (chance(report["p_value"]), "McNemar's exact test"),
        (f"{percent(a['top1'])} %", "top-1 of a"),
        (f"{percent(b['top1'])} %", "top-1 of b"),
    ]
    model, data = f"a: {a['file']}; b: {b['file']}", f"{report['videos']} videos, {len(report['per_class'])} classes"
    return Head(verdict(report), cards, model, data, day(report.get("date")), command_line())


def _sides(report: Mapping) -> list[dict[str, str]]:
    return [
        {
            "result": f"{name}: {side['file']}",
            "top-1 (%)": percent(side["top1"], side["top1_interval"]),
            "right": f"{side['correct']} of {report['videos']}",
            "not decoded": str(side["undecodable"]),
        }
        for name, side in (("a", report["a"]), ("b", report["b"]))
    ]


def _fourfold(report: Mapping) -> list[dict[str, str]]:
    named = (("both right", "both_right"), ("only b right", "only_b"), ("only a right", "only_a"))
    return [
        {"videos": name, "count": str(report[key]), "%": percent(report[key] / report["videos"])}
        for name, key in (*named, ("both wrong", "both_wrong"))
    ]


def _classes(report: Mapping, folder: Path) -> Section:
    rows = report["per_class"]
    changed = [row for row in rows if row["difference"]]
    table = [
        {
            "class": row["class"],
            "a": f"{row['a_correct']} of {row['listed']}",
            "b": f"{row['b_correct']} of {row['listed']}",
            "b − a (points)": f"{100 * row['difference']:+.1f}",
        }
        for row in rows
    ]
    text = f"The results differ on {len(changed)} of {len(rows)} classes."
    if not changed:
        return Section("Class by class", text, table)
    svg, _ = differences_plot(rows, folder / "classes")
    caption = f"Classes on which b gains (blue) and loses (orange) most, at most {DRAWN} of each; the table has all."
    return Section("Class by class", text, table, figures=[(svg, caption)])


def _knowledge(tables: Mapping[str, Sequence[Mapping]], folder: Path) -> list[Section]:
    sections = []
    for kind, rows in tables.items():
        if rows:
            table = [{k: f"{100 * v:.2f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows]
            svg, _ = mined_plot(rows, ("a", "b"), folder / kind)
            caption = f"{kind.capitalize()} that samples of frequent classes give to rare ones, in a and in b."
            sections.append(
                Section(f"What major classes give to minor ones: {kind}", "In %.", table, None, [(svg, caption)])
            )
    return sections


AGREEMENT = (
    "In brackets: 95 % intervals of each accuracy alone, Wilson's. A video that was not decoded counts as wrong."
)
PAIRED = (
    "Both results are of the same videos, so only those on which they disagree say which is better. The interval of the"
    " difference is a paired bootstrap over videos, p is McNemar's exact test."
)

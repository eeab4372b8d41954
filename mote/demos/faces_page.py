"""The page of `mote demo faces`: clips and what each method answers, what the rare classes gain, and at what cost."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mote.datasets.synthetic.faces import EXPRESSIONS
from mote.demos.answers import LEVEL, Predictions, cards_of, difference, first_of_each, read_answers
from mote.evaluation.page import page_path
from mote.reporting.clip_cards import clip_cards
from mote.reporting.imbalance_plots import given_plot, mined_plot
from mote.reporting.page import Head, Section, Table, chance, command_line, day, percent, write_page
from mote.reporting.plots import confusion_plot

Summary = Mapping[str, Any]


def write_faces_page(
    out: Path,
    of: Mapping[str, Summary],
    runs: Mapping[str, Path],
    tables: tuple[Table, Table],
    pairs: Sequence[Mapping],
    facts: Mapping[str, object],
) -> Path:
    """Write `out`/index.html and its figures and return it.

    Args:
        out: folder of the demonstration.
        of: summaries by method.
        runs: run directories by method.
        tables: accuracies, and recall of each class, as they are printed.
        pairs: rows of `mote.metrics.imbalance.mined_table` for cross-entropy and MEK.
        facts: seed, seconds, versions and runs.
    """
    answers = read_answers({name: run / "evaluations" / "test.csv" for name, run in runs.items()})
    names = list(of)
    best = max(range(len(names)), key=lambda i: of[names[i]]["mean_class_recall"])
    cards = cards_of(answers, first_of_each(next(iter(answers.values()))), "the first test clip of its class")
    given = {name: part["extra_knowledge"]["probability"]["given"] for name, part in of.items()}
    mined = [(given_plot(given, EXPRESSIONS, out / "given")[0], GIVEN)]
    if pairs:
        caption = "From each major class to each minor one, with cross-entropy and with MEK."
        mined.append((mined_plot(pairs, ("cross-entropy", "MEK"), out / "mined")[0], caption))
    confusions = [
        (
            confusion_plot(part["confusion_matrix"], EXPRESSIONS, out / f"confusion_{runs[name].name}")[0],
            f"{name}: what the clips of each class (row) were named (column, numbered as the rows).",
        )
        for name, part in of.items()
    ]
    sections = [
        Section("What the methods say", CLIPS, markup=clip_cards(cards)),
        Section("Accuracy (%)", verdict(of), tables[0], best),
        Section("Recall of each class (%)", RECALL, tables[1]),
        Section("What the major classes say about the minor ones", MINED, figures=mined),
        Section("Confusions", figures=confusions),
        Section("Each evaluation", markup=_links(runs, out)),
        Section("What next", NEXT, commands=_next_commands(runs)),
        Section("Provenance", facts=facts),
    ]
    first = next(iter(of.values()))
    training = sum(first["training_counts"].values())
    head = Head(
        conclusion(of, answers),
        _cards(of, names[best]),
        f"{len(of)} methods, seed {facts['seed']}, {facts['seconds']} s",
        f"drawn faces of {len(first['training_counts'])} classes: {training} clips to train, {first['listed']} to test",
        day(datetime.now(UTC).isoformat()),
        command_line(),
    )
    return write_page(out / "index.html", "mote demo faces: rare expressions beside frequent ones", sections, head)


def conclusion(of: Mapping[str, Summary], answers: Mapping[str, Predictions]) -> str:
    """One sentence: which method names the classes best on average, by how much, and whether that may be chance."""
    first, second = sorted(of, key=lambda name: -of[name]["mean_class_recall"])[:2]
    lead = 100 * (of[first]["mean_class_recall"] - of[second]["mean_class_recall"])
    points, p, clips = difference([answers[first]], [answers[second]])
    tail = {name: percent(of[name]["groups"]["tail"]["mean_recall"]) for name in (first, second)}
    text = (
        f"{first} has the highest mean accuracy over classes (UAR), {percent(of[first]['mean_class_recall'])} %,"
        f" {lead:.1f} points before {second}; on the rarest classes {tail[first]} against {tail[second]} %; over all"
        f" {clips} clips {points:+.1f} points ({chance(p)})"
    )
    return f"{text}." if p < LEVEL else f"{text}, which may be chance."


def verdict(of: Mapping[str, Summary]) -> str:
    """The change from cross-entropy to MEK, in points."""
    plain, mek = of["cross-entropy"], of["MEK"]
    war, uar = (100 * (mek[key] - plain[key]) for key in ("top1", "mean_class_recall"))
    given = [part["extra_knowledge"]["probability"]["mined"]["given"] for part in (plain, mek)]
    return (
        f"MEK against cross-entropy, one seed, {mek['listed']} test clips: WAR {war:+.1f}, UAR {uar:+.1f} points; "
        f"probability that clips of the head give to the tail {100 * given[0]:.2f} % before, {100 * given[1]:.2f} % "
        "after. The intervals say how much of that may be chance."
    )


def _cards(of: Mapping[str, Summary], best: str) -> list[tuple[str, str]]:
    part, plain = of[best], of["cross-entropy"]
    cards = [
        (f"{percent(part['mean_class_recall'])} %", f"mean over classes (UAR): {best}"),
        (f"{percent(part['top1'])} %", f"over all clips (WAR): {best}"),
        (f"{percent(part['groups']['tail']['mean_recall'])} %", f"recall of the rarest classes: {best}"),
    ]
    if part is not plain:
        points = 100 * (part["mean_class_recall"] - plain["mean_class_recall"])
        cards.append((f"{points:+.1f}", "points of UAR over cross-entropy"))
    return cards


def _links(runs: Mapping[str, Path], out: Path) -> Markup:
    pages = [(name, page_path(run / "evaluations", "test")) for name, run in runs.items()]
    lines = [
        Markup('<li><a href="{}">{}</a></li>').format(page.relative_to(out).as_posix(), name)
        for name, page in pages
        if page.is_file()
    ]
    return Markup("<ul>\n{}\n</ul>").format(Markup("\n").join(lines))


def _next_commands(runs: Mapping[str, Path]) -> list[str]:
    plain, mek = (runs[name] / "evaluations" / "test.json" for name in ("cross-entropy", "MEK"))
    return [
        f"mote compare {plain} {mek} --page compare.html",
        f"mote predict {runs['MEK']} my_clip.mp4",
        "mote train data.train=my_list.csv data.classes=my_classes.txt imbalance.method=mek run.out=runs/mine",
    ]


CLIPS = (
    "Drawn faces whose expression comes up over the clip. Fear and surprise look alike at their height: one comes"
    " slowly and trembles, the other comes fast and fades. The most frequent class stands first, the rarest last."
)
RECALL = "Clips of training and test, and the share of the test clips that each method names correctly."
MINED = (
    "Mean probability that clips of a class (rows) give to each class (columns). Head to tail in the table: what clips"
    " of the two most frequent classes give to the two rarest together."
)
GIVEN = "Who gives probability to whom, in %, by method; columns have the numbers of the rows."
NEXT = "Compare two methods clip by clip, name a clip of your own, or train on your own unequal classes."

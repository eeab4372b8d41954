"""The page of `mote frontier`: what a model trades between its own classes and new ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mote.reporting.evaluation_head import model_of
from mote.reporting.page import Head, Section, command_line, day, percent, write_page


def write_frontier_page(
    path: Path | str, rows: Sequence[Mapping], figure: Path, origin: Mapping, closed: str, zero_shot: Sequence[str]
) -> Path:
    """Write the page of the rows of `mote.metrics.frontier.with_pareto` to `path` and return it.

    Args:
        path: of the page.
        rows: the settings.
        figure: SVG file of the plane.
        origin: where the numbers come from.
        closed, zero_shot: names of what was measured on.
    """
    best = max(range(len(rows)), key=lambda i: rows[i]["harmonic_mean"])
    sections = [
        Section("The plane", figures=[(figure, CAPTION)]),
        Section("All settings", TABLE, frontier_table(rows), best),
        Section("The sweeps", SWEEPS),
        Section("Provenance", facts=origin),
    ]
    data = f"closed-set: {closed}; zero-shot: {', '.join(zero_shot)}"
    head = Head(conclusion(rows), _cards(rows), model_of(origin), data, day(origin.get("date")), command_line())
    return write_page(path, "Specialisation and generalisation under many settings", sections, head)


def conclusion(rows: Sequence[Mapping]) -> str:
    """One sentence: the best setting, and where the model as it is stands."""
    best = max(rows, key=lambda row: row["harmonic_mean"])
    text = (
        f"The best harmonic mean has the setting “{best['name']}”, {percent(best['harmonic_mean'])} %"
        f" (closed-set {percent(best['closed_set'])} %, zero-shot {percent(best['zero_shot'])} %)"
    )
    own = next((row for row in rows if row["sweep"] == "model"), None)
    if own is None:
        return f"{text}."
    if own is best:
        return f"{text}: the model as it is, which no other setting improves."
    place = "is on the frontier" if own["pareto"] else "is not on the frontier: another setting is better in both"
    return f"{text}; the model as it is has {percent(own['harmonic_mean'])} % and {place}."


def frontier_table(rows: Sequence[Mapping]) -> list[dict[str, object]]:
    """A row for each setting, in percent; a star marks the frontier."""
    return [
        {
            "setting": row["name"],
            "closed-set": percent(row["closed_set"], row["closed_set_interval"]),
            "zero-shot": percent(row["zero_shot"], row["zero_shot_interval"]),
            **{name: percent(top1) for name, top1 in row["zero_shot_sets"].items()},
            "harmonic mean": percent(row["harmonic_mean"]),
            "frontier": "*" if row["pareto"] else "",
        }
        for row in rows
    ]


def _cards(rows: Sequence[Mapping]) -> list[tuple[str, str]]:
    best = max(rows, key=lambda row: row["harmonic_mean"])
    cards = [(f"{percent(best['harmonic_mean'])} %", f"best harmonic mean: {best['name']}")]
    for row in (row for row in rows if row["sweep"] == "model"):
        cards += [
            (f"{percent(row['closed_set'])} %", "closed-set top-1 of the model as it is"),
            (f"{percent(row['zero_shot'])} %", "zero-shot top-1 of the model as it is"),
        ]
    return [*cards, (f"{sum(row['pareto'] for row in rows)} of {len(rows)}", "settings are on the frontier")]


CAPTION = (
    "Each point is the model under one setting: right is better on the classes it was tuned on, up is better on new"
    " ones. A number beside a point is the value of its sweep, whose colour and marker are explained below; faint bars"
    " are 95 % intervals, grey dashes join points of equal harmonic mean. What lies below and left of the staircase is"
    " beaten in both by a point on it."
)
TABLE = (
    "Top-1 in %, in brackets 95 % intervals. Zero-shot is the harmonic mean over the data sets of new classes. A star:"
    " no other setting is at least as good in both and better in one."
)
SWEEPS = (
    "alpha: weights of the visual tower, from the original CLIP (0) to the tuned one (1).\n"
    "gate: factor of the temporal branch, from frames alone (off, 0) to all of it (1); TFM is temporal feature"
    " modulation, which trusts the branch less on unfamiliar class names.\n"
    "expert: one temporal expert in all layers in the place of the merged ones."
)

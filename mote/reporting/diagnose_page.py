"""The pages of `mote diagnose`: of one network, of several compared, and of the mixing of samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mote.reporting.page import Head, Section, Table, command_line, day, percent, short, write_page

RELATED = 0.05  # p below which a correlation is called one


def write_diagnose_page(
    path: Path | str, document: Mapping, table: Table, remarks: Sequence[str], figures: Mapping[str, Path]
) -> Path:
    """Write the page of one diagnosed network to `path` and return it.

    Args:
        path: of the page.
        document: the document of the result file.
        table: its quantities, as they are printed.
        remarks: sentences below them.
        figures: SVG files by name, among `classes` and `lanczos`.
    """
    settings, origin = document["settings"], document.get("provenance") or {}
    rows = [
        {
            "class": row["class"],
            "samples": str(row["samples"]),
            "accuracy (%)": percent(row["accuracy"]),
            "margin": f"{row['margin']:.4g}",
            "radius": f"{row['radius']:.4g}",
        }
        for row in sorted(document["per_class"], key=lambda row: row["radius"])
    ]
    drawn = {name: [(figures[name], CAPTIONS[name])] if name in figures else [] for name in CAPTIONS}
    sections = [
        Section("Quantities", "\n".join(remarks), table),
        Section("Class by class", RADIUS, rows, figures=drawn["classes"]),
        *([Section("Convergence", figures=drawn["lanczos"])] if drawn["lanczos"] else []),
        Section("Provenance", facts={"settings": settings, **origin}),
    ]
    data = f"{settings['samples']} of {settings['listed']} training samples, {len(document['classes'])} classes"
    model = f"{settings['run']}: {settings['parameters']} parameters, seen from {settings['inputs']}"
    head = Head(conclusion(document), _cards(document), model, data, day(origin.get("date")), command_line())
    return write_page(path, "How smooth and stable the network is", sections, head)


def conclusion(document: Mapping) -> str:
    """One sentence: whether the learning rate is within the limits of stability, and which class lies nearest."""
    parts = []
    if stable := document.get("stability"):
        of = "of stability" if stable.get("method") == "sgd" else "of plain SGD"
        if "why" in stable:
            parts.append(stable["why"])
        elif over := stable["exceeded"]:
            parts.append(f"the learning rate {stable['learning_rate']:.3g} is above limits {of}: {', '.join(over)}")
        else:
            parts.append(f"the learning rate {stable['learning_rate']:.3g} is within all limits {of}")
    values = document["quantities"]
    if document["per_class"] and "radius_median" in values:
        low = min(document["per_class"], key=lambda row: row["radius"])
        name = f"“{short(low['class'], 48)}” lies nearest to its boundary (median radius {low['radius']:.3g}"
        parts.append(f"{name}, all samples {values['radius_median']:.3g})")
    right = f"{percent(values['train_accuracy'])} % of the samples are right at a loss of {values['train_loss']:.3g}"
    text = "; ".join([*parts, right])
    return f"{text[0].upper()}{text[1:]}."


def write_runs_page(
    path: Path | str, document: Mapping, runs: Table, ranking: Table, remarks: Sequence[str], figure: Path | None
) -> Path:
    """Write the page of several diagnosed runs to `path` and return it.

    Args:
        path: of the page.
        document: the document of the result file.
        runs, ranking: the tables that are printed; `ranking` may be empty.
        remarks: sentences on what was matched and left out.
        figure: SVG file of the correlations; None where there are none.
    """
    sections = [Section("Runs", "\n".join(remarks), runs)]
    if ranking:
        drawn = [(figure, CORRELATIONS)] if figure else []
        sections.append(Section("Quantities and held-out accuracy", ORDER, ranking, figures=drawn))
    sections.append(Section("Provenance", facts={key: document[key] for key in ("loss", "within", "seed", "versions")}))
    matched = sum(row["state"] == "matched" for row in document["runs"])
    cards = [
        (f"{matched} of {len(document['runs'])}", "runs at matched training loss"),
        (f"{document['loss']:.4g}", f"training loss, within a factor of {document['within']:g}"),
    ]
    known = [(key, row) for key, row in document["quantities"].items() if row["rho"] is not None]
    for key, row in sorted(known, key=lambda item: -abs(item[1]["rho"]))[:2]:
        cards.append((f"{row['rho']:+.2f}", f"rank correlation of {key} (p = {row['p']:.3f})"))
    data = "held-out balanced accuracy of each run"
    head = Head(runs_conclusion(document), cards, f"{len(document['runs'])} runs", data, "", command_line())
    return write_page(path, "Diagnosed runs compared", sections, head)


def runs_conclusion(document: Mapping) -> str:
    """One sentence: which quantity goes with held-out accuracy, if any does."""
    known = [(key, row) for key, row in document["quantities"].items() if row["rho"] is not None]
    matched = sum(row["state"] == "matched" for row in document["runs"])
    if not known:
        return f"{matched} runs at matched training loss are too few, or too alike, for a rank correlation."
    key, row = max(known, key=lambda item: abs(item[1]["rho"]))
    way = "rises" if row["rho"] > 0 else "falls"
    found = f"rho {row['rho']:+.2f}, p = {row['p']:.3f}, {matched} runs, {len(known)} quantities tried"
    if row["p"] < RELATED:
        return f"Held-out accuracy {way} most clearly with {key} ({found})."
    return f"No quantity goes with held-out accuracy beyond chance; the nearest is {key} ({found})."


def write_mixing_page(path: Path | str, table: Table, figure: Path, exact: float, settings: str, seed: int) -> Path:
    """Write the page of the mask laws of mixing methods to `path` and return it; exact: Mixup in closed form."""
    strengths = [(str(row["method"]), float(str(list(row.values())[-1]))) for row in table]
    least, most = (pick(strengths, key=lambda item: item[1]) for pick in (min, max))
    text = (
        f"Between pixels that lie farthest apart {most[0]} keeps the most in common (a = {most[1]:.3f}) and {least[0]}"
        f" the least (a = {least[1]:.3f}); Mixup has {exact:.3f} at every distance."
    )
    cards = [(f"{value:.3f}", f"a of {name} at the greatest distance") for name, value in strengths]
    sections = [
        Section("The law", LAW, table, figures=[(figure, MIXING)]),
        Section("Settings", f"{settings}; seed {seed}."),
    ]
    return write_page(path, "What mixing ties together", sections, Head(text, cards, "", settings, "", command_line()))


def _cards(document: Mapping) -> list[tuple[str, str]]:
    values = document["quantities"]
    named = (
        ("radius_median", "median radius: distance to the boundary"),
        ("gauss_newton_top", "largest curvature (Gauss-Newton)"),
        ("hessian_top", "largest curvature (Hessian)"),
        ("noise_trace", "noise of sample gradients (trace)"),
        ("train_loss", "training loss"),
    )
    return [(f"{values[key]:.3g}", words) for key, words in named if values.get(key) is not None]


RADIUS = (
    "Radius: margin over the length of its gradient in the input, the distance to the decision boundary to first order;"
    " below 0 the sample is wrong. Medians over the samples of a class, nearest first."
)
CAPTIONS = {
    "classes": "Median radius of classes, nearest to their boundary first (samples). Below 0, orange: most are wrong.",
    "lanczos": "Residual of the largest eigenvalue over its value, against products with the curvature.",
}
CORRELATIONS = "Held-out balanced accuracy of each matched run against each quantity; rho is the rank correlation."
ORDER = "Order: numbers of the runs, from the smallest value to the largest. rho: with held-out balanced accuracy."
LAW = (
    "a(d) = E[(1 − M)(1 − M′)]: how often two pixels at distance d both come from the second sample. E[1-M]: the mean"
    " share of the second sample."
)
MIXING = "Each method's law against distance over the side of the image; the grey band is Mixup in closed form."

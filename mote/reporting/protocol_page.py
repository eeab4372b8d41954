"""The page of the joint result of a protocol: its number, the parts that it is the mean of, and the rules obeyed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from markupsafe import Markup

from mote.reporting.evaluation_head import model_of
from mote.reporting.evaluation_plots import recall_plot
from mote.reporting.headline import measures
from mote.reporting.page import Head, Section, command_line, day, percent, short, write_page
from mote.reporting.plots import COLOURS, SMALL, _figure, _save, plain_text

RULES = ("dataset", "lists", "classes", "templates", "frames", "sampling", "clips", "crops", "fusion", "alpha")
RULES += ("modulation", "subset", "notes")  # those that are shown; the provenance has all


def write_protocol_page(
    path: Path | str,
    result: Mapping,
    classes: Sequence[Mapping],
    origins: Mapping[str, Mapping],
    links: Mapping[str, str],
) -> Path:
    """Write the page of the joint result of a protocol to `path` and return it.

    Args:
        path: of the page.
        result: what `mote.protocols.carry_out.run_protocol` returns.
        classes: rows of class, listed, correct and recall over all lists together.
        origins: the provenance of the result of each list, by its name.
        links: address of the page of each list that has one, by its name.
    """
    table, parts = parts_table(result), parts_of(result)
    with TemporaryDirectory() as place:
        folder = Path(place)
        figures = []
        if len(parts) > 1:
            figures = [(parts_plot(result, folder / "parts")[0], PARTS)]
        best = next((row for row, cells in enumerate(table) if "mean" in cells.values()), None)
        sections = [
            Section(f"{_kind(result).capitalize()} by {_kind(result)}", _text(result), table, best, figures),
            *_further(result),
            _classes(classes, folder),
            *_pages(links),
            _departures(result),
            Section("The rules", _rules(result["protocol"])),
            Section("Provenance", facts={"protocol": result["protocol"], **origins}),
        ]
        return write_page(path, f"Protocol {result['protocol']['identifier']}", sections, _head(result, origins))


def parts_of(result: Mapping) -> Mapping[str, Mapping]:
    """The numbers whose mean a protocol's are, by name: those of its lists, or of ten halves of the classes."""
    if _kind(result) != "half":
        return result["lists"]
    (part,) = result["lists"].values()
    return {f"half {one['seed']}": one for one in part["halves"]["per_subset"]}


def parts_table(result: Mapping) -> list[dict[str, object]]:
    """A row for each part, in percent with 95 % intervals; their mean and population standard deviation.

    Of folds also a row of all clips together.
    """
    parts, kind = parts_of(result), _kind(result)
    named = {key: f"{name} (%)" for key, name in measures(result).items() if all(key in one for one in parts.values())}
    rows: list[dict[str, object]] = [
        {
            kind: name,
            "clips": part["listed"],
            **{title: percent(part[key], part.get(f"{key}_interval")) for key, title in named.items()},
        }
        for name, part in parts.items()
    ]
    if len(parts) > 1:
        cells = {title: _spread(result, key) for key, title in named.items()}
        rows.append({kind: "mean", "clips": "", **cells})
    if "pooled" in result:
        cells = {title: percent(result["pooled"][key]) for key, title in named.items()}
        rows.append({kind: "all clips", "clips": result["listed"], **cells})
    return rows


def parts_plot(result: Mapping, path: Path | str) -> tuple[Path, Path]:
    """Draw the first measure of each part, its 95 % interval, and the mean of all; returns the SVG and PNG path."""
    parts = parts_of(result)
    figure, axes = _figure(0.9 + 0.24 * len(parts))
    mean, deviation = 100 * result["top1"], 100 * (result["top1_std"] or 0)
    axes.axvspan(mean - deviation, mean + deviation, color=COLOURS[0], alpha=0.15, linewidth=0)
    axes.axvline(mean, color=COLOURS[0], linestyle="--", linewidth=1)
    for place, part in enumerate(parts.values()):
        low, high = part.get("top1_interval") or (part["top1"], part["top1"])
        axes.plot([100 * low, 100 * high], [place, place], color=COLOURS[0], linewidth=1.4)
        axes.plot(100 * part["top1"], place, "o", color=COLOURS[0], markersize=6)
    axes.set_yticks(range(len(parts)), [short(name, 20) for name in parts], fontsize=SMALL)
    plain_text(axes.get_yticklabels())
    axes.set_ylim(len(parts) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.set_xlabel(f"{measures(result)['top1']} (%)")
    return _save(figure, path)


def conclusion(result: Mapping) -> str:
    """One sentence: the number of the protocol, how far its parts lie apart, and whether its rules were kept."""
    rules, parts, name = result["protocol"], parts_of(result), measures(result)["top1"]
    values = [part["top1"] for part in parts.values()]
    text = f"By {rules['identifier']}, {name} is {percent(result['top1'])} % of {result['listed']} clips"
    if len(parts) > 1:
        text = (
            f"By {rules['identifier']}, mean {name} is {_spread(result, 'top1')} % over {result['over']}"
            f" (from {percent(min(values))} to {percent(max(values))} %)"
        )
    elif interval := next(iter(parts.values())).get("top1_interval"):
        text += f" (95 % interval {percent(interval[0])} to {percent(interval[1])} %)"
    left = len(rules["departures"])
    how = "in one point" if left == 1 else f"in {left} points"
    return f"{text}; the rules were kept." if not left else f"{text}; the run departs from the rules {how}, see below."


def _head(result: Mapping, origins: Mapping[str, Mapping]) -> Head:
    cards = [(f"{_spread(result, key)} %", name) for key, name in measures(result).items()]
    if "pooled" in result:
        cards.append((f"{percent(result['pooled']['top1'])} %", "of all clips together"))
    cards.append((f"{result['scored']} of {result['listed']}", "clips could be scored"))
    models = dict.fromkeys(model_of(origin) for origin in origins.values())
    rules = result["protocol"]
    data = f"{rules['fields']['dataset']}: {result['over']}, protocol {rules['identifier']}"
    date = max((str(origin.get("date") or "") for origin in origins.values()), default="")
    return Head(conclusion(result), cards, ", ".join(filter(None, models)), data, day(date), command_line())


def _kind(result: Mapping) -> str:
    return {"folds": "fold", "halves": "half"}.get(result["protocol"]["fields"]["subsets"], "list")


def _spread(result: Mapping, key: str) -> str:
    """A mean over the parts and, where there are several, its population standard deviation, in percent."""
    deviation = result[f"{key}_std"]
    return percent(result[key]) + ("" if deviation is None else f" ± {percent(deviation)}")


def _text(result: Mapping) -> str:
    recall = "; of the mean class recall by bootstrap within classes" if "mean_class_recall" in result else ""
    spread = "" if len(parts_of(result)) < 2 else " The mean is given with the population standard deviation."
    return f"In brackets: 95 % intervals, Wilson's{recall}.{spread}"


def _further(result: Mapping) -> list[Section]:
    """The measures that are not those of each part alone."""
    shown = {name for row in parts_table(result) for name in row}
    rows = [
        {"measure": f"{name} (%)", "mean": _spread(result, key)}
        for key, name in measures(result).items()
        if f"{name} (%)" not in shown
    ]
    return [Section("Further numbers", table=rows)] if rows else []


def _classes(classes: Sequence[Mapping], folder: Path) -> Section:
    rows = sorted(classes, key=lambda row: row["recall"])
    table = [
        {"class": row["class"], "right": f"{row['correct']} of {row['listed']}", "recall (%)": percent(row["recall"])}
        for row in rows
    ]
    figure = recall_plot(rows, folder / "recall")[0]
    caption = "Share of the clips of each class that are named correctly, all lists together; lowest first."
    return Section("Class by class", "", table, figures=[(figure, caption)])


def _pages(links: Mapping[str, str]) -> list[Section]:
    lines = Markup("\n").join(Markup('<li><a href="{}">{}</a></li>').format(link, name) for name, link in links.items())
    text = "The page of each list shows its confusions, its reliability and some of its clips."
    return [Section("Each list", text, markup=Markup("<ul>\n{}\n</ul>").format(lines))] if links else []


def _departures(result: Mapping) -> Section:
    lines = result["protocol"]["departures"]
    kept = "Everything was done as the protocol says."
    text = "\n".join(lines) if lines else kept
    other = [line for line in result["warnings"] if line not in lines]
    return Section("Departures from the rules", "\n".join([text, *(f"Warning: {line}" for line in other)]))


def _rules(rules: Mapping) -> str:
    """A line for each rule of the protocol that says something, and its hash."""
    lines = []
    for key in RULES:
        value = rules["fields"].get(key)
        words = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        if words not in ("", "None"):
            lines.append(f"{key}: {words}")
    return "\n".join([*lines, f"hash: {rules['digest']}"])


PARTS = (
    "Each part with its 95 % interval. Dashed: their mean; the band around it is one population standard deviation to"
    " each side. Lists that share clips, and halves that share classes, are not independent of each other."
)

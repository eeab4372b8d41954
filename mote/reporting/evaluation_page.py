"""The page of one evaluation: numbers with their intervals, recall per class, confusions, reliability, and clips.

Everything comes from the files that an evaluation leaves (NAME.json and NAME.csv) and from decoded frames, so a page
can be made again at any time. One self-contained file; its figures also lie beside it as SVG and PNG, its tables as
CSV, for programs.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from markupsafe import Markup

from mote.files.writing import write_atomic
from mote.reporting.contact_sheet import ShownClip, contact_sheet, largest_change, side_for
from mote.reporting.evaluation_head import evaluation_head
from mote.reporting.evaluation_numbers import none_of_these, numbers_table, samples, scored_text
from mote.reporting.evaluation_plots import calibration_plot, recall_plot
from mote.reporting.page import Section, percent, write_page
from mote.reporting.plots import MOST_CELLS, NAMED_ROWS, confusion_plot

MAX_PAIRS = 20  # most confused pairs shown; all of them are in confused.csv
MAX_NAMES = 50  # undecodable files shown; all of them are in the result file
FIGURES, TABLES = ("recall", "confusion", "calibration", "given"), ("summary", "per_class", "confused", "calibration")
MAX_ABSENT = 12  # classes without a clip that are named; all of them are in the result file


class ConfusedPair(TypedDict):
    """Clips of one class that were taken for another: their number, and their share of the decoded clips of it."""

    true: str
    predicted: str
    clips: int
    of: int
    share: float


def write_evaluation_page(
    path: Path | str,
    result: Mapping,
    predictions: Sequence[Mapping[str, str]],
    clips: Sequence[ShownClip] = (),
    extra: Sequence[Section] = (),
    *,
    title: str | None = None,
    note: str = "",
) -> Path:
    """Write the page of one evaluation to `path`, in a folder of its own, and return the path.

    result: the document of a result file; keys calibration, halves, overlap, union, open_set and protocol are shown
    where there are any. predictions: the rows of its CSV file, see `read_predictions`. clips: for the contact sheets,
    chosen with `pick_clips`; right and wrong ones are told apart here. extra: further sections, after the numbers.
    note: sentences above the frames of clips.
    Beside the page: recall, confusion and calibration as .svg and .png; summary, per_class, confused and calibration
    as .csv. Raises ValueError when result and predictions are not of the same evaluation.
    """
    _check(result, predictions)
    path = Path(path)
    folder = path.parent
    numbers = numbers_table(result)
    _write_csv(folder / "summary.csv", numbers)
    pairs = confused_pairs(predictions)
    sections = [
        Section("Numbers", scored_text(result), numbers),
        *none_of_these(result),
        *extra,
        _recall(result, folder),
        _confusion(result, predictions, pairs, folder),
        *_calibration(result, folder),
        *_contact_sheets(clips, note),
        *_undecodable(result),
        _provenance(result),
    ]
    title = title or f"Evaluation: {result.get('task', path.stem)}"
    return write_page(path, title, sections, evaluation_head(result, pairs))


def page_files(name: str) -> list[str]:
    """The page of the result `name`, and the figures and tables beside it, by their paths in the folder of results."""
    figures = [f"{figure}{end}" for figure in FIGURES for end in (".svg", ".png")]
    return [f"{name}/{file}" for file in ("index.html", *figures, *(f"{table}.csv" for table in TABLES))]


def read_predictions(path: Path | str) -> list[dict[str, str]]:
    """Rows of a result's CSV file, column name -> cell."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def confused_pairs(predictions: Sequence[Mapping[str, str]]) -> list[ConfusedPair]:
    """The pairs of classes that are confused.

    Most clips first, then the greatest share, then by name. `of` counts decoded clips, as the confusion matrix does.
    """
    counts = _confusion_counts(predictions)
    total = Counter(row["label"] for row in predictions if row["valid"] == "1")
    pairs: list[ConfusedPair] = [
        {"true": true, "predicted": predicted, "clips": n, "of": total[true], "share": n / total[true]}
        for (true, predicted), n in counts.items()
        if true != predicted
    ]
    return sorted(pairs, key=lambda pair: (-pair["clips"], -pair["share"], pair["true"], pair["predicted"]))


def _confusion_counts(predictions: Sequence[Mapping[str, str]]) -> Counter[tuple[str, str]]:
    return Counter((row["label"], row["predicted"]) for row in predictions if row["valid"] == "1")


def _check(result: Mapping, predictions: Sequence[Mapping[str, str]]) -> None:
    found = len(predictions), sum(row["correct"] == "1" for row in predictions)
    if found != (result["listed"], result["top1_correct"]):
        raise ValueError(
            f"predictions hold {found[0]} clips, {found[1]} of them right, but the result says {result['listed']} and"
            f" {result['top1_correct']}; pass the .json and .csv of the same evaluation"
        )


def _recall(result: Mapping, folder: Path) -> Section:
    rows = sorted(result["per_class"], key=lambda row: row["recall"])
    _write_csv(folder / "per_class.csv", result["per_class"])
    svg, _ = recall_plot(rows, folder / "recall")
    low, high = rows[0], rows[-1]
    caption = (
        f"Share of the {samples(result)} of each class that are named correctly: from {percent(low['recall'])} %"
        f" ({low['class']}) to {percent(high['recall'])} % ({high['class']}), mean"
        f" {percent(result['mean_class_recall'])} %. In brackets: right of listed."
    )
    absent = result.get("absent_classes") or []
    text = f"No {samples(result)[:-1]} is listed of {len(absent)} classes: {_enumerate(absent)}." if absent else ""
    table = [{**row, "recall": percent(row["recall"])} for row in rows]
    return Section("Recall per class", text, table, figures=[(svg, caption)])


def _confusion(
    result: Mapping, predictions: Sequence[Mapping[str, str]], pairs: Sequence[ConfusedPair], folder: Path
) -> Section:
    """The matrix is counted again from the predictions, for the result file does not say the order of its classes."""
    classes = [row["class"] for row in result["per_class"]] + list(result.get("absent_classes") or [])
    items = samples(result)
    _write_csv(folder / "confused.csv", pairs, ["true", "predicted", "clips", "of", "share"])
    table = [
        {
            "true": p["true"],
            "predicted": p["predicted"],
            items: f"{p['clips']} of {p['of']}",
            "%": percent(p["share"]),
        }
        for p in pairs[:MAX_PAIRS]
    ]
    text = f"No decoded {items[:-1]} was taken for another class."
    if pairs:
        text = f"The pairs with most {items}, {len(table)} of {len(pairs)}; all are in confused.csv."
    if result.get("confusion_matrix", ()) is None:  # too many classes, for a figure too
        return Section("Confusions", text, table)
    counts = _confusion_counts(predictions)
    svg, _ = confusion_plot([[counts[t, p] for p in classes] for t in classes], classes, folder / "confusion")
    caption = (
        f"Confusion matrix of {len(classes)} classes: what the {items} of each class (row) were named (column), from"
        " nothing at 0 % to full colour at 100 % of the class; grey: no decoded one."
    )
    if len(classes) <= NAMED_ROWS:
        return Section("Confusions", text, table, figures=[(svg, f"{caption} Columns have the numbers of the rows.")])
    caption += " Colours grow with the square root, so that single errors are seen. The numbers are explained below."
    if len(classes) > MOST_CELLS:
        caption += " A cell is the largest share among several classes beside each other."
    return Section("Confusions", text, table, figures=[(svg, caption)], markup=key_of_numbers(classes))


def key_of_numbers(classes: Sequence[str]) -> Markup:
    """The class names that numbers in a figure stand for, counted from 1, shown on demand."""
    items = Markup("\n").join(Markup("<li><b>{}</b> {}</li>").format(n, name) for n, name in enumerate(classes, 1))
    words = Markup("<summary>Key: the names of the {} numbers</summary>").format(len(classes))
    return Markup('<details>{}\n<ol class="key-of-numbers">\n{}\n</ol></details>').format(words, items)


def _calibration(result: Mapping, folder: Path) -> list[Section]:
    calibration = result.get("calibration")
    if not calibration:
        return []
    _write_csv(folder / "calibration.csv", calibration["bins"])
    svg, _ = calibration_plot(calibration, folder / "calibration")
    caption = (
        f"Accuracy against confidence of {calibration['count']} {samples(result)}, and how many there are of each"
        f" confidence. Expected calibration error {percent(calibration['ece'])} %. Below the dashed line the model is"
        " surer than it is right."
    )
    return [Section("Reliability", figures=[(svg, caption)])]


def _contact_sheets(clips: Sequence[ShownClip], note: str) -> list[Section]:
    scale, side = largest_change(clips), side_for(clips)
    right, wrong = [clip for clip in clips if clip.correct], [clip for clip in clips if not clip.correct]
    return [
        Section(heading, note, markup=contact_sheet(part, scale=scale, side=side))
        for heading, part in (("Right and most certain", right), ("Wrong and most certain", wrong))
        if part
    ]


def _undecodable(result: Mapping) -> list[Section]:
    paths = result.get("undecodable") or []
    if not paths:
        return []
    more = [f"... and {len(paths) - MAX_NAMES} more, see the result file"] if len(paths) > MAX_NAMES else []
    return [Section("Could not be decoded", "They count as wrong.", commands=[*paths[:MAX_NAMES], *more])]


def _provenance(result: Mapping) -> Section:
    origin = result.get("provenance") or {}
    protocol = result.get("protocol") or {}
    fields = protocol.items() if isinstance(protocol, Mapping) else [("name", protocol)]
    rows = [{"what": f"protocol: {key}", "value": f"{value}"} for key, value in fields if isinstance(value, str | int)]
    # The words before hashes and dates keep them from being set like numbers.
    rows += [{"what": f"{key}", "value": f"sha256:{value}"} for key, value in (origin.get("hashes") or {}).items()]
    found = [f"{name} {version}" for name, version in (origin.get("versions") or {}).items() if version]
    if found:
        rows.append({"what": "versions", "value": ", ".join(found)})
    rows.append({"what": "evaluated", "value": f"on {origin['date']}" if "date" in origin else "unknown"})
    return Section("Provenance", table=rows, facts=origin, fold="Hashes, versions and settings of this evaluation")


def _enumerate(names: Sequence[str]) -> str:
    more = f", and {len(names) - MAX_ABSENT} more" if len(names) > MAX_ABSENT else ""
    return ", ".join(names[:MAX_ABSENT]) + more


def _write_csv(path: Path, rows: Sequence[Mapping], columns: Sequence[str] | None = None) -> None:
    """Write rows under their columns; with `columns` given, no rows make a file with a header alone."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())

"""Sections of an evaluation's page on classes of unequal size: by class, by group, and confusion between groups."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mote.reporting.contact_sheet import ShownClip, contact_sheet
from mote.reporting.imbalance_plots import given_plot
from mote.reporting.page import Section, percent

OVERLAY = (
    "From left to right: the face, where the network sees the true class, and where it sees the class that it chose: "
    "the share of that class in the softmax over all classes at each place of the last feature map. Dark is 0; the "
    "brightest is the largest share within the two maps of a face. The number below is the largest of that map."
)


def imbalance_sections(result: Mapping, folder: Path) -> list[Section]:
    """Sections of a result with the keys of `mote.metrics.imbalance.imbalance_summary`; writes a figure to `folder`.

    None where all classes have equally many training samples: there are no frequent and no rare ones.
    """
    if "groups" not in result:
        return []
    text = (
        "Overall accuracy (WAR, weighted average recall) is top-1; mean accuracy over classes (UAR, unweighted average "
        f"recall, balanced accuracy) is the mean class recall. Macro-F1: {percent(result['macro_f1'])} %."
    )
    classes = [
        {
            "class": row["class"],
            "training": row["training"],
            "right": f"{row['correct']} of {row['listed']}",
            "recall [95 %]": percent(row["recall"], row["interval"]),
            "F1": percent(row["f1"]),
        }
        for row in result["classes"]
    ]
    groups = [
        {
            "group": name,
            "classes": ", ".join(part["classes"]),
            "right": f"{part['correct']} of {part['listed']}",
            "accuracy [95 %]": percent(part["accuracy"], part["accuracy_interval"]),
            "mean recall": percent(part["mean_recall"]),
        }
        for name, part in result["groups"].items()
        if part["listed"]
    ]
    sections = [Section("Unequal classes", text, classes), Section("Head, medium and tail", table=groups)]
    return [*sections, _mined(result, folder)]


def overlay_sections(best: Sequence[ShownClip], worst: Sequence[ShownClip], of: str = "Minor classes") -> list[Section]:
    """Faces with their attention maps, `of` the rare classes or of all: right and wrong, the most certain ones."""
    parts = ((f"{of}, right and most certain", best), (f"{of}, wrong and most certain", worst))
    return [Section(heading, OVERLAY, markup=contact_sheet(part, scale=0.0)) for heading, part in parts if part]


def _mined(result: Mapping, folder: Path) -> Section:
    knowledge = result["extra_knowledge"]
    names = list(result["training_counts"])
    svg, _ = given_plot({name: part["given"] for name, part in knowledge.items()}, names, folder / "given")
    rows = [
        {
            "measure": name,
            "samples of the head": part["mined"]["samples"],
            "to the tail (%)": percent(part["mined"]["given"]),
            "to their own class (%)": percent(part["mined"]["own"]),
            "tail's part of the rest (%)": percent(part["mined"]["share"]),
        }
        for name, part in knowledge.items()
        if part["mined"]
    ]
    text = (
        "What the samples of the major classes say about the minor ones. Probability: mean of the predicted "
        "distributions. Attention: softmax over the classes at each place of the last feature map, mean over places. "
        "Compare two results with `mote compare`."
    )
    caption = (
        "Mean share in % that the samples of each class (row) give to every class (column). Columns have the numbers of"
        " the rows; where there are no names, those of the key of the confusions."
    )
    return Section("Extra knowledge", text, rows, figures=[(svg, caption)])

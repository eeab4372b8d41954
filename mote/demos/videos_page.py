"""The page of `mote demo`: clips and what each model answers, who wins and why, all of it counted from the results."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from mote.datasets.synthetic.clips import MOTIONS
from mote.demos.answers import LEVEL, Predictions, cards_of, difference, read_answers, spread
from mote.evaluation.page import page_path
from mote.reporting.clip_cards import clip_cards
from mote.reporting.page import Head, Section, chance, command_line, day, percent, tradeoff_table, write_page

Row = dict[str, Any]
SPLITS = {  # of the evaluations -> what its clips are
    "closed_test": "an object and a motion that were tuned on together",
    "unseen_pairs": "a pair that was never tuned on",
    "unseen_objects": "an object that was never tuned on",
    "appearance": "an object that was never tuned on, named without its motion",
}
MOVING = ("closed_test", "unseen_pairs", "unseen_objects")  # splits whose names say a motion


class Errors(NamedTuple):
    """Of the clips whose name says an object and a motion: shares in which a model has both, one, or none right."""

    both: float
    thing: float
    motion: float
    none: float


def write_demo_page(
    out: Path,
    rows: Sequence[Row],
    folders: Mapping[str, Path],
    plane: Path,
    curves: Sequence[tuple[Path, str]],
    facts: Mapping[str, object],
) -> Path:
    """Write `out`/index.html and return it.

    Args:
        out: folder of the demonstration.
        rows: of the table, see `mote.metrics.zero_shot.trade_off`.
        folders: of each model by name, with its evaluations.
        plane: SVG file of the trade-off plane.
        curves: (SVG file, words) of the losses of each training.
        facts: seed, seconds, versions and runs.
    """
    tables = {split: read_answers(_files(rows, folders, split)) for split in SPLITS}
    own = {split: {name: tables[split][name] for name in folders if name in tables[split]} for split in SPLITS}
    best = max(range(len(rows)), key=lambda i: rows[i]["harmonic_mean"])
    cards = [
        card
        for start, split in enumerate(MOVING)
        for card in cards_of(own[split], spread(next(iter(own[split].values())), start, len(MOVING)), SPLITS[split])
    ]
    errors = {name: found for name in folders if (found := errors_of([own[split][name] for split in MOVING]))}
    sections = [
        Section("What the models say", CLIPS, markup=clip_cards(cards)),
        Section("Accuracy (%)", EXPLANATION, tradeoff_table(rows), best),
        Section("Who wins, and why", markup=_list(reasons(rows, tables, errors)), table=_error_table(errors)),
        Section("Specialisation against generalisation", figures=[(plane, PLANE)]),
        Section(
            "Each evaluation",
            "Confusions, recall per class, and the frames that mattered.",
            markup=_links(folders, out),
        ),
        Section("Training", figures=curves, fold=f"Loss curves ({len(curves)})"),
        Section("What next", NEXT, commands=next_commands(folders)),
        Section("Provenance", facts=facts),
    ]
    sizes = ", ".join(f"{len(next(iter(part.values())))} {s.replace('_', ' ')}" for s, part in own.items())
    minutes, seconds = divmod(round(float(str(facts["seconds"]))), 60)
    head = Head(
        conclusion(rows, tables, errors),
        _cards(rows, folders),
        f"{len(folders)} models, seed {facts['seed']}, {minutes} min {seconds} s",
        f"drawn clips: {sizes}",
        day(datetime.now(UTC).isoformat()),
        command_line(),
    )
    return write_page(out / "index.html", "mote demo: what a temporal head adds to CLIP", sections, head)


def conclusion(
    rows: Sequence[Row], tables: Mapping[str, Mapping[str, Predictions]], errors: Mapping[str, Errors]
) -> str:
    """Which model is best, by how much, whether that may be chance, and what it can do that the last cannot."""
    first, second = sorted(rows, key=lambda row: -row["harmonic_mean"])[:2]
    lead = 100 * (first["harmonic_mean"] - second["harmonic_mean"])
    points, p, clips = _paired(first["method"], second["method"], tables)
    text = (
        f"{first['method']} comes first: harmonic mean {percent(first['harmonic_mean'])} %, {lead:.1f} points before"
        f" {second['method']} (clip by clip {points:+.1f} points over {clips} clips, {chance(p)}"
    )
    text += ")" if p < LEVEL else ", which may be chance)"
    name = first["method"].removesuffix(" + gate")
    if name in errors and len(errors) > 1:
        motion = {key: e.both + e.motion for key, e in errors.items()}
        low = min(motion, key=motion.__getitem__)
        text += f"; it names the motion in {percent(motion[name])} % of the clips, {low} in {percent(motion[low])} %"
    return f"{text[0].upper()}{text[1:]}."


def reasons(
    rows: Sequence[Row], tables: Mapping[str, Mapping[str, Predictions]], errors: Mapping[str, Errors]
) -> list[str]:
    """Sentences on what separates the models, from their answers."""
    order = sorted(rows, key=lambda row: -row["harmonic_mean"])
    lines = ["From first to last by the harmonic mean: " + ", ".join(_named(row) for row in order) + "."]
    if errors:
        motion = {name: e.both + e.motion for name, e in errors.items()}
        high, low = max(motion, key=motion.__getitem__), min(motion, key=motion.__getitem__)
        thing = {name: errors[name].both + errors[name].thing for name in (high, low)}
        lines.append(
            f"{high} names the motion in {percent(motion[high])} % of the clips, {low} in {percent(motion[low])} %; the"
            f" object in {percent(thing[high])} % and {percent(thing[low])} %. With {len(MOTIONS)} motions, guessing"
            f" gives {percent(1 / len(MOTIONS))} %."
        )
    drops = {row["method"]: row["closed_set"] - row["zero_shot"] for row in rows if row["closed_set"] > LEARNED}
    if len(drops) > 1:
        least, most = min(drops, key=drops.__getitem__), max(drops, key=drops.__getitem__)
        lines.append(
            f"From classes of tuning to new ones {most} loses most ({100 * drops[most]:.1f} points), {least} least"
            f" ({100 * drops[least]:.1f})."
        )
    of = {row["method"]: row for row in rows}
    for name in (name for name in of if f"{name} + gate" in of):
        points = 100 * (of[f"{name} + gate"]["harmonic_mean"] - of[name]["harmonic_mean"])
        p = _paired(f"{name} + gate", name, tables)[1]
        lines.append(f"The gate changes the harmonic mean of {name} by {points:+.1f} points ({chance(p)}).")
    return lines


def errors_of(tables: Sequence[Predictions]) -> Errors | None:
    """Where a model errs, over lists whose names are an object and a motion; None for other names."""
    counts = [0, 0, 0, 0]
    for row in (row for table in tables for row in table):
        true, named = _parts(row["label"]), _parts(row["predicted"])
        if true is None or (named is None and row["predicted"]):
            return None
        thing, motion = (named is not None and named[i] == true[i] for i in (0, 1))
        counts[0 if thing and motion else 1 if thing else 2 if motion else 3] += 1
    return Errors(*(count / sum(counts) for count in counts))


def next_commands(folders: Mapping[str, Path]) -> list[str]:
    """Commands that go on from here, ready to copy."""
    runs = {name: folder / "all" for name, folder in folders.items() if (folder / "all").is_dir()}
    run = list(runs.values())[-1] if runs else Path("tiny")
    commands = [f"mote predict {run} my_clip.mp4 --labels 'a red star moving left,a blue ball'"]
    if len(runs) > 1:
        a, b = (folder.parent / "evaluations" / "unseen_pairs.json" for folder in list(runs.values())[-2:])
        commands.append(f"mote compare {a} {b} --page compare.html")
    commands.append("mote train data.train=my_list.csv data.classes=my_classes.txt run.out=runs/mine")
    return [*commands, "mote eval runs/mine evaluation.manifest=my_test_list.csv"]


def _files(rows: Sequence[Row], folders: Mapping[str, Path], split: str) -> dict[str, Path]:
    """Tables of predictions by the name of the row; on the classes of tuning there is no gate."""
    files = {}
    for name, folder in folders.items():
        files[name] = folder / "evaluations" / f"{split}.csv"
        gated = folder / "evaluations" / f"{split}_gated.csv"
        files[f"{name} + gate"] = files[name] if split == "closed_test" else gated
    return {row["method"]: files[row["method"]] for row in rows}


def _paired(one: str, other: str, tables: Mapping[str, Mapping[str, Predictions]]) -> tuple[float, float, int]:
    return difference([part[one] for part in tables.values()], [part[other] for part in tables.values()])


def _parts(name: str) -> tuple[str, str] | None:
    """Object and motion of a class name."""
    motion = next((motion for motion in MOTIONS if name.endswith(f" {motion}")), None)
    return None if motion is None else (name.removesuffix(f" {motion}"), motion)


def _list(lines: Sequence[str]) -> Markup:
    items = Markup("\n").join(Markup("<li>{}{}</li>").format(line[0].upper(), line[1:]) for line in lines)
    return Markup('<ul class="reasons">\n{}\n</ul>').format(items)


def _named(row: Row) -> str:
    return f"{row['method']} {percent(row['harmonic_mean'])}"


def _error_table(errors: Mapping[str, Errors]) -> list[dict[str, object]]:
    names = ("object and motion", "object only", "motion only", "neither")
    return [
        {"right, % of clips": name, **{key: percent(share) for key, share in zip(names, found, strict=True)}}
        for name, found in errors.items()
    ]


def _cards(rows: Sequence[Row], folders: Mapping[str, Path]) -> list[tuple[str, str]]:
    best = max(rows, key=lambda row: row["harmonic_mean"])
    name = best["method"]
    cards = [
        (f"{percent(best['harmonic_mean'])} %", f"harmonic mean of {name}"),
        (f"{percent(best['closed_set'])} %", f"closed-set: {name}"),
        (f"{percent(best['zero_shot'])} %", f"zero-shot, harmonic mean of {len(best['zero_shot_sets'])} sets: {name}"),
    ]
    gated = {row["method"].removesuffix(" + gate") for row in rows if row["method"].endswith(" + gate")}
    frames = [row for row in rows if row["method"] in folders and row["method"] not in gated]
    if frames and best not in frames:
        other = max(frames, key=lambda row: row["harmonic_mean"])
        points = 100 * (best["harmonic_mean"] - other["harmonic_mean"])
        cards.append((f"{points:+.1f}", f"points over {other['method']}, the best without a temporal head"))
    return cards


def _links(folders: Mapping[str, Path], out: Path) -> Markup:
    """A line for each model: links to the pages of its evaluations (gate off), relative to `out`."""
    lines = []
    for name, folder in folders.items():
        pages = [(split, page_path(folder / "evaluations", split)) for split in SPLITS]
        links = [
            Markup('<a href="{}">{}</a>').format(page.relative_to(out).as_posix(), split.replace("_", " "))
            for split, page in pages
            if page.is_file()
        ]
        lines.append(Markup("<p>{}: {}</p>").format(name, Markup(", ").join(links)))
    return Markup("\n").join(lines)


LEARNED = 0.5  # closed-set accuracy from which on a model has something to lose on new classes
CLIPS = (
    "Coloured shapes that move before moving backgrounds. No single frame shows a motion: left and right differ in the"
    " order of the frames alone. These clips stand at equal distances in the lists of test clips; nobody chose them."
)
EXPLANATION = (
    "Closed-set: new clips of the object-motion pairs the model was tuned on. Zero-shot: pairs never tuned on, objects"
    " never tuned on, and objects named without a motion; the column is the harmonic mean of the three. Brackets are"
    " 95 % intervals. Gate: temporal feature modulation, which trusts the temporal branch less on unfamiliar names."
)
PLANE = (
    "Right: better on the classes of tuning. Up: better on new classes. Bars are 95 % intervals, grey dashes join"
    " points of equal harmonic mean."
)
NEXT = "Name your own videos in your own words, look closer at a comparison, or train on your own list."

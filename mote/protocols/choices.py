"""What each choice of an evaluation moves (`mote frontier --choices`): a protocol, and the same with one thing changed.

The model and the videos stay the same, so what differs is the choice alone: the filter that resizes frames, the
decoder, the prompt templates, the fusion of views, alpha, temporal feature modulation, where clips and crops lie, and
how many there are. Other lists may be scored by the same rules, such as the validation videos of Kinetics-600 beside
the test videos. Frames are encoded once for all choices that see them alike.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypedDict

from tqdm import tqdm

from mote.config import Config
from mote.evaluation.results import working_on
from mote.files.preprocessing import INTERPOLATIONS
from mote.files.provenance import provenance
from mote.files.writing import csv_text, to_json, write_together
from mote.inference.asked import Entry
from mote.inference.classifier import VideoClassifier
from mote.inference.contract import as_asked, check_named, settled
from mote.inference.loading import load_video
from mote.metrics.result_files import Summary, read_table
from mote.parallel.accelerator import make_accelerator, on_main
from mote.protocols.carry_out import Share, by_rules, run_protocol
from mote.protocols.frontier import features_kept
from mote.protocols.lists import ProtocolList, check_settings
from mote.protocols.table import PROTOCOLS, Protocol
from mote.protocols.targets import Target, find_target
from mote.reporting.page import text_table

OPTIONS: Mapping[str, tuple] = {  # field of a protocol -> its values that are tried
    "decoder": ("pyav", "decord", "decord_single"),
    "templates": ("templates/kinetics28.txt", "templates/name.txt"),
    "fusion": ("mean_softmax", "mean_logits", "reference"),
    "alpha": (1.0, 0.99),
    "modulation": (False, True),
    "places": ("even", "released"),
}
VIEWS = ((1, 1), (3, 1), (4, 3))
RULES = ("templates", "frames", "sampling", "clips", "crops", "fusion", "modulation", "modulation_k")
RULES = (*RULES, "modulation_gamma", "alpha", "decoder", "places")  # what stays the same on other lists


class Choice(NamedTuple):
    """One thing that is measured: how it differs from the base, and what is carried out."""

    choice: str  # "base" for the base itself
    value: str
    protocol: Protocol
    lists: Sequence[ProtocolList]
    config: Config


class Moved(TypedDict):
    """What a choice moves. Accuracies are fractions; `difference` is to the base.

    changed: number of videos with another prediction than under the base; None for other lists.
    result: file of the protocol's result under this choice.
    """

    choice: str
    value: str
    top1: float
    difference: float
    changed: int | None
    videos: int
    result: str


def choices(entry: Entry, targets: Sequence[str], out: Path, *, root: str | None = None) -> list[Moved]:
    """Carry out every choice; print the table, write `out`/choices.json and .csv and a result for each choice.

    Args:
        entry: a video model, see `mote.load`; its configuration says all that the protocol leaves open.
        targets: PROTOCOL=LISTS, the base; then others, whose lists are scored by the rules of the base.
        out: folder of the results.
        root: what relative paths in the lists start from.

    Raises:
        ValueError: a target that is no protocol, or one of folds; settings or lists that do not fit.
    """
    source, config, named, own = entry
    base, *others = [_target(text, entry, root) for text in targets]
    accelerator = make_accelerator("fp32", cpu=config.run.cpu)
    loaded = load_video(source.model, backbone=source.backbone, device=accelerator.device)
    classifier = as_asked(loaded, config, named)
    check_named(classifier, config, own, named)
    measured = list(_choices(base, others, classifier, config))
    for one in measured:
        by_rules(as_asked(classifier, one.config, named), one.config, one.protocol, one.lists[0])
    rows: list[Moved] = []
    before: dict[str, str] = {}
    departures: list[str] = []
    with working_on(accelerator, out, "choices"), features_kept(config, classifier, out, accelerator) as folder:
        for one in tqdm(measured, desc="choices", disable=None if accelerator.is_main_process else True):
            settings = one.config.evaluation.model_copy(update={"cache": str(folder), "page": False, "unknown": None})
            used = one.config.model_copy(update={"evaluation": settings})
            share = Share(as_asked(classifier, used, named), used, one.lists, loaded.recipe)
            result = run_protocol([share], one.protocol, accelerator, out, name=_file_name(one))
            tables = [out / f"{result['task']}-{part}.csv" for part in result["lists"]]
            predicted = on_main(accelerator, lambda tables=tables: _predictions(tables))
            if one is measured[0]:
                before, departures = predicted, result["protocol"]["departures"]
            rows.append(_moved(one, result, rows[0]["top1"] if rows else result["top1"], predicted, before))
    origin = provenance(config=settled(config, classifier).model_dump(), hashes=_digests(measured), seed=config.seed)
    origin["inputs"] = source._asdict() | {"choices": list(targets), "root": root}
    origin["departures"] = departures
    texts = {"choices.csv": _csv(rows), "choices.json": to_json({"rows": rows, "provenance": origin})}
    on_main(accelerator, lambda: write_together({out / name: text for name, text in texts.items()}))
    if accelerator.is_main_process:
        for line in departures:
            print(f"mote: warning: {line}", file=sys.stderr)
        print(f"{text_table(list(map(_shown, rows)))}\n{out}/choices.json, choices.csv")
    return rows


def _target(text: str, entry: Entry, root: str | None) -> Target:
    """A protocol with its lists; raises ValueError for any other kind."""
    target = find_target(text, entry.config, root)
    if target.protocol is None or target.protocol.subsets == "folds":
        known = ", ".join(one.name for one in PROTOCOLS.values() if one.subsets != "folds")
        raise ValueError(f"{text}: --choices needs PROTOCOL=LISTS, with one of {known}")
    check_settings(target.protocol, {*entry.named}, entry.config)
    return target


def _choices(base: Target, others: Sequence[Target], classifier: VideoClassifier, config: Config) -> Iterator[Choice]:
    """The base, then everything that differs from it in one thing and that the model can follow."""
    protocol = base.protocol
    assert protocol is not None
    yield Choice("base", protocol.identifier, protocol, base.lists, config)
    own = classifier.model.preprocessing.interpolation
    for value in (value for value in INTERPOLATIONS if value != own):
        data = config.data.model_copy(update={"interpolation": value})
        yield Choice("filter", value, protocol, base.lists, config.model_copy(update={"data": data}))
    used = {**{key: getattr(protocol, key) for key in OPTIONS}, "decoder": protocol.decoder or classifier.decoder}
    several = protocol.clips * protocol.crops > 1
    possible = {"modulation": classifier.model.temporal is not None and classifier.can_gate, "places": several}
    possible |= {"fusion": several}
    for key, values in OPTIONS.items():
        for value in values if possible.get(key, True) else ():
            if value != used[key]:
                yield Choice(key, _in_words(value), replace(protocol, **{key: value}), base.lists, config)
    for clips, crops in VIEWS:
        if (clips, crops) != (protocol.clips, protocol.crops):
            changed = replace(protocol, clips=clips, crops=crops)
            yield Choice("views", f"{clips}x{crops}", changed, base.lists, config)
    for other in others:
        assert other.protocol is not None
        ruled = replace(other.protocol, **{key: getattr(protocol, key) for key in RULES})
        name = f"{ruled.identifier}{ruled.subset and '/' + ruled.subset} {other.lists[0].manifest.parent}"
        yield Choice("lists", name, ruled, other.lists, config)


def _moved(one: Choice, result: Summary, top1: float, predicted: Mapping[str, str], before: Mapping[str, str]) -> Moved:
    """The row of a choice; `top1`, `before`: accuracy and predictions under the base."""
    changed = sum(predicted[key] != before[key] for key in before) if one.choice != "lists" else None
    return {
        "choice": one.choice,
        "value": one.value,
        "top1": result["top1"],
        "difference": result["top1"] - top1,
        "changed": changed,
        "videos": len(predicted),
        "result": f"{result['task']}.json",
    }


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value).removeprefix("templates/").removesuffix(".txt")


def _file_name(one: Choice) -> str:
    """Stem of the result files of a choice."""
    return one.choice if one.choice == "base" else re.sub(r"[^A-Za-z0-9._@-]+", "-", f"{one.choice}-{one.value}")


def _predictions(tables: Sequence[Path]) -> dict[str, str]:
    """Predicted class of each video of each list, "" where it could not be decoded."""
    rows = ((number, row) for number, table in enumerate(tables) for row in read_table(table))
    return {f"{number}:{row['path']}": row["predicted"] for number, row in rows}


def _digests(measured: Sequence[Choice]) -> dict[str, str]:
    return {f"{one.choice} {one.value}": one.protocol.digest() for one in measured}


def _csv(rows: Sequence[Moved]) -> str:
    columns = list(Moved.__annotations__)
    return csv_text(columns, [["" if row[key] is None else row[key] for key in columns] for row in rows])


def _shown(row: Moved) -> dict[str, object]:
    """A row as it is printed, in percent."""
    base = row["choice"] == "base"
    return {
        "choice": row["choice"],
        "value": row["value"],
        "top-1": f"{100 * row['top1']:.2f}",
        "difference": "" if base else f"{100 * row['difference']:+.2f}",
        "changed": "" if base or row["changed"] is None else f"{row['changed']} of {row['videos']}",
    }

"""A protocol carried out: its lists found and checked, each scored by the protocol's rules, the numbers joined.

One model scores all lists, or, for a protocol of folds, each list is scored by the model that was trained on its
training rows. Written are one result per list (NAME-test1.json and .csv, as `mote.evaluation.videos` writes them) and
NAME.json with the number of the protocol: mean and population standard deviation over its lists, or over ten halves of
the classes; each also has a page, where the settings want pages. Everything about the lists is checked before the first
video is decoded. What makes a run differ from its protocol without making it meaningless (other numbers of videos, a
union of vocabularies) is in `departures` of the result.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from mote.config import Config
from mote.datasets.lists.reading import Listing
from mote.evaluation.page import drawn, page_path
from mote.evaluation.results import working_on
from mote.evaluation.videos import evaluate
from mote.files.hashes import sha256_file
from mote.files.names import letters
from mote.files.shipped import data_file
from mote.files.writing import to_json, write_together
from mote.inference.asked import Entry
from mote.inference.classifier import VideoClassifier
from mote.inference.contract import as_asked, check_named, other_clips
from mote.inference.loading import load_video
from mote.metrics.result_files import Summary
from mote.parallel.accelerator import Accelerator, make_accelerator, on_main
from mote.parallel.precision import resolve_precision
from mote.protocols.folds import check_folds
from mote.protocols.joining import joined, pooled_classes, rules_of
from mote.protocols.lists import ProtocolList, checked_lists
from mote.protocols.table import Protocol
from mote.reporting.evaluation_page import page_files
from mote.reporting.headline import headline, protocol_headline, report
from mote.reporting.page import text_table
from mote.reporting.protocol_page import parts_table, write_protocol_page


class Share(NamedTuple):
    """A loaded model, the configuration that it is scored under, the lists that it is scored on, and how clips were
    made for it before the user's settings (`VideoClassifier.recipe`), where there may be some.
    """

    classifier: VideoClassifier
    config: Config
    lists: Sequence[ProtocolList]
    recipe: Mapping[str, Any] | None = None


def evaluate_protocol(
    entries: Sequence[Entry],
    protocol: Protocol,
    lists: str,
    root: str | None,
    out: Path,
    *,
    union: str | None = None,
    name: str | None = None,
    found: Sequence[ProtocolList] | None = None,
) -> Summary:
    """Run a protocol by the names of models and lists; print and write the result.

    Args:
        entries: one model; for a protocol of folds one for each list, in the order of the lists.
        protocol: `declared`, if it has variants.
        lists, root: see `find_lists`.
        out: folder of the result files.
        union, name: see `run_protocol`, whose result is returned.
        found: what `checked_lists` gave, where the lists were checked.

    Raises:
        ValueError: another number of models than of lists, or one that was trained on clips of its list.
    """
    accelerator = make_accelerator("fp32", cpu=entries[0].config.run.cpu)
    if accelerator.is_main_process:
        subset = f" ({protocol.subset} videos)" if protocol.subset else ""
        print(f"{protocol.identifier}{subset} {protocol.digest()}")
    found = checked_lists(protocol, lists, root, entries[0].config) if found is None else found
    folds = protocol.subsets == "folds"
    if folds:
        check_folds(protocol, found, [entry.source.model for entry in entries], [entry.config for entry in entries])

    def shares() -> Iterator[Share]:  # one model in memory at a time
        for number, (source, config, named, own) in enumerate(entries):
            loaded = load_video(source.model, backbone=source.backbone, device=accelerator.device)
            classifier = as_asked(loaded, config, named)
            check_named(replace(classifier, sampling=protocol.sampling), config, own, named)
            yield Share(classifier, config, [found[number]] if folds else found, loaded.recipe)

    with working_on(accelerator, out, name or protocol.name):
        result = run_protocol(shares(), protocol, accelerator, out, union=union, name=name)
    if accelerator.is_main_process:
        if folds:
            print(text_table(parts_table(result)))
        for one, part in {} if folds else result["lists"].items():
            print(f"{one}: {headline(part)}")
            report({**part, "warnings": []})
        print(f"{out / result['task']}.json: {protocol_headline(result)}")
        if (page := page_path(out, result["task"])).is_file():
            print(f"{page}: the same with figures")
        report(result)
    return result


def run_protocol(
    shares: Iterable[Share],
    protocol: Protocol,
    accelerator: Accelerator,
    out: Path | None = None,
    *,
    union: str | None = None,
    name: str | None = None,
) -> Summary:
    """Joint result of a protocol.

    What the protocol fixes replaces what the configurations say. A study may pass `dataclasses.replace(protocol,
    alpha=0.5)`: its departures then name the change, and its digest is another one.

    Args:
        shares: which models are scored on which lists; taken one at a time.
        protocol: `declared`, if it has variants.
        accelerator: the processes that share the work.
        out: folder of the result files; for a protocol of folds it also gets NAME.txt, the table. None: nothing is
            written.
        union: class file whose names compete as well.
        name: stem of the result files; None: the protocol's name.

    Returns:
        top1, top5, mean_class_recall, and where they apply top1_without_tuned_names and fell_on_other: means over the
        lists, each with `_std` (population; None for a single list). For a protocol of halves top1 and top5 over the
        halves; for one of folds also `pooled`: top1 and mean_class_recall of the clips of all folds together. `lists`:
        what `mote.evaluation.videos.evaluate` returned for each; listed, scored; protocol (see `Rules`); warnings.

    Raises:
        ValueError: lists that do not fit the classes.
        DecodeError: an undecodable video, unless `evaluation.bad_videos=count_wrong`.
    """
    name = name or protocol.name
    summaries: dict[str, Summary] = {}
    departures: list[str] = []
    page = True
    for classifier, config, lists, recipe in shares:
        classifier = by_rules(classifier, config, protocol, lists[0])
        clips = () if recipe is None else other_clips(classifier.recipe, recipe, protocol.settings())
        own = list(dict.fromkeys([*_departures(classifier, protocol, lists, config, union), *clips]))
        departures += [line for line in own if line not in departures]
        applied = protocol if classifier.can_gate else replace(protocol, modulation=False)
        page &= config.evaluation.page
        for one in lists:
            summaries[one.name] = evaluate(
                classifier,
                settled(config, applied, one, f"{name}-{one.name}", classifier.frames),
                accelerator,
                out,
                union=union,
                protocol={**rules_of(protocol, own), "list": one.name},
                halves=protocol.subsets == "halves",
            )
    result = {"task": name, **joined(summaries), "protocol": rules_of(protocol, departures)}
    result["warnings"] = [*departures, *result["warnings"]]
    if out is not None:
        on_main(accelerator, lambda: _write(out, result, page=page))
    return result


def settled(config: Config, protocol: Protocol, one: ProtocolList, name: str, frames: int) -> Config:
    """The configuration under which a list is scored: the protocol's settings and files in place of the run's."""
    files = {"manifest": one.manifest, "root": one.root, "classes": one.classes}
    fixed: dict[str, dict[str, object]] = {"evaluation": {"name": name}, "data": {}}
    for key, value in protocol.settings().items():
        section, _, setting = key.partition(".")
        fixed[section][setting] = value
    fixed["evaluation"] |= {key: None if value is None else str(value) for key, value in files.items()}
    fixed["evaluation"] |= {"split": protocol.split, "templates": str(data_file(protocol.templates))}
    fixed["data"]["frames"] = frames
    return config.model_copy(
        update={section: getattr(config, section).model_copy(update=new) for section, new in fixed.items()}
    )


def by_rules(classifier: VideoClassifier, config: Config, protocol: Protocol, one: ProtocolList) -> VideoClassifier:
    """The classifier as the protocol wants it used; raises ValueError where it cannot be."""
    ruled = settled(config, protocol, one, protocol.name, protocol.frames or classifier.frames)
    return as_asked(classifier, ruled, protocol.settings().keys())


def _departures(
    classifier: VideoClassifier, protocol: Protocol, lists: Sequence[ProtocolList], config: Config, union: str | None
) -> Iterator[str]:
    """Everything in which this run is not the protocol to the letter."""
    yield from protocol.differences()
    yield from (line for one in lists for line in one.departures)
    if resolve_precision(config.evaluation.precision, classifier.device) != "fp32":
        yield f"evaluation.precision={config.evaluation.precision}: matrix products are not in fp32"
    if config.imbalance.posthoc != "none":
        yield f"imbalance.posthoc={config.imbalance.posthoc}: logits are corrected after training"
    if union is not None:
        yield f"the classes of {union} compete as well"
    tuned = {*map(letters, classifier.classes or ())}
    same = all({*map(letters, Listing(one.manifest, classes=one.classes).names())} == tuned for one in lists)
    if same != (protocol.task == "closed_set"):
        yield f"the model was {'tuned on these very classes' if same else 'not tuned on these classes'}"
    if protocol.modulation and not classifier.can_gate:
        yield "the model has no features of its tuning classes: temporal feature modulation is off"


def _write(out: Path, result: Summary, *, page: bool = False) -> None:
    """The joint result, and its table where it is one of folds, both or neither; then its page.

    Its lists are named with their files and hashes, their numbers are there.
    """
    lists = {}
    for name, part in result["lists"].items():
        file = out / f"{result['task']}-{name}.json"
        keys = ("top1", "top1_interval", "top5", "top5_k", "mean_class_recall", "listed", "scored")
        lists[name] = {"file": file.name, "sha256": sha256_file(file), **{key: part[key] for key in keys}}
    contents = {out / f"{result['task']}.json": to_json({**result, "lists": lists})}
    if result["protocol"]["fields"]["subsets"] == "folds":
        contents[out / f"{result['task']}.txt"] = text_table(parts_table(result)) + "\n"
    write_together(contents, gone=page_files(result["task"]))
    if page:
        drawn(page_path(out, result["task"]), lambda path: _draw(path, out, result))


def _draw(page: Path, out: Path, result: Summary) -> None:
    """The page of the joint result; `out`: where its lists have their results, and their pages."""
    origins, links = {}, {}
    for name in result["lists"]:
        part = f"{result['task']}-{name}"
        origins[name] = json.loads((out / f"{part}.json").read_text("utf-8", "surrogateescape"))["provenance"]
        if page_path(out, part).is_file():
            links[name] = f"../{quote(part)}/index.html"
    write_protocol_page(page, result, pooled_classes(result["lists"].values()), origins, links)

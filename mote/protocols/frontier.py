"""The verb `mote frontier`: one model under many settings, each measured closed-set and zero-shot.

Three sweeps start from the model as it is: alpha (weights of the visual tower interpolated with the original CLIP's),
the gate of the temporal branch (off, fixed values, temporal feature modulation), and every expert alone in all layers
in the place of the merged ones. Only alpha changes the frame features; all else is scored on features computed once.
"""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from tqdm import tqdm

from mote.config import Config
from mote.datasets.lists.reading import Listing
from mote.evaluation.listings import evaluation_listing
from mote.evaluation.results import working_on
from mote.evaluation.videos import evaluate
from mote.evaluation.vocabulary import own_classes
from mote.files.provenance import provenance
from mote.files.temporary import temporary_name
from mote.files.tensor_hashes import sha256_tensors
from mote.files.writing import replacing_together, to_json, write_atomic
from mote.inference.asked import Entry
from mote.inference.classifier import VideoClassifier
from mote.inference.contract import as_asked, check_named, settled
from mote.inference.features import cache_folder
from mote.inference.loading import load_video
from mote.metrics.frontier import frontier_csv, frontier_row, with_pareto
from mote.models import folders
from mote.models.routing import same_expert
from mote.models.video_clip import VideoCLIP
from mote.parallel.accelerator import Accelerator, make_accelerator, on_main
from mote.protocols.carry_out import Share, by_rules, run_protocol
from mote.protocols.lists import check_settings
from mote.protocols.targets import Target, find_target
from mote.reporting.frontier_page import frontier_table, write_frontier_page
from mote.reporting.frontier_plot import frontier_plot
from mote.reporting.page import text_table

ALPHAS = (0.0, 0.25, 0.5, 0.75, 0.9)
GATES = (0.0, 0.25, 0.5, 0.75, 1.0)
COLUMNS = ("setting", "closed-set", "zero-shot", "harmonic mean", "frontier")  # of the table beside the lists
Row = dict[str, Any]  # one point, see `mote.metrics.frontier`


class Accuracy(TypedDict):
    """Top-1 accuracy and its 95 % interval, in 0..1 (None: not known), and in what the protocol was departed from."""

    top1: float
    top1_interval: list[float] | None
    departures: list[str]


@dataclass(frozen=True)
class Setting:
    """One point to measure; `alpha` and `modulation` None: as the target says."""

    name: str
    sweep: str
    value: int | float | None
    classifier: Callable[[], VideoClassifier]
    alpha: float | None = None
    modulation: bool | None = None


def frontier(
    entry: Entry,
    closed: str,
    zero_shot: Sequence[str],
    out: Path,
    *,
    root: str | None = None,
    alphas: Sequence[float] = ALPHAS,
    gates: Sequence[float] = GATES,
) -> list[Row]:
    """Measure all settings; print the table, write `out`/frontier.json, .csv, .svg, .png and index.html.

    Args:
        entry: a video model, see `mote.load`; its configuration says all else, such as precision and workers.
        closed, zero_shot: what is measured on, see `find_target`.
        out: folder of the results.
        root: what relative paths in the lists of protocols start from.
        alphas, gates: values in [0, 1].

    Returns:
        A row for each setting, see `mote.metrics.frontier.with_pareto`.

    Raises:
        ValueError: values outside [0, 1], the same data set named twice, or lists that do not fit.
    """
    source, config, named, own = entry
    if wrong := [value for value in (*alphas, *gates) if not 0 <= value <= 1]:
        raise ValueError(f"alphas and gates must be within 0..1, got {wrong}")
    targets = _targets(entry, closed, zero_shot, root)
    names = [target.name for target in targets]
    accelerator = make_accelerator("fp32", cpu=config.run.cpu)
    loaded = load_video(source.model, backbone=source.backbone, device=accelerator.device)
    classifier = as_asked(loaded, config, named)
    check_named(classifier, config, own, named)
    if min(alphas, default=1) < 1:
        classifier.original_weights()  # refuses a tower that does not fit before anything is measured
    for target in targets:
        _check(target, classifier, config)
    rows, departures = [], dict[str, list[str]]()
    settings = list(_settings(source.model, classifier, alphas, gates))
    with working_on(accelerator, out, "frontier"), features_kept(config, classifier, out, accelerator) as folder:
        for setting in tqdm(settings, desc="settings", disable=None if accelerator.is_main_process else True):
            found = [_measure(setting, target, folder, accelerator, loaded.recipe) for target in targets]
            if setting is settings[0]:  # the model as it is: what the sweeps change is no departure
                departures = {name: one["departures"] for name, one in zip(names, found, strict=True)}
            zero = dict(zip(names[1:], found[1:], strict=True))
            rows.append(frontier_row(setting.name, setting.sweep, setting.value, found[0], zero))
    rows = with_pareto(rows)
    used, hashes = settled(config, classifier), _hashes(targets, classifier)
    origin = provenance(config=used.model_dump(), hashes=hashes, seed=config.seed)
    origin["inputs"] = source._asdict() | {"closed": closed, "zero_shot": list(zero_shot), "root": root}
    origin["departures"] = departures = {name: lines for name, lines in departures.items() if lines}
    on_main(accelerator, lambda: _write(out, rows, origin, names))
    if accelerator.is_main_process:
        for name, lines in departures.items():
            for line in lines:
                print(f"mote: warning: {name}: {line}", file=sys.stderr)
        print(f"{text_table(frontier_table(rows))}\n{out}/index.html, frontier.json, .csv, .svg, .png")
    return rows


def _targets(entry: Entry, closed: str, zero_shot: Sequence[str], root: str | None) -> list[Target]:
    """What is measured on; raises ValueError for what cannot be, before a model is loaded."""
    targets = [find_target(text, entry.config, root) for text in (closed, *zero_shot)]
    for target in targets:
        if target.protocol is not None:
            check_settings(target.protocol, {*entry.named}, entry.config)
    names = [target.name for target in targets]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{', '.join(sorted(twice))}: named twice; every list needs a name of its own")
    for text in zero_shot:
        if Path(text).is_file() and Path(text).suffix.lower() not in (".csv", ".yaml", ".yml"):
            raise ValueError(f"{text}: its labels are numbers of new classes; name these too: {text},CLASSES")
    if taken := [name for name in names[1:] if name in COLUMNS]:
        raise ValueError(f"{taken[0]}: a column of the table has this name; rename the list")
    return targets


def _check(target: Target, classifier: VideoClassifier, config: Config) -> None:
    """Refuse what the model cannot follow, or does not read, before anything is decoded; raises ValueError."""
    asked = as_asked(classifier, target.config, target.named)
    check_named(asked, target.config, config, target.named)
    if target.protocol is not None:
        by_rules(asked, target.config, target.protocol, target.lists[0])
    else:
        listing = evaluation_listing(target.config.evaluation)
        listing.records(own_classes(classifier, listing))


def _settings(
    model: str, classifier: VideoClassifier, alphas: Sequence[float], gates: Sequence[float]
) -> Iterator[Setting]:
    yield Setting("model", "model", None, lambda: classifier)
    for alpha in alphas:
        if alpha < 1:
            yield Setting(f"alpha {alpha:g}", "alpha", alpha, lambda: classifier, alpha=alpha)
    if classifier.model.temporal is None:
        return
    for gate in gates:
        gated = replace(classifier, gate=gate)
        yield Setting(f"gate {gate:g}" if gate else "gate off", "gate", gate, lambda c=gated: c, modulation=False)
    if classifier.tuned_text is not None:
        yield Setting("gate TFM", "gate", None, lambda: classifier, modulation=True)
    stacked = folders.load_folder(model).model
    for expert in range(stacked.num_experts if stacked.num_experts > 1 else 0):

        def alone(expert: int = expert) -> VideoClassifier:
            return replace(classifier, model=single_expert(stacked, expert).to(classifier.device))

        yield Setting(f"expert {expert + 1}", "expert", expert + 1, alone)


def single_expert(stacked: VideoCLIP, expert: int) -> VideoCLIP:
    """The model with one expert (from 0) alone in all layers, folded, for evaluation."""
    routing = stacked.routing(lambda count, experts: same_expert(count, experts, expert))
    return stacked.fold(routing).eval().requires_grad_(False)


@contextmanager
def features_kept(config: Config, classifier: VideoClassifier, out: Path, accelerator: Accelerator) -> Iterator[Path]:
    """The feature cache of the configuration, or a folder that lasts as long as the sweeps do."""
    folder = cache_folder(config.evaluation.cache, classifier)
    if folder is not None:
        yield folder
        return
    keep: list[Path] = []

    def make() -> str:
        keep.append(temporary_name(out / "features"))  # what a killed process leaves is removed later
        keep[0].mkdir(parents=True)
        return str(keep[0])

    try:
        yield Path(on_main(accelerator, make)) / "cache"
        accelerator.wait_for_everyone()
    finally:
        for folder in keep:
            shutil.rmtree(folder, ignore_errors=True)


def _measure(
    setting: Setting, target: Target, folder: Path, accelerator: Accelerator, recipe: Mapping[str, Any]
) -> Accuracy:
    """The setting on a target; `recipe`: of the model as it was loaded.

    Features of an interpolated tower are of no further use, so they are not kept.
    """
    ruled = {key: value for key in ("alpha", "modulation") if (value := getattr(setting, key)) is not None}
    change = {"cache": str(folder) if setting.alpha is None else None, "unknown": None}
    change |= ruled if target.protocol is None else {}
    config = target.config.model_copy(update={"evaluation": target.config.evaluation.model_copy(update=change)})
    classifier = as_asked(setting.classifier(), config, target.named)
    if target.protocol is None:
        found = evaluate(classifier, config, accelerator, None)
        return {"top1": found["top1"], "top1_interval": found["top1_interval"], "departures": []}
    protocol = replace(target.protocol, **ruled)
    found = run_protocol([Share(classifier, config, target.lists, recipe)], protocol, accelerator)
    limits = [part["top1_interval"] for part in found["lists"].values()]  # lists share videos: no narrower than one
    mean = None if protocol.subsets == "halves" else [sum(side) / len(limits) for side in zip(*limits, strict=True)]
    return {"top1": found["top1"], "top1_interval": mean, "departures": found["protocol"]["departures"]}


def _hashes(targets: Sequence[Target], classifier: VideoClassifier) -> dict[str, str]:
    """SHA-256 of the weights, and of the protocol and every list of each target."""
    hashes = {"weights": sha256_tensors(classifier.model.state_dict())}
    for target in targets:
        settings = target.config.evaluation
        if target.protocol is not None:
            hashes[f"{target.name}:protocol"] = target.protocol.digest()
            for one in target.lists:
                hashes[f"{target.name}:{one.name}"] = Listing(one.manifest).sha256(one.records)
        elif settings.manifest is not None:
            listing = evaluation_listing(settings)
            hashes[target.name] = listing.sha256(listing.records(own_classes(classifier, listing)))
    return hashes


def _write(out: Path, rows: Sequence[Row], origin: Mapping[str, object], names: Sequence[str]) -> None:
    with replacing_together(out) as stage:
        write_atomic(stage / "frontier.csv", frontier_csv(rows))
        svg, _ = frontier_plot(rows, stage / "frontier")
        write_frontier_page(stage / "index.html", rows, svg, origin, names[0], names[1:])
        write_atomic(stage / "frontier.json", to_json({"rows": rows, "provenance": origin}))

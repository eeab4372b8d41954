"""When do experts help? Temporal heads on cached features of tiny CLIP, over two worlds of synthetic clips.

`habits`: classes can be told from single frames, though not reliably (configs/habits.yaml holds the protocol).
`motion`: the world of `mote demo`, whose zero-shot sets need motions that no single frame shows.

Every row of ARMS is trained from the recipe with some settings changed, once a seed. Along training, and with averages
of the weights (EMA, SWA), each head is scored on all sets: as it is, with its temporal branch scaled by a constant
(GATES), and with temporal feature modulation (GAMMAS). Finished runs are kept, so it can be stopped and started again.

    python tools/compare_experts.py habits
    python tools/compare_experts.py motion --arms plain MoTE
    python tools/compare_experts.py habits --report        # tables and figure of the runs that are there

Writes OUT/WORLD/ARM/SEED.json, and from all of them `results.json`, `tables.md` and `trade.svg` and `.png`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from experts_report import write_report
from torch import Tensor, nn
from torch.nn import functional as F

from mote.config import Config, load
from mote.datasets.lists.reading import templates
from mote.datasets.loader import FeatureDataset
from mote.datasets.synthetic.clips import make_world
from mote.datasets.synthetic.habits import make_habits
from mote.datasets.synthetic.world import Split
from mote.demos.workers import in_processes
from mote.experiments import loaders
from mote.experiments.assemble import assemble
from mote.experiments.video import VideoExperiment
from mote.files.provenance import versions
from mote.files.writing import to_json, write_atomic
from mote.models.clip import encode_classes
from mote.models.gate import Gate
from mote.models.modulation import modulation_gate
from mote.models.video_clip import VideoCLIP
from mote.parallel.accelerator import make_accelerator
from mote.training.hooks import Hooks
from mote.training.loop import fit
from mote.training.run import Keeping
from mote.training.schedule import Schedule

RECIPE = Path(__file__).resolve().parents[1] / "configs" / "habits.yaml"
GATES = (1.0, 0.75, 0.5, 0.25, 0.0)
GAMMAS = (0.05, 0.1, 0.2, 0.5, 1.0)
EVERY = 10  # epochs between scores
EMA = 0.99  # decay a step
# Sets that are scored: the split their clips are of, and the splits whose class names compete.
SETS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "habits": {
        "closed_choice": ("closed_choice", ("train",)),
        "closed_test": ("closed_test", ("train",)),
        "choice": ("choice", ("choice",)),
        "unseen": ("unseen", ("unseen",)),
        "unseen_objects": ("unseen", ("unseen_objects",)),
        "closed_union": ("closed_test", ("train", "unseen")),
        "unseen_union": ("unseen", ("unseen", "train")),
    },
    "motion": {
        "closed_test": ("closed_test", ("train",)),
        "unseen_pairs": ("unseen_pairs", ("unseen_pairs",)),
        "unseen_objects": ("unseen_objects", ("unseen_objects",)),
        "appearance": ("appearance", ("appearance",)),
        "closed_union": ("closed_test", ("train", "unseen_objects")),
        "unseen_objects_union": ("unseen_objects", ("unseen_objects", "train")),
    },
}
ONE, DEPTH, FREE = "model.experts=1", "model.drop_path=0.3", "loss.anchor_weight=0"
# Row -> what is changed of the recipe; `dropout` (not a setting) is that of the feed-forward parts.
ARMS: dict[str, list[str]] = {
    "plain": [ONE],
    "MoTE": [],
    "plain, 30 epochs": [ONE, "optim.epochs=30"],
    "plain, 120 epochs": [ONE, "optim.epochs=120"],
    "MoTE, 30 epochs": ["optim.epochs=30"],
    "MoTE, 120 epochs": ["optim.epochs=120"],
    "plain, stochastic depth 0.3": [ONE, DEPTH],
    "MoTE, stochastic depth 0.3": [DEPTH],
    "plain, dropout 0.3": [ONE, "dropout=0.3"],
    "MoTE, dropout 0.3": ["dropout=0.3"],
    "plain, no anchor": [ONE, FREE],
    "MoTE, no anchor": [FREE],
    "plain, stochastic depth 0.3, no anchor": [ONE, DEPTH, FREE],
    "MoTE, stochastic depth 0.3, no anchor": [DEPTH, FREE],
    "MoTE, no weight-merging loss": ["loss.merged_weight=0"],
    "MoTE, equal starts": ["model.same_init=true"],
    "MoTE, uniform routing": ["loss.route_temperature=.inf"],
    "MoTE, all data to all experts": ["loss.routing=all"],
    "MoTE, 2 experts": ["model.experts=2"],
    "MoTE, 8 experts": ["model.experts=8"],
    "plain, 2 layers": [ONE, "model.layers=2"],
    "MoTE, 2 layers": ["model.layers=2"],
    "plain, 6 layers": [ONE, "model.layers=6"],
    "MoTE, 6 layers": ["model.layers=6"],
}


class Set(NamedTuple):
    """Frame features (N, T, D), labels (N,) and class features (K, D) of a set."""

    features: Tensor
    labels: Tensor
    text: Tensor


def settings(out: Path, splits: Mapping[str, Split], arm: Sequence[str], seed: int) -> Config:
    """The recipe for one row and seed."""
    files = {"data.train": splits["train"].manifest, "data.classes": splits["train"].classes, "run.out": out}
    where = [f"{key}={json.dumps(str(value.resolve()))}" for key, value in files.items()]
    changed = [setting for setting in arm if not setting.startswith("dropout=")]
    return load([RECIPE], [*changed, *where, f"seed={seed}", "run.cpu=true"])


def world_of(name: str, out: Path) -> dict[str, Split]:
    """The clips, made where they are not there yet."""
    return (make_habits if name == "habits" else make_world)(out / "clips")


@cache
def sets_of(name: str, out: Path) -> dict[str, Set]:
    """All sets by name, and `train`; features are computed by the first process that asks, and kept."""
    splits = world_of(name, out)
    experiment = assemble(settings(out / "unused", splits, [], 0), make_accelerator(cpu=True))
    assert isinstance(experiment, VideoExperiment)
    wanted = {"train": ("train", ("train",)), **SETS[name]}
    encoded = {split: _features(experiment, splits[split], out / f"{split}.pt") for split, _ in wanted.values()}
    prompts = templates(None)
    text = {
        split: encode_classes(experiment.towers, _names(splits[split]), prompts, device=torch.device("cpu"))
        for split in {split for _, parts in wanted.values() for split in parts}
    }
    return {
        name: Set(*encoded[split], torch.cat([text[part] for part in parts])) for name, (split, parts) in wanted.items()
    }


def _names(split: Split) -> list[str]:
    return split.classes.read_text(encoding="utf-8").split("\n")[:-1]


def _features(experiment: VideoExperiment, split: Split, file: Path) -> tuple[Tensor, Tensor]:
    """Frame features and labels of a split, as training has them."""
    if not file.is_file():
        where = {"train": str(split.manifest), "classes": str(split.classes)}
        config = experiment.config.model_copy(update={"data": experiment.config.data.model_copy(update=where)})
        dataset = assemble(config, make_accelerator(cpu=True)).loader().dataset
        assert isinstance(dataset, FeatureDataset)
        torch.save((dataset.features, dataset.labels), file)
    return torch.load(file)


@torch.no_grad()
def scores(model: VideoCLIP, sets: Mapping[str, Set]) -> tuple[dict[str, dict[str, float]], dict[str, list[int]]]:
    """Top-1 of each set by the way the temporal branch is used, and the predictions of the model as it is."""
    folded, tuned = model.fold().eval(), sets["train"].text
    found: dict[str, dict[str, float]] = {}
    said: dict[str, list[int]] = {}
    for name, (features, labels, text) in sets.items():
        if name == "train":
            continue
        branch = folded.head(features) - features
        ways: dict[str, float | Tensor] = {f"gate {gate:g}": gate for gate in GATES}
        pooled = features.mean(dim=1)
        ways |= {f"gamma {g:g}": modulation_gate(pooled, text, tuned, Gate(gamma=g))[:, None, None] for g in GAMMAS}
        named = {way: folded.classify(features + gate * branch, text).argmax(dim=1) for way, gate in ways.items()}
        found[name] = {way: float((best == labels).double().mean()) for way, best in named.items()}
        said[name] = named["gate 1"].tolist()
    return found, said


class Average:
    """Exponential moving average of the parameters that are trained, after every update."""

    def __init__(self, task: nn.Module):
        self.parameters = [p for p in task.parameters() if p.requires_grad]
        self.mean = [p.detach().clone() for p in self.parameters]

    def __call__(self, optimizer: torch.optim.Optimizer, fraction: float) -> dict[str, float]:
        """Take the weights as they are now."""
        for mean, parameter in zip(self.mean, self.parameters, strict=True):
            mean.lerp_(parameter.detach(), 1 - EMA)
        return {}

    def state_dict(self) -> dict:
        """Nothing: these runs start again when they were interrupted."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Nothing."""


def run(world: str, arm: str, seed: int, out: Path) -> None:
    """Train one row with one seed, and write its scores."""
    with tempfile.TemporaryDirectory(dir=out) as folder:  # its checkpoints are of no use, whether it ends or not
        result = _result(world, arm, seed, out, Path(folder))
    write_atomic(out / slug(arm) / f"{seed}.json", to_json(result))


def _result(world: str, arm: str, seed: int, out: Path, folder: Path) -> dict[str, Any]:
    splits, sets = world_of(world, out), sets_of(world, out)
    config = settings(folder, splits, ARMS[arm], seed)
    accelerator = make_accelerator(cpu=True)
    experiment = assemble(config, accelerator)
    assert isinstance(experiment, VideoExperiment)
    task, model = experiment.task, experiment.model
    for setting in ARMS[arm]:
        if setting.startswith("dropout=") and model.temporal is not None:
            share = float(setting.removeprefix("dropout="))
            for block in model.temporal.layers():
                block.mlp.register_forward_hook(partial(_dropped, share))
    average, kept, points = Average(task), list[list[Tensor]](), dict[str, dict]()

    def evaluate(_: nn.Module, epoch: int) -> dict[str, float]:
        if 2 * epoch > config.optim.epochs:  # SWA: the second half
            kept.append([p.detach().clone() for p in average.parameters])
        if epoch % EVERY == 0:
            points[str(epoch)] = scores(model, sets)[0]
        return {}

    dataset = FeatureDataset(sets["train"].features, sets["train"].labels)
    asked = config.optim.model_dump(exclude={"batch_size", "precision", "backbone_lr_scale"})
    before = time.process_time()
    fit(
        task,
        loaders.training_loader(config, dataset),
        experiment.rules(),
        Schedule(**asked, seed=seed),
        Keeping(out=folder, save_every=None),
        Hooks(evaluate=evaluate, after_update=average),
        accelerator,
    )
    seconds = time.process_time() - before
    last, said = scores(model, sets)
    result: dict[str, Any] = {"points": points, "last": last, "said": said, "seconds": seconds}
    swa = [torch.stack(steps).mean(dim=0) for steps in zip(*kept, strict=True)]
    for name, weights in (("EMA", average.mean), ("SWA", swa)):
        with torch.no_grad():
            for parameter, value in zip(average.parameters, weights, strict=True):
                parameter.copy_(value)
        result[name] = scores(model, sets)[0]
    facts = {"world": world, "arm": arm, "seed": seed, "settings": config.model_dump(mode="json")}
    return {**result, **facts, "changed": ARMS[arm], "versions": versions()}


def _dropped(share: float, module: nn.Module, _: object, output: Tensor) -> Tensor:
    return F.dropout(output, share, module.training)


def slug(arm: str) -> str:
    """The name of a row as that of a folder."""
    return arm.replace(",", "").replace(" ", "_")


def main() -> None:
    """Run what is missing, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", choices=SETS)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, help="rows (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=Path("runs/experts"))
    given = parser.parse_args()
    out = given.out / given.world
    torch.set_num_threads(1)
    sets = sets_of(given.world, out)
    jobs = {
        f"{arm} {seed}": (given.world, arm, seed, out)
        for seed in given.seeds
        for arm in given.arms
        if not (out / slug(arm) / f"{seed}.json").is_file()
    }
    if not given.report:
        in_processes(run, jobs, unit="run")
    found = {arm: [out / slug(arm) / f"{seed}.json" for seed in given.seeds] for arm in given.arms}
    labels = {name: np.asarray(part.labels) for name, part in sets.items()}
    print(write_report(out, given.world, found, labels))


if __name__ == "__main__":
    main()

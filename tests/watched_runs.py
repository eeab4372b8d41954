"""Runs that are watched: small files to train and evaluate on, the commands, and notes of what they build and call."""

import contextlib
import functools
import importlib
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from accelerate.state import AcceleratorState
from PIL import Image
from small_towers import small_clip

from mote.cli import main
from mote.config.loading import load
from mote.config.tree import Config
from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip

# What is noted while a run goes on: every making of these classes, every call of these methods and functions. A
# function is named where it is looked up when it is called. This is the only list of places in the code.
PLACES = (
    "accelerate:Accelerator",
    "accelerate:Accelerator.clip_grad_norm_",
    "mote.evaluation.autoencoder:Judge",
    "mote.inference.classifier:VideoClassifier.interpolated",
    "mote.datasets.decoding.bounded:Bounded",
    "mote.datasets.cache.feature_cache:FeatureCache",
    "mote.datasets.images:ImageDataset",
    "mote.datasets.loader:ClassBalancedSampler",
    "mote.datasets.loader:EpochSampler",
    "mote.datasets.loader:FeatureDataset",
    "mote.datasets.video:VideoDataset",
    "mote.metrics.scoring:fuse_views",
    "mote.datasets.mixing:Mixer",
    "mote.models.autoencoder:ImageAutoencoder",
    "mote.models.clip:ClassFeatures",
    "mote.models.clip:Towers",
    "mote.models.experts:ExpertFFN",
    "mote.models.image_nets:CosineHead",
    "mote.models.temporal:TemporalHead",
    "mote.models.tiny:TinyTokenizer.__call__",
    "mote.models.view_scorer:autocast",
    "mote.models.view_scorer:modulation_gate",
    "mote.sparsity.lasso:GroupLasso",
    "mote.tasks.autoencoder:AutoencoderTask",
    "mote.tasks.autoencoder:AutoencoderTask.forward",
    "mote.tasks.expression:ExpressionTask",
    "mote.tasks.expression:ExpressionTask.forward",
    "mote.tasks.image:ImageTask",
    "mote.tasks.image:ImageTask.forward",
    "mote.tasks.long_tail:Deferral",
    "mote.tasks.long_tail:LongTailLoss",
    "mote.tasks.video:VideoTask",
    "mote.tasks.video:VideoTask.forward",
    "mote.training.schedule:Schedule",
    "sklearn.mixture:GaussianMixture",
    "timm:create_model",
    "torch:manual_seed",
    "torch.optim:Adam",
    "torch.optim:AdamW",
    "torch.optim:SGD",
    "torch.utils.data:DataLoader",
)
LET_GO = {("DataLoader", "self")}  # not noted: they keep processes alive
SMALL = {"convnext_base": {"depths": (1, 1, 1, 1), "dims": (16, 16, 16, 16)}}  # sizes of timm's networks here
CLASSES = ("red star moving left", "red star moving right", "blue arrow growing")
LABELS = (0, 0, 0, 0, 1, 1, 2, 2)  # of the training clips
FEELINGS = ("sad", "calm", "happy")  # not in the order of the alphabet


@dataclass
class Watched:
    """A run that is over.

    config: as the command got it. folder: of the training. results: of the evaluation. of: the training whose model was
    evaluated, None for a training. notes: (place, arguments) of all that was noted.
    """

    config: Config
    folder: Path
    results: Path
    of: "Watched | None" = None
    notes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def setting(self, key: str) -> Any:
        """The value of a setting by its full name."""
        return functools.reduce(getattr, key.split("."), self.config)

    def calls(self, name: str) -> list[dict[str, Any]]:
        """The arguments of every call; for a class `self` is the object that was made."""
        return [arguments for noted, arguments in self.notes if noted == name]

    def all(self, name: str, **like: Any) -> list[Any]:
        """The objects of a class that have these attributes; there must be one."""
        made = [arguments["self"] for arguments in self.calls(name)]
        made = [one for one in made if all(getattr(one, key) == value for key, value in like.items())]
        assert made, f"no {name} was made, or none with {like}"
        return made

    @property
    def task(self) -> Any:
        """What was trained."""
        kinds = ("VideoTask", "ImageTask", "ExpressionTask", "AutoencoderTask")
        return next(self.calls(kind)[0]["self"] for kind in kinds if self.calls(kind))

    @property
    def updates(self) -> list[dict[str, Any]]:
        """The records of the updates in the log."""
        return [record for record in self.log if "loss" in record]

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The records of the evaluations in the log."""
        return [record for record in self.log if "evaluation" in record]

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log of the training."""
        return [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]

    @property
    def rates(self) -> dict[str, float]:
        """Of every parameter that learns: its learning rate over the one in the log."""
        names = {id(parameter): name for name, parameter in self.task.named_parameters()}
        base = self.updates[-1]["lr"]
        return {names[id(parameter)]: group["lr"] / base for group in self.groups for parameter in group["params"]}

    @property
    def optimizer(self) -> str:
        """The name of the optimizer's class; to make an AdamW is to make an Adam, too."""
        return next(name for name in ("SGD", "AdamW", "Adam") if self.calls(name))

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The groups of the optimizer."""
        return self.all(self.optimizer)[0].param_groups

    @property
    def result(self) -> dict[str, Any]:
        """The numbers of the evaluation."""
        (file,) = self.results.glob("*.json")
        return json.loads(file.read_text())

    @property
    def meta(self) -> dict[str, Any]:
        """What the trained model says of itself."""
        return self.json(self.folder / "best" / "model.json")

    @staticmethod
    def json(file: Path) -> Any:
        """The content of a JSON file."""
        return json.loads(file.read_text())


class Workshop:
    """A folder with files to run on, in which runs are made: each once.

    recipes: name -> what it is made from: YAML texts, of which later ones win, in which HERE is the folder and
    HERE/runs/NAME another run; "eval NAME" as the first text evaluates that run.
    """

    def __init__(self, folder: Path, recipes: dict[str, Sequence[str]]):
        self.folder, self.recipes, self.notes, self.found = folder, recipes, [], {}
        write_files(folder)

    def command(self, name: str) -> list[str]:
        """Arguments of the command that makes a run; its YAML files are written."""
        first, *texts = self.recipes[name]
        model = first.removeprefix("eval ") if first.startswith("eval ") else None
        texts = texts if model else [first, *texts, f"run: {{out: 'HERE/runs/{name}'}}"]
        files = [self.folder / f"{name} {number}.yaml" for number in range(len(texts))]
        for file, text in zip(files, texts, strict=True):
            file.write_text(text.replace("HERE", str(self.folder)))
        return ["eval", str(self.folder / "runs" / model), *map(str, files)] if model else ["train", *map(str, files)]

    def config(self, name: str) -> Config:
        """The configuration of a run; an evaluation has that of the training beneath its own."""
        verb, *files = self.command(name)
        if verb == "train":
            return load(files)
        below = self.recipes[name][0].removeprefix("eval ")
        return load([*self.command(below)[1:], *files[1:]])

    def run(self, name: str) -> Watched:
        """The run, and those it needs, made where they are not yet."""
        if name in self.found:
            return self.found[name]
        recipe = self.recipes[name]
        needed = [other for other in self.recipes if any(f"HERE/runs/{other}/" in text for text in recipe)]
        model = self.run(recipe[0].removeprefix("eval ")) if recipe[0].startswith("eval ") else None
        for other in needed:
            self.run(other)
        folder = model.folder if model else self.folder / "runs" / name
        results = self.folder / "results" / name if model else folder / "evaluations"
        self.notes.clear()
        command = [*self.command(name), *(["--out", str(results)] if model else [])]
        AcceleratorState._reset_state(reset_partial_state=True)  # of the test before, in this process
        with pytest.raises(SystemExit) as stop:
            main(command)
        AcceleratorState._reset_state(reset_partial_state=True)  # the next run has another precision
        assert stop.value.code == 0, f"run {name!r} failed; its message is in the captured output"
        self.found[name] = Watched(self.config(name), folder, results, model, list(self.notes))
        return self.found[name]

    @contextlib.contextmanager
    def watching(self):
        """Notes what happens at PLACES; networks of timm are small and not downloaded."""
        with pytest.MonkeyPatch.context() as patch:
            create = timm.create_model

            @functools.wraps(create)
            def small(name: str, pretrained: bool = False, **options: Any) -> Any:
                return create(name, pretrained=False, **options, **SMALL.get(name, {}))

            patch.setattr(timm, "create_model", small)
            for place in PLACES:
                module, _, name = place.partition(":")
                owner: Any = importlib.import_module(module)
                *path, attribute = name.split(".")
                owner = functools.reduce(getattr, path, owner)
                if inspect.isclass(getattr(owner, attribute)):
                    owner, attribute = getattr(owner, attribute), "__init__"
                patch.setattr(owner, attribute, noting(self.notes, name, getattr(owner, attribute)))
            yield self


def noting(notes: list[tuple[str, dict[str, Any]]], name: str, function: Any) -> Any:
    """`function`, with the arguments of every call, defaults included, put into `notes` under `name`."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def noted(*args: Any, **options: Any) -> Any:
        bound = signature.bind(*args, **options)
        bound.apply_defaults()
        notes.append((name, {key: value for key, value in bound.arguments.items() if (name, key) not in LET_GO}))
        return function(*args, **options)

    return noted


def write_files(folder: Path) -> None:
    """Clips, faces and digits, their lists, class names and prompts, and the files of a small CLIP."""
    for name in ("videos", "faces", "other"):
        (folder / name).mkdir()
    for i, label in enumerate(LABELS):
        colour, shape, motion = CLASSES[label].split(" ", 2)
        write_video(
            folder / "videos" / f"{i}.mp4", render_clip(np.random.default_rng(i), f"{colour} {shape}", motion, 6)
        )
    (folder / "videos" / "broken.mp4").write_text("no video")
    (folder / "other" / "0.mp4").write_bytes((folder / "videos" / "0.mp4").read_bytes())
    rows = [f"{i}.mp4,{label},{split}" for i, label in enumerate(LABELS) for split in ("train", f"test{i % 2}")]
    (folder / "clips.csv").write_text("\n".join(["path,label,split", *rows, "broken.mp4,0,broken"]) + "\n")
    rows = [f"{i}.mp4,{label},test" for i, label in enumerate(LABELS) if i % 3 == 0]
    rows.append("0.mp4,1,test")  # not all can be right
    rows += [f"{i}.mp4,{i % 2},new" for i in (1, 4, 5)]
    (folder / "tests.csv").write_text("\n".join(["path,label,split", *rows, "broken.mp4,0,broken"]) + "\n")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "new classes.txt").write_text("green ball\nyellow ring\n")
    (folder / "templates.txt").write_text("a photo of {}.\na video of {}.\na demonstration of {}.\n")
    (folder / "other templates.txt").write_text("a video of {}.\n")
    all_clips = [f"{i}.mp4 {label}" for i, label in enumerate(LABELS)] + ["broken.mp4 0"]
    (folder / "videos" / "all.txt").write_text("\n".join(all_clips) + "\n")
    with pytest.raises(SystemExit):
        main(["data", "shard", f"{folder / 'videos/all.txt'}", "--size", "1e-6", "--out", f"{folder / 'shards'}"])
    rng, rows = np.random.default_rng(0), ["path,label,split"]
    for number, (label, split) in enumerate(
        [*((k, "train") for k in (0, 0, 0, 0, 0, 1, 1, 2)), (0, "test"), (2, "test")]
    ):
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(folder / "faces" / f"{number}.png")
        rows.append(f"{number}.png,{FEELINGS[label]},{split}")
    (folder / "faces.csv").write_text("\n".join([*rows, "lost.png,sad,lost"]) + "\n")
    (folder / "feelings.txt").write_text("\n".join(FEELINGS) + "\n")
    parts = {"train_labels": np.arange(32) % 3, "test_labels": np.arange(12) % 3}
    parts |= {"train_images": rng.integers(0, 256, (32, 16, 16), dtype=np.uint8)}
    parts |= {"test_images": rng.integers(0, 256, (12, 16, 16), dtype=np.uint8)}
    np.savez(folder / "digits.npz", **parts)
    small_clip("convnext_base", folder)

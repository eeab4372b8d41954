"""Where a setting shows in a finished run: functions of it that give the value that arrived, see `Look`."""

import csv
import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from watched_runs import Watched

from mote.datasets.lists.manifest import read_class_names, read_rows, read_templates

Look = Callable[[Watched], Any]
AS_SET = object()  # what an effect gives in the place of a value


def effect(shows: Look) -> Look:
    """Only a consequence shows that a setting has arrived: that this is true of the run."""
    return lambda run: AS_SET if shows(run) else "no effect"


def plain(value: Any) -> Any:
    """With lists in the place of tuples, which a configuration and the code may choose differently."""
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def agreed(values: list[Any]) -> Any:
    """The value, where all are equal; else all of them."""
    return values[0] if values and all(value == values[0] for value in values) else values


def made(name: str, attribute: str, **like: Any) -> Look:
    """An attribute of the objects of a class, of those that have the others `like` these."""
    return lambda run: agreed([getattr(one, attribute) for one in run.all(name, **like)])


def given(name: str, argument: str) -> Look:
    """An argument of the calls of a place."""
    return lambda run: agreed([arguments[argument] for arguments in run.calls(name)])


def meta(key: str) -> Look:
    """What the trained model says of itself."""
    return lambda run: run.meta[key]


def every(*looks: Look) -> Look:
    """What all of these say, where they say the same."""
    return lambda run: agreed([plain(look(run)) for look in looks])


def lines(run: Watched, key: str) -> list[str]:
    """The lines of the file that a setting names."""
    return Path(run.setting(key)).read_text().splitlines()


def option(name: str) -> Look:
    """An option of the loss of unequal classes."""
    return lambda run: agreed([call["options"][name] for call in run.calls("LongTailLoss")])


def seeds(run: Watched) -> Any:
    """What torch's own generator was seeded with, but for the numbers derived for every step, which are large."""
    return agreed([call["seed"] for call in run.calls("manual_seed") if call["seed"] < 1000])


def kind_of_task(run: Watched) -> str:
    """The task that was trained."""
    return type(run.task).__name__.removesuffix("Task").lower()


def network(run: Watched) -> str:
    """The name of the network on pictures."""
    if run.calls("create_model"):
        return f"timm:{run.calls('create_model')[0]['model_name']}"
    return "backbone" if hasattr(run.task.model, "backbone") else type(run.task.model.net).__name__.lower()


def dropout(run: Watched) -> Any:
    """Of all layers that drop."""
    return agreed([module.p for module in run.task.modules() if isinstance(module, nn.Dropout)])


def adapted(run: Watched) -> str:
    """The layers that have adapters, where they are those of the feed-forward networks alone."""
    layers = {name.rsplit(".lora_")[0] for name in run.rates if ".lora_" in name}
    return "mlp" if layers and all(".mlp." in name for name in layers) else str(layers)


def penalised_layers(run: Watched) -> dict[str, Any]:
    """The pattern of the settings with the factor that its layers have, where it is all there is."""
    groups = run.all("GroupLasso")[0].groups
    (pattern,) = run.setting("sparsity.layers")
    fitting = all(fnmatchcase(group.name, f"*.{pattern}") for group in groups)
    return {pattern: agreed([group.scale for group in groups])} if fitting else {}


def size_of_codes(name: str) -> Look:
    """A size of the autoencoder."""
    return lambda run: agreed([one.sizes[name] for one in run.all("ImageAutoencoder")])


def vectors_do_not_decay(run: Watched) -> bool:
    """Whether no vector among the parameters has weight decay."""
    return not any(group["weight_decay"] for group in run.groups for p in group["params"] if p.ndim == 1)


def warm_up(run: Watched) -> float:
    """Epochs until the highest learning rate."""
    rates, epochs = [record["lr"] for record in run.updates], run.updates[-1]["epoch"] + 1
    return (rates.index(max(rates)) + 1) * epochs / len(rates)


def batches(run: Watched) -> list[int]:
    """The number of samples in each batch that went through the task."""
    return [len(call["batch"]["label"]) for call in run.calls(f"{type(run.task).__name__}.forward")]


def samples_of_update(run: Watched) -> float:
    """Samples of an update."""
    return sum(batches(run)) / len(run.updates)


def batch_of_evaluation(run: Watched) -> Any:
    """The batch size of the loaders of evaluation."""
    loaders = [call for call in run.calls("DataLoader") if not call["dataset"].train]
    return agreed([call["batch_size"] for call in loaders])


def augmentation(name: str) -> Look:
    """Of the training clips."""
    return lambda run: agreed([one.augmentation[name] for one in datasets(run, train=True)])


def datasets(run: Watched, train: bool) -> list[Any]:
    """All datasets of files that were made for training, or else for evaluation."""
    kind = "VideoDataset" if run.calls("VideoDataset") else "ImageDataset"
    return run.all(kind, train=train)


def of_dataset(attribute: str, *trains: bool) -> Look:
    """An attribute of the datasets for training (true) and evaluation (false)."""
    return lambda run: agreed([getattr(one, attribute) for train in trains for one in datasets(run, train)])


def of_variation(field: str) -> Look:
    """A field of what is done to training images, in the training's dataset."""
    return lambda run: agreed([plain(getattr(one.variation, field)) for one in datasets(run, True)])


def patience(run: Watched) -> Any:
    """Seconds that the datasets of clips wait for a file, in training and in evaluation."""
    sets = [one for train in (True, False) for one in datasets(run, train)]
    return agreed([one._bounded and one._bounded.timeout for one in sets])


def gate(setting: str) -> Look:
    """A setting of temporal feature modulation where it acts."""
    return lambda run: agreed([getattr(call["gate"], setting) for call in run.calls("modulation_gate")])


def prepared(field: str) -> Look:
    """A field of the preprocessing of all datasets."""

    def look(run: Watched) -> Any:
        sets = [one for name in ("VideoDataset", "ImageDataset") for one in (c["self"] for c in run.calls(name))]
        used = [getattr(one.preprocessing, field) for one in sets]
        return agreed([plain(value) for value in used])

    return look


def statistics_of(part: str, name: str = "mean") -> Look:
    """Mean or standard deviation of the pixels of the video model, or of the CLIP (`part` backbone) on pictures."""
    return lambda run: getattr(run.task.model if part == "model" else run.task.model.backbone, name).flatten().tolist()


def on_list(list_of: str, section: str, train: bool) -> Look:
    """Whether training, or else evaluation, had the files of a list, below the root of its section, of its split."""

    def same(run: Watched) -> bool:
        source, root, split = (run.setting(f"{section}.{key}") for key in (list_of, "root", "split"))
        if source.endswith(".npz"):
            wanted = [Path(source, split, str(number)) for number in range(len(np.load(source)[f"{split}_labels"]))]
        else:
            wanted = [Path(root or Path(source).parent, row.path) for row in read_rows(source, root, split)]
        one = datasets(run, train)[0]
        return [record.path for record in getattr(one, "data", one).records] == wanted

    return effect(same)


def table(run: Watched) -> list[dict[str, str]]:
    """The table of predictions."""
    (file,) = run.results.glob("*.csv")
    with file.open() as rows:
        return list(csv.DictReader(rows))


def prompts(section: str) -> Look:
    """Whether the class names of a section were read in its prompts by the text tower, all of them and in no others."""

    def read(run: Watched) -> bool:
        names, templates = (run.setting(f"{section}.{key}") for key in ("classes", "templates"))
        wanted = {line.replace("{}", name) for line in read_templates(templates) for name in read_class_names(names)}
        calls = [call for call in run.calls("TinyTokenizer.__call__") if call["context_length"] is None]  # no probes
        return {text for call in calls for text in call["texts"]} == wanted

    return effect(read)


def learns(prefix: str) -> Look:
    """How the tower whose parameters begin with `prefix` learns."""

    def way(run: Watched) -> str:
        names = [name for name in run.rates if name.startswith(prefix)]
        return "frozen" if not names else "lora" if all(".lora_" in name for name in names) else "full"

    return way


def rate(pattern: str) -> Look:
    """The learning rate of the parameters of this pattern over that of the log."""
    return lambda run: agreed([value for name, value in run.rates.items() if fnmatchcase(name, pattern)])


def adapters(key: str) -> Look:
    """What the files of the adapters say."""
    files = ("adapters/vision/adapter_config.json", "adapters/text/adapter_config.json")
    return lambda run: agreed([run.json(run.folder / "best" / file)[key] for file in files])


def method(run: Watched) -> str:
    """The imbalance.method that sampler, loss and learning rates amount to."""
    if run.calls("ClassBalancedSampler"):
        only_head = getattr(run.task, "head_only", False) and all(".fc." in name for name in run.rates)
        return "crt" if only_head else "sampler"
    loss = run.all("LongTailLoss")[0]
    return "mek" if loss.strength and loss.epsilon else {"ldam": "ldam_drw"}.get(loss.loss, loss.loss)


def correction(run: Watched) -> float:
    """The tau by which the logits of the first sample were corrected, from its probabilities before and after."""
    (before, *_), (after, *_) = table(run.of), table(run)  # type: ignore[arg-type]
    ratios = {}
    for place in range(1, len(run.meta["classes"]) + 1):
        for row, sign in ((before, -1), (after, 1)):
            name = row[f"top{place}"]
            ratios[name] = ratios.get(name, 0.0) + sign * math.log(float(row[f"top{place}_probability"]))
    slope, _ = np.polyfit(np.log(run.meta["counts"]), [ratios[name] for name in run.meta["classes"]], 1)
    return round(-slope, 4)


def selected(run: Watched) -> str:
    """The metric whose best value was kept."""
    best = run.json(run.folder / "last" / "state.json")["progress"]["best"]
    tops = {key: max(record["evaluation"][key] for record in run.evaluations) for key in ("top1", "top5")}
    return "last" if best is None else "top5" if best == tops["top5"] != tops["top1"] else "another"


def same_weights(section: str, pattern: str) -> Look:
    """Whether the weights of these names are still those of the model that the section starts from."""

    def same(run: Watched) -> bool:
        ours, theirs = (
            load_file(Path(folder, "model.safetensors"))
            for folder in (run.folder / "best", run.setting(f"{section}.init"))
        )
        names = [name for name in ours if fnmatchcase(name, pattern)]
        return bool(names) and all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in names)

    return effect(same)


def weight(name: str) -> Look:
    """A weight of the loss of an autoencoder."""
    return lambda run: run.task.weights[name]


def steps(run: Watched) -> list[int]:
    """The updates whose checkpoints are kept."""
    return sorted(int(path.stem.split("-")[1]) for path in (run.folder / "last").glob("weights-*"))

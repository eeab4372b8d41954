"""How long until something happens: `mote --help`, `mote config`, and a run's first step on cached data.

The commands are timed from their start to their end, in processes of their own. The run trains the temporal head on
features of made clips (`data.cache_features`; the built-in tiny CLIP, or `--backbone`, with random weights); its
seconds are those from the loaded towers to the end of the first optimizer step, encoding of the training list left out.
Seconds are of the clock on the wall, which includes waiting for a core: the best of the rounds is nearest to what the
program needs. Processor seconds are printed beside it.

    python tools/bench_startup.py --out bench_startup.json
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from bench_loader import make_files
from measuring import Goal, finish, options

COMMANDS = {"mote --help": (["--help"], 0.5), "mote config": (["config"], 1.0)}


def command_seconds(arguments: list[str]) -> tuple[float, float]:
    """One run of `mote`: seconds by the clock, and of the processor."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "mote", *arguments], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def first_step_seconds(folder: Path, clip: str) -> float:
    """Seconds from the towers in memory to the first update, features of the list in memory too."""
    from mote.config import load
    from mote.datasets.loader import FeatureDataset
    from mote.experiments import loaders, parts
    from mote.experiments.assemble import assemble
    from mote.parallel.accelerator import make_accelerator
    from mote.training.hooks import Hooks
    from mote.training.loop import fit
    from mote.training.run import Keeping
    from mote.training.schedule import Schedule

    paths = make_files(folder, 320, 240, 12)
    (folder / "train.txt").write_text("".join(f"{path.name} {i}\n" for i, path in enumerate(paths)))
    (folder / "classes.txt").write_text("one\ntwo\nthree\n")
    pretrained = ["model.pretrained=random"] if clip != "tiny" else []
    names = {"data.train": folder / "train.txt", "data.classes": folder / "classes.txt", "model.backbone": clip}
    settings = [*(f"{key}={value}" for key, value in names.items()), *pretrained]
    settings += [
        "tuning.vision=frozen",
        "optim.backbone_lr_scale=0",
        "data.workers=0",
        "optim.batch_size=8",
        "run.cpu=true",
    ]
    config = load([], settings)
    accelerator = make_accelerator(cpu=True)
    experiment = assemble(config, accelerator)
    features = torch.randn(64, config.data.frames, experiment.model.embed_dim)
    dataset = FeatureDataset(features, torch.from_numpy(np.arange(64) % 3))

    class Done(Exception):
        """The first update was made."""

    def stop(*_: object) -> dict[str, float]:
        raise Done

    start = time.perf_counter()
    loader = loaders.training_loader(config, dataset)
    rules = parts.learning_rules(config)
    stop.state_dict = dict  # type: ignore[attr-defined]
    try:
        keeping, hooks = Keeping(folder / f"run{time.time_ns()}"), Hooks(after_update=stop)  # type: ignore[arg-type]
        fit(experiment.task, loader, rules, Schedule(lr=1e-4, epochs=1), keeping, hooks, accelerator)
    except Done:
        pass
    return time.perf_counter() - start


def main() -> None:
    """Time everything, print, write the JSON."""
    parser = options(__doc__, rounds=7)
    parser.add_argument("--backbone", default="ViT-B-32-quickgelu")
    given = parser.parse_args()
    goals, figures = [], {}
    for name, (arguments, bound) in COMMANDS.items():
        walls, processor = zip(*(command_seconds(arguments) for _ in range(given.rounds + 1)), strict=True)
        figures[name] = {"best": min(walls[1:]), "processor": statistics.median(processor[1:])}
        best, used = figures[name].values()
        print(f"{name:14s} best {best:.2f} s, of the processor {used:.2f} s (median)", flush=True)
        goals.append(Goal(f"seconds of {name}, best of {given.rounds}", best, bound))
    with tempfile.TemporaryDirectory() as folder:
        seconds = first_step_seconds(Path(folder), given.backbone)
    figures["first step"] = {"seconds": seconds}
    print(f"first step of a run, cached features, {given.backbone}: {seconds:.2f} s from the loaded model")
    goals.append(Goal("seconds from the loaded model to the first step", seconds, 5))
    finish(figures, goals, given)


if __name__ == "__main__":
    main()

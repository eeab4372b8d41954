"""How long until something happens: verbs that need no network, users' mistakes, predictions, a run's first step.

Every command runs in a process of its own, with its exit code checked: what needs no torch, and mistakes that files and
settings tell, should take under 1 s of processor time. `--checkouts before=FOLDER after=FOLDER` measures several states
of the repository in turns on one machine; without it, this one. Seconds are of the processor (user, system, of the
process and what it starts) and of the clock on the wall, which includes waiting for a core; medians of rounds, after
one round that compiles. `--only A,B` takes cases whose names hold a word. `--first-step`: also train the temporal
head on cached features of made clips, from the loaded towers to the end of the first optimizer step.

    python tools/bench_startup.py --out bench_startup.json
    python tools/bench_startup.py --checkouts before=../old after=. --rounds 5
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

HERE = Path(__file__).resolve().parents[1]
NOTHING, MISTAKE = 0, 2  # exit codes
EVAL = "evaluation.manifest=list.txt evaluation.classes=classes.txt"
TRAIN = "data.train=list.txt data.classes=classes.txt model.backbone=tiny run.out=new"


class Case(NamedTuple):
    """Arguments of `mote` in the folder that `prepare` made, the exit code that is right, most processor seconds."""

    arguments: str
    code: int = NOTHING
    most: float = 1.0


CASES = {
    "--help": Case("--help", most=0.5),
    "config": Case("config"),
    "cache size": Case("cache size kept"),
    "eval --protocols": Case("eval --protocols"),
    "eval --verify": Case("eval --verify results/a.json"),
    "compare": Case("compare results/a.json results/b.json"),
    "data prepare": Case("data prepare ucf101 --videos clips --splits splits --missing list --out made/prepared"),
    "data split": Case("data split list.txt --fraction 0.5 --out made/split"),
    "data few-shot": Case("data few-shot list.txt --shots 1 --out made/shots.txt"),
    "data overlap": Case("data overlap classes.txt classes.txt"),
    "data shard": Case("data shard list.txt --out made/shards"),
    "data verify": Case("data verify list.txt"),
    "unknown verb": Case("evaluate tiny", MISTAKE),
    "unknown setting": Case("train data.trian=list.txt", MISTAKE),
    "value out of range": Case("train optim.lr=-1", MISTAKE),
    "train: no such list": Case(f"train {TRAIN} data.train=gone.txt", MISTAKE),
    "train: no such class file": Case(f"train {TRAIN} data.classes=gone.txt", MISTAKE),
    "train: a label too large": Case(f"train {TRAIN} data.train=labels.txt", MISTAKE),
    "train: no such video to evaluate": Case(f"train {TRAIN} evaluation.manifest=missing.txt", MISTAKE),
    "train: unknown backbone": Case(f"train {TRAIN} model.backbone=ViT-B-61", MISTAKE),
    "train: no such init": Case(f"train {TRAIN} model.init=gone", MISTAKE),
    "train --dry-run: no such list": Case(f"train --dry-run {TRAIN} data.train=gone.txt", MISTAKE),
    "eval: unknown protocol": Case("eval tiny --protocol ucf --lists .", MISTAKE),
    "eval: protocol without lists": Case("eval tiny --protocol ucf101-zs@1 --lists gone", MISTAKE),
    "eval: no such model": Case(f"eval runs/gone {EVAL}", MISTAKE),
    "eval: no such list": Case("eval tiny evaluation.manifest=gone.txt evaluation.classes=classes.txt", MISTAKE),
    "eval: no such videos": Case("eval tiny evaluation.manifest=missing.txt evaluation.classes=classes.txt", MISTAKE),
    "predict: no such model": Case("predict runs/gone clip.mp4", MISTAKE),
    "predict: unknown model": Case("predict ViT-B-61:openai clip.mp4 --labels a,b", MISTAKE),
    "predict: unknown tag": Case("predict ViT-B-16:opnai clip.mp4 --labels a,b", MISTAKE),
    "predict: no such video": Case("predict tiny gone.mp4 --labels a,b", MISTAKE),
    "predict: no class names": Case("predict tiny clip.mp4", MISTAKE),
    "predict: bad window": Case("predict tiny clip.mp4 --labels a,b --window 2x", MISTAKE),
    "encode: no such video": Case("encode tiny gone.mp4 --out made/features", MISTAKE),
    "search: no such folder": Case("search gone cat", MISTAKE),
    "fit: no such labels": Case("fit gone gone.csv --out made/fit", MISTAKE),
    "export: no such model": Case("export runs/gone --out made/m.safetensors", MISTAKE),
    "compact: no such run": Case("compact runs/gone --out made/small", MISTAKE),
    "diagnose: no such run": Case("diagnose runs/gone", MISTAKE),
    "frontier: no such model": Case("frontier runs/gone --closed list.txt --zero-shot list.txt", MISTAKE),
    "sample: no such run": Case("sample runs/gone --out made/sample.png", MISTAKE),
    "push: no such folder": Case("push runs/gone me/model", MISTAKE),
    "collect: no such folder": Case("collect gone", MISTAKE),
    "predict tiny": Case("predict tiny clip.mp4 --labels square,circle", most=4.0),
}


def make_clip(path: Path, codec: str, side: int, count: int) -> None:
    """A bright square that crosses a dark frame."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        for number in range(count):
            pixels = np.full((side, side, 3), 40, np.uint8)
            pixels[side // 4 : side // 2, 2 * number : 2 * number + side // 4] = 220
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))


def prepare(folder: Path, results: bool) -> None:
    """Clips, lists and split files; and two results, where cases read them."""
    from mote.datasets.cache.feature_cache import MARKER
    from mote.datasets.lists.class_files import read_class_ids, read_class_names
    from mote.files.shipped import data_file

    names = read_class_names(data_file("classes/ucf101.csv"))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    folders = read_class_ids(data_file("classes/ucf101.csv")) or names
    kinds = {name: folders.index(name) for name in ("ApplyEyeMakeup", "Archery")}
    lines = []
    for kind, label in kinds.items():
        for number in (1, 2):
            clip = folder / "clips" / kind / f"v_{kind}_g0{number}_c01.avi"
            clip.parent.mkdir(parents=True, exist_ok=True)
            make_clip(clip, "mpeg4", 64, 12)
            lines.append((f"clips/{kind}/{clip.name}", label))
    make_clip(folder / "clip.mp4", "libx264", 96, 24)
    write = lambda name, rows: (folder / name).write_text("".join(f"{path} {label}\n" for path, label in rows))  # noqa: E731
    write("list.txt", lines)
    write("missing.txt", [("clips/gone.mp4", 0), *lines])
    write("labels.txt", [*lines, ("clips/more.mp4", 900)])
    (folder / "splits").mkdir()
    for split in (1, 2, 3):
        for part in ("train", "test"):
            rows = [f"{kind}/v_{kind}_g0{2 - (part == 'train')}_c01.avi" for kind in kinds]
            ending = [f" {label + 1}" if part == "train" else "" for label in kinds.values()]
            text = "".join(f"{row}{end}\n" for row, end in zip(rows, ending, strict=True))
            (folder / "splits" / f"{part}list0{split}.txt").write_text(text)
    index = "".join(f"{i} {name}\n" for i, name in enumerate(folders, 1))
    (folder / "splits" / "classInd.txt").write_text(index)
    (folder / "kept").mkdir()
    (folder / "kept" / MARKER).touch()
    settings = f"{EVAL} evaluation.cache=null evaluation.page=false --out results".split()
    for name in ("a", "b") if results else ():
        run(HERE, folder, ["eval", "tiny", *settings, f"evaluation.name={name}"], check=True)


def run(checkout: Path, folder: Path, arguments: Sequence[str], check: bool = False) -> tuple[float, float, int, str]:
    """One run of `mote` of a checkout: seconds of the processor and of the clock, exit code, last line of errors."""
    dropped = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    environment["PYTHONPATH"] = str(checkout)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "mote", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    said = (done.stderr.splitlines() or [""])[-1]
    if check and done.returncode:
        raise SystemExit(f"mote {' '.join(arguments)}: {said}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, wall, done.returncode, said


def measured(
    cases: Mapping[str, Case], checkouts: Mapping[str, Path], folder: Path, rounds: int, warm_up: int = 1
) -> dict[str, dict]:
    """{case: {checkout: medians, exit code, what was said}}; the checkouts take turns."""
    found: dict[str, dict] = {}
    for name, case in cases.items():
        times: dict[str, list[tuple[float, float]]] = {checkout: [] for checkout in checkouts}
        found[name] = {checkout: {} for checkout in checkouts}
        for turn in range(-warm_up, rounds):
            for checkout in (*checkouts,) if turn % 2 else reversed((*checkouts,)):
                subprocess.run(["rm", "-rf", folder / "made", folder / "new"], check=True)
                used, wall, code, said = run(checkouts[checkout], folder, case.arguments.split())
                found[name][checkout] |= {"exit_code": code, "said": said}
                times[checkout] += [(used, wall)] if turn >= 0 else []
        for checkout, pairs in times.items():
            processor, clock = (statistics.median(column) for column in zip(*pairs, strict=True))
            found[name][checkout] |= {"processor": processor, "clock": clock}
        print(row(name, case, found[name]), flush=True)
    return found


def row(name: str, case: Case, found: Mapping[str, Mapping]) -> str:
    """A line of the table: processor and clock seconds of each checkout, and what is not as it should be."""
    seconds = "  ".join(f"{one['processor']:6.2f} {one['clock']:6.2f}" for one in found.values())
    last = [*found.values()][-1]
    missed = f"  over {case.most:g} s" if last["processor"] > case.most else ""
    odd = "" if last["exit_code"] == case.code else f"  exit code {last['exit_code']}: {last['said'][:60]}"
    return f"{name:34s} {seconds}{missed}{odd}"


def first_step_seconds(folder: Path, clip: str) -> float:
    """Seconds from the towers in memory to the first update, features of the list in memory too."""
    import numpy as np
    import torch
    from bench_loader import make_files

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
    settings += ["tuning.vision=frozen", "optim.backbone_lr_scale=0", "data.workers=0"]
    config = load([], [*settings, "optim.batch_size=8", "run.cpu=true"])
    accelerator = make_accelerator(cpu=True)
    experiment = assemble(config, accelerator)
    features = torch.randn(64, config.data.frames, experiment.model.embed_dim)  # type: ignore[attr-defined]
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--warm-up", type=int, default=1, help="rounds before those (default: 1)")
    parser.add_argument("--checkouts", nargs="+", default=[f"now={HERE}"], metavar="NAME=FOLDER")
    parser.add_argument("--only", help="cases whose names hold this, or one of several words with commas between them")
    parser.add_argument("--first-step", action="store_true")
    parser.add_argument("--backbone", default="ViT-B-32-quickgelu", help="of --first-step (default: %(default)s)")
    given = parser.parse_args()
    checkouts = {name: Path(path).resolve() for name, _, path in (text.partition("=") for text in given.checkouts)}
    words = (given.only or "").split(",")
    cases = {name: case for name, case in CASES.items() if any(word in name for word in words)}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), any("results/" in case.arguments for case in cases.values()))
        print(f"{'seconds of processor and clock':34s} " + "  ".join(f"{name:>13s}" for name in checkouts), flush=True)
        figures = measured(cases, checkouts, Path(folder), given.rounds, given.warm_up)
    goals = [{"name": name, "value": [*figures[name].values()][-1]["processor"], "bound": case.most}
             for name, case in cases.items()]  # fmt: skip
    goals = [{**goal, "reached": goal["value"] <= goal["bound"]} for goal in goals]
    print(f"{sum(goal['reached'] for goal in goals)} of {len(goals)} within their bound")
    if given.first_step:
        with tempfile.TemporaryDirectory() as folder:
            seconds = first_step_seconds(Path(folder), given.backbone)
        print(
            f"first step of a run, cached features, {given.backbone}: {seconds:.2f} s from the loaded model (goal: 5)"
        )
        figures["first step"] = {"seconds": seconds}
    if given.out:
        from measuring import machine

        from mote.files.provenance import versions

        settings = {"rounds": given.rounds, "checkouts": given.checkouts}
        report = {"settings": settings, "machine": machine(), "versions": versions(), "figures": figures}
        given.out.write_text(json.dumps({**report, "goals": goals}, indent=1) + "\n")


if __name__ == "__main__":
    main()

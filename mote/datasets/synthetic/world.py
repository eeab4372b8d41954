"""Files of a world of synthetic clips: videos by split, a manifest for each split, and the lists of class names."""

import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from mote.datasets.decoding.encode import write_video
from mote.files.writing import write_atomic

Render = Callable[[np.random.Generator, str], UInt8[np.ndarray, "T H W 3"]]  # random numbers, class name -> a clip


class Split(NamedTuple):
    """Files of one split: a manifest of `path label` lines, paths relative to its folder, and one class per line."""

    manifest: Path
    classes: Path


def write_world(
    folder: Path,
    classes: Mapping[str, Sequence[str]],
    counts: Mapping[str, int],
    changed: Mapping[str, int],
    render: Render,
    config: Mapping[str, int],
    workers: int | None,
) -> dict[str, Split]:
    """Write the clips of every split as H.264 files, their manifests and class lists; last `world.json`, the marker.

    Args:
        folder: of the world; a complete one with the same settings is reused.
        classes: names of each split; splits whose names are one object share one list.
        counts: clips per class of each split.
        changed: instead of entries of `counts`.
        render: clip of a class, picklable. Its random numbers depend on the seed, the split and the clip's place alone.
        config: what the clips depend on: `seed`, `fps`, `num_frames`, `version`, and more.
        workers: processes; None: all cores; 0: this one.

    Raises:
        ValueError: a split in `changed` that there is not.
    """
    if unknown := set(changed) - set(classes):
        raise ValueError(f"clips_per_class: unknown split {sorted(unknown)}; expected some of {', '.join(classes)}")
    numbers = {**counts, **changed}
    made = {**config, "clips_per_class": numbers}
    splits = {name: Split(folder / f"{name}.txt", folder / _class_file(classes, name)) for name in classes}
    marker = folder / "world.json"
    if marker.is_file():
        if json.loads(marker.read_text(encoding="utf-8")) == made:
            return splits
        marker.unlink()  # the clips are about to change: from here on the world is incomplete
    jobs = []
    for number, (name, titles) in enumerate(classes.items()):
        labels = [label for label in range(len(titles)) for _ in range(numbers[name])]
        files = [f"{name}/{i:05d}.mp4" for i in range(len(labels))]
        jobs += [
            (file, titles[label], (config["seed"], number, i))
            for i, (file, label) in enumerate(zip(files, labels, strict=True))
        ]
        write_atomic(splits[name].classes, "".join(f"{title}\n" for title in titles))
        lines = [f"{file} {label}\n" for file, label in zip(files, labels, strict=True)]
        write_atomic(splits[name].manifest, "".join(lines))
    write_clips(jobs, partial(_write_clip, folder, render, config["fps"]), workers)
    write_atomic(marker, json.dumps(made, indent=1))  # last: it says that everything else is complete
    return splits


def write_clips(jobs: list[tuple], write: Callable, workers: int | None) -> None:
    """Call `write` on every job, in `workers` processes, with a progress bar."""
    if workers == 0:
        for job in tqdm(jobs, desc="synthetic clips", unit="clip", disable=None):
            write(job)
        return
    # Spawned, not forked: the caller may have threads of PyTorch running, which do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for _ in tqdm(
            pool.map(write, jobs, chunksize=64), total=len(jobs), desc="synthetic clips", unit="clip", disable=None
        ):
            pass


def _write_clip(folder: Path, render: Render, fps: int, job: tuple[str, str, tuple[int, int, int]]) -> None:
    """Render and write one clip; `job`: file, class name, seed."""
    file, title, seed = job
    write_video(folder / file, render(np.random.default_rng(seed), title), fps)


def _class_file(classes: Mapping[str, Sequence[str]], split: str) -> str:
    """Name of the list of a split; "seen_classes.txt" of the training's, which others may share."""
    return "seen_classes.txt" if classes[split] is classes["train"] else f"{split}_classes.txt"

"""What `data.near_keyframes` costs and gives: how far frames move, accuracy with and without, decoding time.

Training clips take key frames near the sampled frames, evaluation never does. So a classifier (softmax regression on
the 8 frame features of the built-in tiny CLIP, in their order) is trained on frames as sampled, and another one on the
frames near them that are key frames; both are tested on the frames that evaluation takes. The agreement is that of the
two classifiers' best classes on the test clips; "same" beside it is that of two classifiers trained on other draws of
frames as sampled: what chance alone changes. The files have a key frame in every `--group` frames.

Without `--list`, clips of the synthetic world: one object, 12 motions that no single frame tells, `--frames` long.
`--list FILE`: real videos, a CSV of path, label and split (train, test), encoded anew with such groups.

    python tools/bench_keyframes.py --out bench_keyframes.json
"""

import argparse
import csv
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from measuring import finish, options
from torch import Tensor
from torch.nn import functional as F

import mote
from mote.datasets.decoding.decode import open_video, read_frames
from mote.datasets.sampling import segment_indices, to_keyframes
from mote.datasets.synthetic.clips import MOTIONS, render_clip
from mote.datasets.transforms import eval_transform
from mote.inference.classifier import VideoClassifier

SAMPLES = 8


class Clip(NamedTuple):
    """A video with key frames at known places."""

    path: Path
    label: int
    test: bool


def encode(path: Path, frames: np.ndarray, rate: int, group: int) -> None:
    """H.264 in MP4 with a key frame in every `group` frames, x264's other settings as they are."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=rate, options={"crf": "20", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.codec_context.gop_size = group
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))


def made(folder: Path, given: argparse.Namespace) -> list[Clip]:
    """`--clips` test clips of every motion, twice as many to train on."""
    found = []
    for label, motion in enumerate(MOTIONS):
        for i in range(3 * given.clips):
            path = folder / f"{label}-{i}.mp4"
            encode(
                path, render_clip(np.random.default_rng((label, i)), "red star", motion, given.frames), 30, given.group
            )
            found.append(Clip(path, label, i < given.clips))
    return found


def listed(folder: Path, given: argparse.Namespace) -> list[Clip]:
    """The videos of the list, encoded anew; frames of odd size lose a line."""
    with given.list.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names, found = sorted({row["label"] for row in rows}), []
    for i, row in enumerate(rows):
        with open_video(given.list.parent / row["path"]) as video:
            frames, rate = video.read(range(video.num_frames)), round(video.fps)
        path = folder / f"{i}.mp4"
        encode(path, frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2], rate, given.group)
        found.append(Clip(path, names.index(row["label"]), row["split"] == "test"))
    return found


def features(classifier: VideoClassifier, frames: np.ndarray) -> Tensor:
    """(T, D) of a clip as evaluation cuts it, in the middle."""
    return classifier.encode(eval_transform(frames, classifier.size, 1)[None])[0, 0]


def watch(clips: list[Clip], draws: int) -> tuple[dict[str, Tensor], dict[str, list[float]]]:
    """Features (N, T, D) by how and in which draw frames were taken; how far frames moved, and seconds."""
    classifier = mote.load("tiny", device="cpu")
    found, notes = defaultdict(list), defaultdict(list)
    for i, clip in enumerate(clips):
        if clip.test:
            found["test"].append(features(classifier, read_frames(clip.path, lambda n: segment_indices(n, SAMPLES))))
            continue
        with open_video(clip.path) as video:
            length, keys, rate = video.num_frames, video.keyframes, video.fps
        for draw in range(draws):
            wanted = segment_indices(length, SAMPLES, np.random.default_rng((draw, i)))
            moved = np.abs(to_keyframes(wanted, keys, length // (2 * SAMPLES)) - wanted)
            notes["frames"] += moved.tolist()
            notes["seconds"] += (moved / rate).tolist()
            for near in (False, True) if (draw + i) % 2 else (True, False):
                start = time.process_time()
                frames = read_frames(clip.path, wanted, near_keyframes=near)
                notes[f"decoding, {near}"].append(time.process_time() - start)
                found[f"{near}, {draw}"].append(features(classifier, frames))
    return {name: torch.stack(rows) for name, rows in found.items()}, notes


def fit(rows: Tensor, labels: Tensor, test: Tensor) -> Tensor:
    """Best class of `test` (M, T, D) by softmax regression on `rows` (N, T, D), weight decay 1e-3."""
    x, y = rows.flatten(1), test.flatten(1)
    mean, std = x.mean(0), x.std()
    x, y = (x - mean) / std, (y - mean) / std
    weight = torch.zeros(x.shape[1], int(labels.max()) + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(x @ weight, labels) + 1e-3 * weight.square().sum() / 2
        value.backward()
        return value

    optimizer.step(loss)
    return (y @ weight).argmax(-1).detach()


def main() -> None:
    """Make or re-encode the clips, measure, print, write the JSON."""
    parser = options(__doc__, clips=10, frames=48, group=12, rounds=4)
    parser.add_argument("--list", type=Path, help="CSV of real videos: path, label, split")
    given = parser.parse_args()
    torch.set_num_threads(1)
    draws = 2 * given.rounds  # half of them for one classifier, half for another one
    with tempfile.TemporaryDirectory() as name:
        clips = listed(Path(name), given) if given.list else made(Path(name), given)
        found, notes = watch(clips, draws)
    labels, answers = (torch.tensor([clip.label for clip in clips if clip.test == test]) for test in (False, True))
    best = {}
    for near in (False, True):
        for half in range(2):
            rows = [found[f"{near}, {draw}"] for draw in range(half, draws, 2)]
            best[near, half] = fit(torch.cat(rows), labels.repeat(len(rows)), found["test"])
    right = {
        near: np.mean([(best[near, half] == answers).float().mean().item() for half in range(2)])
        for near in (False, True)
    }
    agreement = np.mean([(best[False, half] == best[True, half]).float().mean().item() for half in range(2)])
    moved = np.asarray(notes["frames"])
    figures = {
        "training_clips": len(labels),
        "test_clips": len(answers),
        "frames_moved": float((moved > 0).mean()),
        "frames_away": float(moved[moved > 0].mean()) if moved.any() else 0.0,
        "seconds_away": float(np.mean([s for s in notes["seconds"] if s])) if moved.any() else 0.0,
        "top1_as_sampled": float(right[False]),
        "top1_near": float(right[True]),
        "agreement": float(agreement),
        "agreement_same": (best[False, 0] == best[False, 1]).float().mean().item(),
        "decoding_ms": {str(near): 1000 * float(np.mean(notes[f"decoding, {near}"])) for near in (False, True)},
    }
    time_of = figures["decoding_ms"]
    figures["speed_up"] = time_of["False"] / time_of["True"]
    width = 196 * (right[False] * (1 - right[False]) / len(answers)) ** 0.5
    print(f"{len(labels)} training clips x {given.rounds} draws, {len(answers)} test clips, key frame in {given.group}")
    print(
        f"frames moved: {100 * figures['frames_moved']:.1f} %; how far: {figures['frames_away']:.2f} frames, ", end=""
    )
    print(f"{figures['seconds_away']:.3f} s (mean)")
    print(f"top-1, trained on frames as sampled: {100 * right[False]:.1f} % (95 %: +-{width:.1f})")
    print(f"top-1, trained near key frames:      {100 * right[True]:.1f} %")
    print(f"same best class: {100 * agreement:.1f} %; by other draws alone: {100 * figures['agreement_same']:.1f} %")
    print(f"decoding a clip, processor: {time_of['False']:.2f} ms as sampled, {time_of['True']:.2f} ms near key frames")
    finish(figures, [], given)


if __name__ == "__main__":
    main()

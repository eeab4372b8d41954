"""What a timeline costs beside decoding and encoding each of its sampled frames once, in processor time, one thread.

`python tools/bench_timeline.py VIDEO` makes interleaved runs of both and prints the medians and their ratio, and how
much faster than real time one core is. Decoding and encoding: `OpenVideo.frames` at the sampled frames, each cut
and resized, and the visual tower on T images at a time, as many as the timeline gives it.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from mote.datasets.decoding.decode import open_video
from mote.inference.classifier import VideoClassifier
from mote.inference.loading import load_video
from mote.models.temporal import TemporalHead
from mote.prediction.merging import merged
from mote.prediction.timeline import cut_into, score_file, square, windows_of
from mote.prediction.windows import Windows, seconds


def main() -> None:
    """Print one line of figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("video")
    parser.add_argument("--model", default="tiny", help="see `mote predict` (default: %(default)s)")
    parser.add_argument("--window", default="4s", help="with 8 frames and steps of 0.5 s: 2 frames a second")
    parser.add_argument("--every", default="0.5s")
    parser.add_argument("--layers", type=int, default=4, help="of a random temporal head, for a model without one")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    classifier = load_video(arguments.model, device="cpu")
    if classifier.model.temporal is None and arguments.layers:
        width = classifier.model.embed_dim
        head = TemporalHead(width, arguments.layers, max(1, width // 64), 1)
        classifier.model.temporal = head.eval().requires_grad_(False)
    names = classifier.classes or [f"class {k}" for k in range(400)]
    windows = windows_of(classifier, seconds(arguments.window, "--window"), seconds(arguments.every, "--every"))
    with open_video(arguments.video) as video:
        end, sampled = video.end, len(np.unique(cut_into(windows, video).frames))
    if classifier.classes is None:  # encoding names is no part of this
        text = torch.randn(len(names), classifier.model.embed_dim)
        classifier.class_features[tuple(names), tuple(classifier.templates)] = torch.nn.functional.normalize(
            text, dim=-1
        )
    classifier.text_features(names)
    runs: dict[str, list[float]] = {"floor": [], "timeline": []}
    ways: dict[str, Callable[[], None]] = {
        "floor": lambda: floor(arguments.video, classifier, windows),
        "timeline": lambda: timeline(arguments.video, classifier, names, windows),
    }
    for number in range(arguments.runs + 1):  # the first of each is not counted
        for name, way in ways.items():
            start = time.process_time()
            way()
            if number:
                runs[name].append(time.process_time() - start)
    medians = {name: statistics.median(values) for name, values in runs.items()}
    ratios = [a / b for a, b in zip(runs["timeline"], runs["floor"], strict=True)]
    print(
        f"{arguments.model}: {end:.1f} s of video, {sampled} frames ({sampled / end:.2f} a second), "
        f"timeline {medians['timeline']:.2f} s, decoding and encoding {medians['floor']:.2f} s, "
        f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), "
        f"{end / medians['timeline']:.1f} times real time"
    )


def floor(path: str, classifier: VideoClassifier, windows: Windows) -> None:
    """Decode and encode each sampled frame once."""
    with open_video(path, classifier.decoder) as video:
        numbers = np.unique(cut_into(windows, video).frames)
        held = []
        for frame in video.frames(numbers):
            held.append(square(classifier, frame))
            if len(held) == classifier.frames:
                classifier.encode(torch.from_numpy(np.stack(held)).movedim(-1, -3)[None, None])
                held = []
        if held:
            classifier.encode(torch.from_numpy(np.stack(held)).movedim(-1, -3)[None, None])


def timeline(path: str, classifier: VideoClassifier, names: list[str], windows: Windows) -> None:
    """Decode, encode, score every window, merge."""
    scored = score_file(path, classifier, names, windows, map)
    list(merged(scored, names, threshold=0.0, step=windows.step))


if __name__ == "__main__":
    main()

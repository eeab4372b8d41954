"""What mixing costs beside a training step of CLIP ViT-B/16 (random weights), on clips of 224 x 224 pixels.

For each method: seconds of `Mixer` on a uint8 batch on the device, soft targets included, over the seconds of forward
and backward of the visual tower on the same batch with cross-entropy over scaled cosines. Both go through the same
pixels, so the share does not depend on the number of clips. Runs are interleaved and medians compared. Target: at most
2 %. On a busy CPU take `--clock cpu`, the processor time of the process.

    python tools/bench_mixing.py --clips 2 --frames 4
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mote.datasets.mixing import METHODS, Mixer
from mote.files.provenance import versions
from mote.inference.loading import build_plain
from mote.models.clip import load_backbone

CLASSES = 400


def make_step(device: torch.device):
    """batch -> None: forward and backward of mean-pooled ViT-B/16 over 400 classes."""
    towers = load_backbone("ViT-B-16", "random")
    model = build_plain(towers).to(device)
    text = F.normalize(torch.randn(CLASSES, towers.embed_dim, device=device), dim=-1)
    half = device.type == "cuda"

    def step(batch: dict[str, Tensor]) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits = model.classify(model.encode_frames(batch["frames"]), text)
        F.cross_entropy(logits, batch.get("target", batch["label"])).backward()
        model.zero_grad()

    return step


def main() -> None:
    """Measure, print the table, write JSON with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    shape = (arguments.clips, arguments.frames, 3, 224, 224)
    batch = {
        "frames": torch.randint(0, 256, shape, dtype=torch.uint8, device=device),
        "label": torch.arange(arguments.clips, device=device) % CLASSES,
    }
    candidates = {"step": make_step(device)}
    for extent in ("space", "spacetime"):
        for name in METHODS:
            mixer = Mixer((name,), CLASSES, extent=extent)
            candidates[f"{name}, {extent}"] = lambda b, mixer=mixer: mixer(b, np.random.default_rng(0))
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(arguments.repeats + 1):
        for name, run in candidates.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = clock()
            run(batch)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repeat:  # the first round warms up
                seconds[name].append(clock() - start)
    step = statistics.median(seconds["step"])
    machine = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.processor()} CPU"
    print(f"{machine}, {arguments.threads} threads: step of {shape[0]} x {shape[1]} frames {step:.3f} s")
    shares = {name: statistics.median(values) / step for name, values in seconds.items() if name != "step"}
    for name, share in shares.items():
        print(f"{name:22} {1000 * share * step:8.2f} ms   {100 * share:6.3f} % of the step")
    if arguments.out:
        document = {"machine": machine, "shape": shape, "step_seconds": step, "shares": shares, "versions": versions()}
        arguments.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()

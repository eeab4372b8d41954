"""What `mote diagnose` costs: the temporal head on cached features of 256 clips, seconds and peak memory.

All quantities by the functions behind the command, on random features and weights, against a training step (AdamW, the
task's two passes and three loss terms) on the same batch. Each runs in a process of its own; memory is the growth of
its peak over what it had after loading, seconds are wall time of one run. Goals: under 120 s on two cores, and no more
memory than the training step.

    python tools/bench_diagnose.py            # the head of tiny CLIP (128 wide, 2 layers, 72 classes)
    python tools/bench_diagnose.py --width 512 --layers 4 --classes 400
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from mote.config import Config
from mote.diagnostics.measure import Measure
from mote.diagnostics.report import FEATURES_AT_ONCE, measure_parts
from mote.diagnostics.request import PARTS, Request
from mote.diagnostics.subject import Subject, VideoLogits
from mote.files.provenance import versions
from mote.models.temporal import TemporalHead
from mote.models.video_clip import VideoCLIP
from mote.parallel.accelerator import make_accelerator
from mote.tasks.video import VideoTask


def made(given: argparse.Namespace) -> tuple[VideoCLIP, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(model with four experts, text features, clips, labels)."""
    torch.manual_seed(0)
    statistics = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "embed_dim": given.width}
    head = TemporalHead(given.width, given.layers, num_heads=given.width // 64, num_experts=4)
    model = VideoCLIP(nn.Identity(), torch.tensor(3.6), head, **statistics)
    text = F.normalize(torch.randn(given.classes, given.width), dim=-1)
    features = F.normalize(torch.randn(given.clips, given.frames, given.width), dim=-1)
    return model, text, features, torch.arange(given.clips) % given.classes


def train_step(given: argparse.Namespace) -> None:
    """One step, after one that makes the optimizer's state."""
    model, text, features, label = made(given)
    task = VideoTask(model, text).train()
    optimizer = torch.optim.AdamW(model.temporal.parameters(), 1e-4)
    for _ in range(2):
        optimizer.zero_grad()
        task({"features": features, "label": label}, torch.Generator().manual_seed(0))[0].backward()
        optimizer.step()


def diagnose(given: argparse.Namespace) -> None:
    """All quantities, with the defaults of the command."""
    model, text, features, label = made(given)
    module = VideoLogits(model.fold(), text, lambda features: features).eval()
    of = Subject(
        module=module,
        kind="features",
        names=[name for name, _ in module.named_parameters() if ".temporal." in name],
        inputs=features,
        label=label,
        index=torch.arange(given.clips),
        total=given.clips,
        listed=given.clips,
        classes=[str(k) for k in range(given.classes)],
        frames=True,
        two_paths=module,
        hashes={},
        device=torch.device("cpu"),
    )
    measure = Measure(of, make_accelerator(cpu=True), Request(), FEATURES_AT_ONCE)
    spectra = measure_parts(measure, PARTS, Config()).spectra
    found = {name: len(pair.history) for name, pair in spectra.items()}
    print(f"products of Lanczos: {found}", file=sys.stderr)


WORK = {"step": train_step, "diagnose": diagnose}


def status(key: str) -> int:
    """A field of /proc/self/status in kB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])


def main() -> None:
    """Measure both, print, write JSON with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("clips", 256), ("frames", 8), ("width", 128), ("layers", 2), ("classes", 72)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", choices=tuple(WORK), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        torch.set_num_threads(given.threads)
        before, start, used = status("VmRSS"), time.perf_counter(), time.process_time()
        WORK[given.work](given)
        seconds = {"wall": time.perf_counter() - start, "processor": time.process_time() - used}
        print(json.dumps({"seconds": seconds, "peak_mb": (status("VmHWM") - before) / 1024}))
        return
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    results = {}
    for name in WORK:
        command = [sys.executable, __file__, *sys.argv[1:], "--work", name]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name:10}{results[name]['seconds']['wall']:8.1f} s {results[name]['peak_mb']:8.0f} MB", flush=True)
    ratio = results["diagnose"]["peak_mb"] / results["step"]["peak_mb"]
    print(f"memory of diagnosing over that of a training step (goal <= 1): {ratio:.2f}")
    if given.out:
        setting = {key: value for key, value in vars(given).items() if key not in ("out", "work")}
        document = {"setting": setting, **results, "memory_ratio": ratio, "machine": platform.machine()}
        given.out.write_text(json.dumps({**document, "versions": versions()}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Speed and memory of the temporal head on the CPU, at the size of the method's ViT-B/16 model.

Width 512, 4 layers, 4 experts, 8 heads; 64 clips of 8 frames unless told otherwise. Three questions:

- evaluation: experts folded once, one pass per batch, against the naive way, which merges the experts by a loop in
  every forward pass and runs the head twice per batch (for features and for logits). Target: at least 2.5 times faster.
- training: one AdamW step of the head (routed pass, merged pass, anchor, two cross-entropies) against PyTorch's encoder
  of the same size doing one pass and doing two. Target: the second pass explains the difference, so about the time of
  the encoder with two passes.
- memory: how far a process grows over its resting size during an evaluation batch, folded experts against PyTorch's
  encoder of the same size, and the naive way. Target: no more than the encoder. Linux only.

Runs of the candidates are interleaved and medians compared, so that a busy machine slows all alike; on a very busy one
take `--threads 1 --clock cpu`, the processor time of the process.

    python tools/bench_head.py --out bench_head.json
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mote.models.experts import quick_gelu
from mote.models.routing import one_expert, random_merge
from mote.models.temporal import TemporalHead
from mote.models.video_clip import VideoCLIP
from mote.regularizers.weight_merging import anchor_loss

WIDTH, LAYERS, EXPERTS, HEADS, CLASSES = 512, 4, 4, 8, 400
Clock = Callable[[], float]
MEMORY_TASKS = ("folded", "encoder", "naive")


class Naive(nn.Module):
    """The head with one module per expert, merged by a loop in every forward pass; weights copied from ``model``."""

    def __init__(self, model: VideoCLIP):
        super().__init__()
        self.position = nn.Embedding.from_pretrained(model.temporal.position.detach())
        self.layers = nn.ModuleList(self.layer(block) for block in model.temporal.layers())

    @staticmethod
    def layer(block: nn.Module) -> nn.ModuleDict:
        """One layer with its experts unstacked."""
        attention = nn.MultiheadAttention(WIDTH, HEADS)
        attention.load_state_dict(block.attn.state_dict())
        up, down = [], []
        for e in range(block.mlp.num_experts):
            for into, weight, bias in (
                (up, block.mlp.up_weight[e], block.mlp.up_bias[e]),
                (down, block.mlp.down_weight[e], block.mlp.down_bias[e]),
            ):
                linear = nn.Linear(*reversed(weight.shape))
                linear.load_state_dict({"weight": weight, "bias": bias})
                into.append(linear)
        parts = {"ln_1": block.ln_1, "ln_2": block.ln_2, "attn": attention}
        return nn.ModuleDict({**parts, "up": nn.ModuleList(up), "down": nn.ModuleList(down)})

    @staticmethod
    def merge(experts: nn.ModuleList) -> dict[str, Tensor]:
        """Uniform mean of the experts, parameter by parameter."""
        merged = {"weight": 0, "bias": 0}
        weights = torch.zeros(len(experts)).softmax(dim=0)
        for e, expert in enumerate(experts):
            for name, parameter in expert.named_parameters():
                merged[name] = merged[name] + weights[e] * parameter
        return merged

    def forward(self, features: Tensor) -> Tensor:
        """features + temporal branch, (B, T, D) to (B, T, D)."""
        x = (features + self.position(torch.arange(features.shape[1]))).transpose(0, 1)
        for layer in self.layers:
            inner = layer["ln_1"](x)
            x = x + layer["attn"](inner, inner, inner, need_weights=False)[0]
            up, down = self.merge(layer["up"]), self.merge(layer["down"])
            hidden = F.linear(layer["ln_2"](x), **up)
            x = x + F.linear(hidden * torch.sigmoid(1.702 * hidden), **down)
        return features + x.transpose(0, 1)


class Encoder(nn.Module):
    """PyTorch's transformer encoder of the same size as one expert path."""

    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(77, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, quick_gelu, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)

    def forward(self, features: Tensor) -> Tensor:
        """features + temporal branch, (B, T, D) to (B, T, D)."""
        return features + self.encoder(features + self.position[: features.shape[1]])


def make_model() -> VideoCLIP:
    """A head on features: the visual tower is a placeholder."""
    constants = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    head = TemporalHead(WIDTH, LAYERS, HEADS, EXPERTS)
    return VideoCLIP(nn.Identity(), torch.tensor(4.6), head, embed_dim=WIDTH, **constants)


def interleaved(candidates: dict[str, Callable[[], object]], repeats: int, clock: Clock) -> dict[str, float]:
    """Median seconds of each candidate; one warm-up run each, then round after round."""
    times = {name: [] for name in candidates}
    for round_number in range(repeats + 1):
        for name, run in candidates.items():
            start = clock()
            run()
            if round_number:
                times[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def bench_evaluation(features: Tensor, repeats: int, clock: Clock) -> dict[str, float]:
    """Seconds per batch, experts folded once against the naive way and PyTorch's encoder."""
    model = make_model().eval()
    folded, naive, encoder = model.fold(), Naive(model).eval(), Encoder().eval()
    with torch.no_grad():
        torch.testing.assert_close(naive(features), folded.head(features), atol=1e-4, rtol=1e-4)
        candidates = {
            "folded": lambda: folded.head(features),
            "merged every pass": lambda: model.head(features),
            "naive, two passes": lambda: (naive(features), naive(features)),
            "naive, one pass": lambda: naive(features),
            "PyTorch encoder": lambda: encoder(features),
        }
        return interleaved(candidates, repeats, clock)


def bench_training(features: Tensor, repeats: int, clock: Clock) -> dict[str, float]:
    """Seconds per AdamW step of our head and of PyTorch's encoder with one and with two passes."""
    text = F.normalize(torch.randn(CLASSES, WIDTH), dim=-1)
    label = torch.randint(CLASSES, (len(features),))
    generator = torch.Generator().manual_seed(0)
    model, encoders = make_model(), {1: Encoder(), 2: Encoder()}

    def stepper(module: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
        optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-5, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        return step

    def cross_entropy(video: Tensor) -> Tensor:
        return F.cross_entropy(model.classify(video, text), label)

    def ours() -> Tensor:
        routings = [one_expert(LAYERS, EXPERTS, generator), random_merge(LAYERS, EXPERTS, generator)]
        routed, merged = model.head(features, torch.stack(routings))
        return cross_entropy(routed) + 0.5 * cross_entropy(merged) + 0.1 * anchor_loss(features, merged)

    def two_passes() -> Tensor:
        again = encoders[2](features)
        return cross_entropy(encoders[2](features)) + 0.5 * cross_entropy(again) + 0.1 * anchor_loss(features, again)

    candidates = {
        "ours": stepper(model, ours),
        "PyTorch encoder, one pass": stepper(encoders[1], lambda: cross_entropy(encoders[1](features))),
        "PyTorch encoder, two passes": stepper(encoders[2], two_passes),
    }
    return interleaved(candidates, repeats, clock)


def peak_growth(task: str, features: Tensor) -> float:
    """MB by which this process peaks over its resting size during one evaluation batch of ``task``."""
    model = make_model().eval()
    runs = {"folded": lambda: model.fold().head, "encoder": Encoder().eval, "naive": lambda: Naive(model).eval()}
    run = runs[task]()
    with torch.no_grad():
        run(features[:1])  # libraries allocate their own buffers on first use
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        resting = status("VmRSS")
        run(features)
        return (status("VmHWM") - resting) / 1024


def status(key: str) -> int:
    """A field of /proc/self/status in kB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])


def bench_memory(arguments: list[str]) -> dict[str, float]:
    """Peak growth of each task in a process of its own; freed memory goes back to the system at once there."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    results = {}
    for task in MEMORY_TASKS:
        command = [sys.executable, __file__, *arguments, "--memory-task", task]
        results[task] = float(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    return results


def report(title: str, results: dict[str, float], ratios: dict[str, tuple[str, str]], scale: float, unit: str) -> dict:
    """Print one block and return it with its ratios."""
    print(f"\n{title}")
    for name, value in results.items():
        print(f"  {name:<28}{value * scale:9.1f} {unit}")
    values = {text: results[a] / results[b] for text, (a, b) in ratios.items()}
    for text, value in values.items():
        print(f"  {text:<60}{value:6.2f}")
    return {**results, "ratios": values}


def main() -> None:
    """Parse the command line, run the three benches, print and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--memory-task", choices=MEMORY_TASKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    features = torch.randn(options.clips, options.frames, WIDTH)
    if options.memory_task:
        print(peak_growth(options.memory_task, features))
        return
    sizes = [f"--{name}={getattr(options, name)}" for name in ("clips", "frames", "threads")]
    setting = {name: getattr(options, name) for name in ("clips", "frames", "repeats", "threads", "clock")}
    print(f"{setting}, torch {torch.__version__}")
    results = {"setting": {**setting, "torch": torch.__version__, "machine": platform.machine()}}
    results["evaluation"] = report(
        "evaluation, seconds per batch (median)",
        bench_evaluation(features, options.repeats, clock),
        {
            "naive with two passes over folded (target >= 2.5)": ("naive, two passes", "folded"),
            "naive with two passes over PyTorch's encoder": ("naive, two passes", "PyTorch encoder"),
            "folded over PyTorch's encoder": ("folded", "PyTorch encoder"),
        },
        1000,
        "ms",
    )
    results["training"] = report(
        "training step (median)",
        bench_training(features, options.repeats, clock),
        {
            "ours over the encoder with two passes (target about 1)": ("ours", "PyTorch encoder, two passes"),
            "ours over the encoder with one pass": ("ours", "PyTorch encoder, one pass"),
        },
        1000,
        "ms",
    )
    if sys.platform == "linux":
        results["memory"] = report(
            "peak growth during an evaluation batch",
            bench_memory(sizes),
            {"folded over the encoder (target <= 1)": ("folded", "encoder"), "naive over folded": ("naive", "folded")},
            1,
            "MB",
        )
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

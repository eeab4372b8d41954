"""One training step of a CLIP tower with the temporal head: clips/s, peak memory, share of the arithmetic's peak.

- ours: the work of a step of `mote train` (`mote.training.step`): bf16 autocast, scaled-dot-product attention, fused
  AdamW on a GPU, pinned uint8 copied without waiting; `--compile 1` adds torch.compile, `--checkpointing 1` the
  recomputation of every block.
- naive (`--against naive`): the field's usual way written out: fp16 autocast with a gradient scaler, attention as
  matmul, softmax, matmul, every block recomputed in the backward pass, unfused AdamW, floats made on the CPU and copied
  while the device waits.

On a CPU both ways take bf16 where the processor multiplies in it, else float32: emulated bf16 is several times slower
than float32, and nobody would ask for it.

The head makes its routed and its merged pass in both. FLOPs are counted by torch for forward and backward without
recomputation. Peak of the device: `--peak` in TFLOP/s (dense bf16: H100 and H200 989, A100 312); on a CPU the share is
of the best matrix product that was measured here. Figures from a CPU say that everything runs, not how fast a GPU is.

    python tools/bench_train.py --model ViT-B-16-quickgelu --clips 32 --against naive     # on a GPU
    python tools/bench_train.py                                                           # on a CPU: reduced
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from measuring import Goal, finish, interleaved, median_ratio, memory_mb, options
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mote.models import folders
from mote.models.open_clip_blocks import all_tokens
from mote.models.temporal import TemporalHead
from mote.models.video_clip import VideoCLIP
from mote.parallel.precision import has_bf16
from mote.tasks.video import VideoTask
from mote.training.optim import make_optimizer, parameter_groups

CLASSES = 400
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
HALF = torch.bfloat16 if has_bf16(DEVICE) else torch.float32  # ours; float32 only where bf16 is emulated


def make_task(name: str) -> VideoTask:
    """The task of the method's recipe: 4 layers of 4 experts, random weights and texts."""
    towers = folders.towers(name, "random", 0)
    torch.manual_seed(0)
    sizes = {"embed_dim": towers.embed_dim, "mean": towers.mean, "std": towers.std}
    head = TemporalHead(towers.embed_dim, num_layers=4, num_heads=towers.embed_dim // 64, num_experts=4)
    model = VideoCLIP(towers.visual, towers.logit_scale, head, **sizes)
    return VideoTask(model, F.normalize(torch.randn(CLASSES, towers.embed_dim), dim=-1)).to(DEVICE).train()


def batch(given: argparse.Namespace) -> dict[str, torch.Tensor]:
    """A batch as the loader gives it: uint8, pixels interleaved, pinned where there is a GPU."""
    frames = torch.randint(0, 256, (given.clips, given.frames, 224, 224, 3), dtype=torch.uint8).movedim(-1, -3)
    found = {"frames": frames, "label": torch.arange(given.clips) % CLASSES}
    return {name: tensor.pin_memory() for name, tensor in found.items()} if CUDA else found


def cast(precision: torch.dtype) -> torch.autocast:
    """Autocast to a precision; to float32 it does nothing."""
    return torch.autocast(
        DEVICE.type, torch.bfloat16 if precision == torch.float32 else precision, enabled=precision != torch.float32
    )


def ours(given: argparse.Namespace) -> Callable[[], None]:
    """A step of ours."""
    task = make_task(given.model)
    if given.checkpointing:
        task.model.set_gradient_checkpointing(True)
    run = torch.compile(task) if given.compile else task
    optimizer = make_optimizer(parameter_groups(task, [("*", {})]), fused=CUDA)
    host = batch(given)

    def step() -> None:
        sent = {name: tensor.to(DEVICE, non_blocking=True) for name, tensor in host.items()}
        with cast(HALF):
            loss, _ = run(sent, torch.Generator().manual_seed(0))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


class PlainAttention(nn.Module):
    """nn.MultiheadAttention's weights, used as matmul, softmax, matmul."""

    def __init__(self, attention: nn.MultiheadAttention):
        super().__init__()
        self.attention = attention

    def forward(self, query: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor, None]:
        """Self-attention of (B, L, D)."""
        attention = self.attention
        heads = attention.num_heads
        packed = F.linear(query, attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in packed.chunk(3, -1))
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        return attention.out_proj((weights @ v).transpose(1, 2).flatten(2)), None


def naive(given: argparse.Namespace) -> Callable[[], None]:
    """A step in the field's usual way."""
    task = make_task(given.model)
    all_tokens(task.model.visual)
    for module in task.model.visual.modules():
        if isinstance(getattr(module, "attn", None), nn.MultiheadAttention):
            module.attn = PlainAttention(module.attn)  # type: ignore[assignment]
    task.model.set_gradient_checkpointing(True)
    optimizer = torch.optim.AdamW(task.parameters(), lr=0.0, foreach=False, fused=False)
    scaler = torch.amp.GradScaler("cuda", enabled=CUDA)
    host, half = batch(given), torch.float16 if CUDA else HALF

    def step() -> None:
        floats = (host["frames"].float() / 255 - task.model.mean.cpu()) / task.model.std.cpu()
        pixels = floats.to(DEVICE) * task.model.std * 255 + task.model.mean * 255  # the task normalises by itself
        with cast(half):
            given_batch = {"frames": pixels, "label": host["label"].to(DEVICE)}
            loss, _ = task(given_batch, torch.Generator().manual_seed(0))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def flops(given: argparse.Namespace) -> float:
    """Floating-point operations of one step, forward and backward, nothing recomputed."""
    task, small = make_task(given.model), argparse.Namespace(**{**vars(given), "clips": 1})
    host = {name: tensor.to(DEVICE) for name, tensor in batch(small).items()}
    with FlopCounterMode(display=False) as counter:
        task(host, torch.Generator().manual_seed(0))[0].backward()
    return counter.get_total_flops() * given.clips


def peak_flops(given: argparse.Namespace) -> float:
    """FLOP/s to measure by: as given, else of a large matrix product here, in the precision of ours."""
    if given.peak:
        return given.peak * 1e12
    size = 8192 if CUDA else 2048
    a, b = (torch.randn(size, size, device=DEVICE, dtype=HALF) for _ in range(2))
    seconds = interleaved({"product": lambda: wait(a @ b)}, 5, clock)["product"]
    return 2 * size**3 / min(seconds)


def wait(*_: object) -> None:
    """Until the device is done."""
    if CUDA:
        torch.cuda.synchronize()


def clock() -> float:
    """Seconds; on a CPU those of the processor, on one thread the same without the neighbours."""
    return time.perf_counter() if CUDA or torch.get_num_threads() > 1 else time.process_time()


def peak_memory(step: Callable[[], None]) -> float:
    """MB at the peak of a step: of the GPU, else of this process so far."""
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() / 2**20 if CUDA else memory_mb()


def main() -> None:
    """Measure, print, write the JSON."""
    defaults = {"rounds": 10 if CUDA else 3, "clips": 32 if CUDA else 2, "frames": 8 if CUDA else 2}
    parser = options(__doc__, **defaults, threads=1, compile=0, checkpointing=0, peak=0)
    parser.add_argument("--model", default="ViT-B-16-quickgelu")
    given = parser.parse_args()
    if not CUDA:
        torch.set_num_threads(given.threads)
    ways = {"ours": ours} | ({"naive": naive} if given.against else {})
    memory, seconds_of = {}, {}
    total, best = flops(given), peak_flops(given)
    steps = {}
    for name, way in ways.items():
        steps[name] = way(given)
        steps[name]()  # the optimizer's state, compilation
        memory[name] = peak_memory(steps[name])
        if CUDA and len(ways) > 1:
            del steps[name]
            torch.cuda.empty_cache()
    steps = {name: steps.get(name) or ways[name](given) for name in ways}
    times = interleaved({name: lambda step=step: wait(step()) for name, step in steps.items()}, given.rounds, clock)
    precision = {
        "ours": str(HALF).removeprefix("torch."),
        "naive": "float16" if CUDA else str(HALF).removeprefix("torch."),
    }
    figures = {"flops_per_step": total, "peak_flops": best, "device": torch.cuda.get_device_name() if CUDA else "CPU"}
    figures["precision"] = precision
    print(
        f"{figures['device']}, {given.model}, {given.clips} clips of {given.frames} frames, ours in {precision['ours']}"
        f", naive in {precision['naive']}"
    )
    for name in ways:
        seconds_of[name] = statistics.median(times[name])
        row = {"clips_per_second": given.clips / seconds_of[name], "mfu": total / seconds_of[name] / best}
        figures[name] = {**row, "peak_mb": memory[name], "seconds": seconds_of[name]}
        print(
            f"{name:6s} {row['clips_per_second']:8.2f} clips/s, {100 * row['mfu']:5.1f} % of the peak's FLOP/s, "
            f"{memory[name]:.0f} MB" + ("" if CUDA else " (of the process, all ways so far)")
        )
    goals = []
    if given.against:
        goals.append(Goal("clips/s of ours over naive", median_ratio(times, "naive", "ours"), 2, least=True))
        if CUDA:
            goals.append(Goal("memory of ours over naive", memory["ours"] / memory["naive"], 1))
    if CUDA and "L-14" in given.model:
        goals.append(Goal("share of the peak's FLOP/s", figures["ours"]["mfu"], 0.45, least=True))
    finish(figures, goals if CUDA else [], given)


if __name__ == "__main__":
    main()

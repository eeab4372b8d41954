"""What `mote train --dry-run` does: build everything, take one step on real clips, and say what training will cost.

FLOPs are counted by torch (2 per multiply-add) while one clip, or one image, goes through the network; what torch
does not count (norms, activations, softmax) is left out, as in published figures, which are often multiply-adds: half
of these. Nothing is written.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mote.config import Config
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.loader import FeatureDataset
from mote.experiments.assemble import Experiment, assemble
from mote.parallel.accelerator import Accelerator, make_accelerator
from mote.reporting.page import text_table
from mote.reporting.parameters import parameter_table
from mote.training.batches import micro_batch_size
from mote.training.memory import fitting_micro_batch
from mote.training.optim import make_optimizer, parameter_groups
from mote.training.seeds import routing_generator

Batch = dict[str, Tensor]


def dry_run(config: Config, find_batch_size: bool = False) -> dict[str, Any]:
    """Print and return what a training run of `config` would train and cost; see `measure`.

    Args:
        config: as for `mote.experiments.train.train`; `run.out` is not used.
        find_batch_size: also look for the fewest accumulation steps with which the batch fits into GPU memory.

    Raises:
        ValueError, OSError: what `mote train` would refuse.
        DecodeError: the first clips of the training list cannot be read.
    """
    accelerator = make_accelerator(config.optim.precision, cpu=config.run.cpu)
    if accelerator.num_processes > 1:
        raise ValueError("a dry run measures one process; start it without a launcher")
    if find_batch_size and accelerator.device.type != "cuda":
        raise ValueError("--find-batch-size needs a GPU: on the CPU a step that does not fit is killed, not refused")
    experiment = assemble(config, accelerator)
    groups = parameter_groups(experiment.task, experiment.rules(), weight_decay=config.optim.weight_decay)
    table = parameter_table(experiment.task, groups, config.optim.lr)
    print(text_table(table))
    experiment.task.to(accelerator.device).train()
    step = _stepper(experiment, accelerator, groups)
    clips, loading = _clips(experiment, micro_batch_size(config.optim.batch_size, 1, config.optim.accumulation))
    facts: dict[str, Any] = {"parameters": table, "device": _device(accelerator)}
    if find_batch_size:
        micro = fitting_micro_batch(lambda size: step(_of_size(clips, size)), config.optim.batch_size)
        facts["accumulation"] = config.optim.batch_size // micro
        clips = _of_size(clips, micro)
    facts |= measure(experiment, step, clips, loading, facts.get("accumulation", config.optim.accumulation))
    print(text_table([{"": name, "value": value} for name, value in _lines(facts, experiment.item)]))
    return facts


def measure(
    experiment: Experiment, step: Callable[[Batch], Any], clips: Batch, loading: float, accumulation: int
) -> dict[str, Any]:
    """FLOPs of one clip, and time and memory of the step that `clips`, one micro batch, makes.

    Keys: flops_forward, flops_training (of one clip); seconds_per_step, steps_per_epoch, seconds_per_epoch, all for
    whole optimizer steps; clips_per_second_loading; peak_memory (bytes).
    `loading`: seconds that one worker needs for one clip.
    """
    config, device = experiment.config, experiment.device
    task, few = experiment.task, experiment.smallest_batch
    one = _of_size(clips, few)
    forward = flops(lambda: experiment.predict(one)) // few
    training = flops(lambda: task(one, routing_generator(0, 0, 0))[0].backward()) // few
    task.zero_grad(set_to_none=True)
    step(clips)  # the first one allocates and chooses kernels
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    step(clips)
    computing = time.perf_counter() - start
    size = len(clips["label"])
    workers = max(config.data.workers, 1)
    slowest = max(computing, loading * size / workers) if config.data.workers else computing + loading * size
    steps = len(experiment.records) // config.optim.batch_size
    return {
        "flops_forward": forward,
        "flops_training": training,
        "micro_batch": size,
        "seconds_per_step": slowest * accumulation,
        "steps_per_epoch": steps,
        "seconds_per_epoch": slowest * accumulation * steps,
        "clips_per_second_computing": size / computing,
        "clips_per_second_loading": workers / loading if loading else None,
        "peak_memory": peak_memory(device),
    }


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that the GPU has held since its count was reset, or this process on the CPU since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products, convolutions and attentions in `run`, backward included."""
    fused = (
        torch.backends.mha.get_fastpath_enabled()
    )  # one kernel for all of nn.MultiheadAttention, which is not counted
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter:
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counter.get_total_flops()


def _stepper(experiment: Experiment, accelerator: Accelerator, groups: list[dict[str, Any]]) -> Callable[[Batch], None]:
    """One forward and backward pass and an update of rate 0: time and memory of training, weights untouched."""
    optim = experiment.config.optim
    made = make_optimizer(groups, optim.method, betas=optim.betas, momentum=optim.momentum)
    module, optimizer = accelerator.prepare(experiment.task, made)

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        accelerator.backward(module(batch, routing_generator(experiment.config.seed, 0, 0))[0])
        optimizer.step()
        if experiment.device.type == "cuda":
            torch.cuda.synchronize(experiment.device)

    return step


def _clips(experiment: Experiment, size: int) -> tuple[Batch, float]:
    """A batch of the first training clips on the device, at most 8 different ones, and seconds to load one clip."""
    loader = experiment.loader()
    dataset: Any = loader.dataset
    count = min(size, len(dataset), 8)
    start = time.perf_counter()
    items = [dataset[(0, index)] for index in range(count)]
    seconds = 0.0 if isinstance(loader.dataset, FeatureDataset) else (time.perf_counter() - start) / count
    bad = [index for index, item in enumerate(items) if not item["valid"]]
    if bad:
        dataset.frames(0, bad[0])  # raises what went wrong
        raise DecodeError(dataset.records[bad[0]].path, "reader", "failed once, but can be decoded now")
    names = [name for name, value in items[0].items() if isinstance(value, torch.Tensor)]
    batch = {name: torch.stack([item[name] for item in items]).to(experiment.device) for name in names}
    return _of_size(batch, size), seconds


def _of_size(batch: Batch, size: int) -> Batch:
    """The first `size` clips, over again where there are fewer."""
    index = torch.arange(size, device=batch["label"].device) % len(batch["label"])
    return {name: value[index] for name, value in batch.items()}


def _device(accelerator: Accelerator) -> str:
    return torch.cuda.get_device_name(accelerator.device) if accelerator.device.type == "cuda" else "cpu"


def _lines(facts: dict[str, Any], item: str) -> list[tuple[str, str]]:
    loading = facts["clips_per_second_loading"]
    holder = "process" if facts["device"] == "cpu" else "GPU"
    hours = facts["seconds_per_epoch"] / 3600
    lines = [
        ("device", facts["device"]),
        (f"GFLOPs of one {item}, inference", f"{facts['flops_forward'] / 1e9:.4g}"),
        (f"GFLOPs of one {item}, training", f"{facts['flops_training'] / 1e9:.4g}"),
        (f"{item}s of a micro batch", str(facts["micro_batch"])),
        (f"{item}s per second, computed", f"{facts['clips_per_second_computing']:.4g}"),
        (f"{item}s per second, loaded", f"{loading:.4g}" if loading else "cached"),
        (f"peak memory of the {holder}, GiB", f"{facts['peak_memory'] / 2**30:.3g}"),
        ("optimizer steps of an epoch", str(facts["steps_per_epoch"])),
        ("time of an epoch, hours (one process)", f"{hours:.3g}"),
    ]
    if "accumulation" in facts:
        lines.append(("largest micro batch that fits", f"set optim.accumulation={facts['accumulation']}"))
    return lines

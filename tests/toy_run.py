"""A small training run for the tests, in this process or as a script: `python toy_run.py '{"out": "...", ...}'`."""

import json
import os
import signal
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from accelerate import DistributedType, PartialState
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mote.models.temporal import TemporalHead
from mote.models.video_clip import VideoCLIP
from mote.parallel.accelerator import make_accelerator
from mote.tasks.video import VideoTask
from mote.training.hooks import Hooks
from mote.training.loop import fit
from mote.training.run import Keeping
from mote.training.schedule import Schedule

CLASSES, WIDTH = 5, 8
RULES = [("model.visual.*", {"lr_scale": 0.1}), ("model.logit_scale", {"lr_scale": 0.1}), ("*", {})]


class Clips(Dataset):
    """Random clips, a function of (epoch, index); `seen` lists what was made, `broken` what cannot be decoded."""

    def __init__(self, num_items: int, broken: tuple[int, ...] = ()):
        self.num_items, self.broken, self.seen = num_items, broken, []

    def __len__(self):
        return self.num_items

    def __getitem__(self, key):
        epoch, index = key
        self.seen.append(key)
        frames = np.random.default_rng((epoch, index)).integers(0, 256, (3, 3, 4, 4), dtype=np.uint8)
        frames[:, index % 3] //= 4
        item = {
            "frames": torch.from_numpy(frames),
            "label": torch.tensor(index % CLASSES),
            "index": torch.tensor(index),
            "valid": torch.tensor(index not in self.broken),
        }
        if self.broken:
            item["cause"] = f"/v/{index}.mp4\tcut off" if index in self.broken else ""
        return item


class Order:
    """Sampler of (epoch, index), an order of its own for each epoch."""

    def __init__(self, num_items: int, shuffle: bool = True):
        self.num_items, self.shuffle, self.epoch = num_items, shuffle, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.num_items

    def __iter__(self):
        order = np.random.default_rng(self.epoch).permutation(self.num_items) if self.shuffle else range(self.num_items)
        return iter([(self.epoch, int(index)) for index in order])


class FaultyTask(VideoTask):
    """Fails in a chosen way at a chosen forward pass (counted from 1)."""

    calls, kill_at, nan_at, stop_at = 0, None, None, None

    def forward(self, batch, generator):
        self.calls += 1
        if self.calls == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.calls == self.stop_at and os.environ.get("RANK", "0") == "0":  # one process of several
            os.kill(os.getpid(), signal.SIGTERM)
        loss, terms = super().forward(batch, generator)
        factor = float("nan") if self.calls == self.nan_at else 1.0
        return loss * factor, {name: value * factor for name, value in terms.items()}


def make_task(experts: int = 3, layers: int = 2, dropout: float = 0.0, checkpointing=False, **faults) -> FaultyTask:
    torch.manual_seed(0)
    visual = nn.Sequential(nn.Flatten(), nn.Linear(48, WIDTH), nn.Dropout(dropout))
    head = TemporalHead(WIDTH, layers, num_heads=2, num_experts=experts) if layers else None
    model = VideoCLIP(visual, torch.tensor(1.0), head, embed_dim=WIDTH, mean=(0.5,) * 3, std=(0.5,) * 3)
    task = FaultyTask(model, nn.functional.normalize(torch.randn(CLASSES, WIDTH), dim=-1), anchor_weight=0.5)
    if checkpointing:
        model.visual.set_grad_checkpointing = lambda enabled: None
        model.set_gradient_checkpointing(True)
    task.__dict__.update(faults)
    return task


def make_evaluate(accelerator, num_items: int):
    """Counts over `num_items` clips in batches of 4; every clip must come back once."""

    def evaluate(task, epoch):
        dataset = Clips(num_items)
        loader = DataLoader(dataset, batch_size=4, sampler=Order(num_items, shuffle=False))
        loader = accelerator.prepare_data_loader(loader)
        parts = []
        for batch in loader:
            logits = task.predict(batch)
            made = {"index": batch["index"], "label": batch["label"], "logits": logits}
            parts.append(accelerator.gather_for_metrics(made))
        index, label, logits = (torch.cat([part[key] for part in parts]) for key in ("index", "label", "logits"))
        assert sorted(index.tolist()) == list(range(num_items))
        hits = (logits.argmax(-1) == label).sum().item()
        return {"top1": hits / num_items, "count": float(num_items), "logits": logits.double().abs().sum().item()}

    return evaluate


def run(
    out,
    *,
    resume=False,
    num_items=26,
    batch_size=4,
    workers=0,
    task=None,
    clips=None,
    broken=(),
    precision="fp32",
    **options,
):
    """Train the toy task into `out`; returns (task, progress, log records). `options`: fields of `fit`'s values."""
    keys = ("experts", "layers", "dropout", "checkpointing", "kill_at", "nan_at", "stop_at")
    make = {key: options.pop(key) for key in keys if key in options}
    task = task or make_task(**make)
    clips = clips or Clips(num_items, tuple(broken))
    loader = DataLoader(
        clips,
        batch_size,
        sampler=Order(len(clips)),
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
    )
    honest = options.pop("honest", False)
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and not honest:
        # accelerate shards on GPUs only, though torch can on the CPU: call the processes what they are not.
        PartialState(cpu=True)
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    accelerator = make_accelerator(precision, cpu=True)
    if options.pop("evaluated", False):
        options |= {"evaluate": make_evaluate(accelerator, 11), "select": "top1"}
    options = {"lr": 1e-2, "epochs": 2, "warmup_epochs": 0.5, "out": Path(out), "resume": resume} | options
    rules = options.pop("rules", RULES)
    values = [
        kind(**{one.name: options.pop(one.name) for one in fields(kind) if one.name in options})
        for kind in (Schedule, Keeping, Hooks)
    ]
    assert not options, f"unknown options {options}"
    progress = fit(task, loader, rules, *values, accelerator)
    records = [json.loads(line) for line in (Path(out) / "log.jsonl").read_text().splitlines()]
    return task, progress, records


if __name__ == "__main__":
    run(**json.loads(sys.argv[1]))

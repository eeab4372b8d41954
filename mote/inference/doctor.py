"""What this machine has and lacks for mote: one finding a line, with what will be slow or missing without it."""

import os
import platform
import shutil
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from mote.files.extras import install
from mote.files.provenance import versions

EXTRAS = {  # extra -> packages it brings, and what needs them
    "analysis": (("sklearn", "scipy"), "mote diagnose, mote fit, evaluation of autoencoders"),
    "faces": (("cv2",), "mote predict --faces"),
    "parquet": (("pyarrow",), "mote encode, search, fit, and mote predict --out"),
    "timelines": (("webvtt",), "mote predict --vtt"),
    "remote": (("fsspec",), "videos in object stores"),
    "onnx": (("onnx", "onnxruntime", "onnxscript"), "mote export to .onnx"),
    "ray": (("ray",), "mote predict --engine ray"),
    "tensorboard": (("tensorboard",), "run.trackers=[tensorboard]"),
    "wandb": (("wandb",), "run.trackers=[wandb]"),
}
CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4")  # that most videos are in
ROOM = 5e9  # bytes: a backbone with its checkpoints takes that much
SHARED = 1e9  # bytes of shared memory, through which worker processes hand over clips
PATIENCE = 3.0  # seconds


class Finding(NamedTuple):
    """One line.

    topic: what was looked at. state: `ok`; `slow` or `missing`: works, but for what the text says; `broken`: does not.
    """

    topic: str
    state: Literal["ok", "slow", "missing", "broken"]
    text: str


def look() -> Iterator[Finding]:
    """Everything that is looked at, one by one; what cannot be looked at is a finding too."""
    for topic, check in CHECKS.items():
        try:
            yield from check()
        except Exception as error:  # whatever it is, the other lines are wanted
            line = next(iter(str(error).splitlines()), "")
            yield Finding(topic, "broken", f"{type(error).__name__}: {line}")


def _versions() -> Iterator[Finding]:
    found = versions()
    yield Finding("system", "ok", f"Python {found.pop('python')}, {platform.system()} {platform.machine()}")
    have = ", ".join(f"{name} {version}" for name, version in found.items() if version is not None)
    yield Finding("packages", "ok", have)


def _devices() -> Iterator[Finding]:
    import torch

    from mote.parallel.precision import has_bf16

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        shown = ", ".join(f"{gpu.name} ({gpu.total_memory / 1e9:.0f} GB)" for gpu in gpus)
        yield Finding("devices", "ok", f"{shown}; {cores} processor cores")
    else:
        slow = "no GPU: training with a large backbone takes days, and naming a video with it seconds"
        yield Finding("devices", "slow", f"{cores} processor cores, {slow}")
    if has_bf16(device):
        yield Finding("bf16", "ok", f"multiplied by the {device.type} itself: precision=auto takes it")
    else:
        yield Finding("bf16", "slow", f"no units for it in the {device.type}: precision=auto stays at fp32")


def _decoders() -> Iterator[Finding]:
    import av
    import numpy as np

    from mote.datasets.decoding.decode import read_frames
    from mote.datasets.decoding.encode import write_video

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        write_video(file, np.zeros((2, 64, 64, 3), np.uint8))
        read_frames(file, [0, 1])
    lacking = [codec for codec in CODECS if codec not in av.codecs_available]
    kinds = ", ".join(codec for codec in CODECS if codec not in lacking)
    yield Finding(
        "decoder",
        "missing" if lacking else "ok",
        f"PyAV {av.__version__}: {kinds}" + (f"; no {', '.join(lacking)}: such videos cannot be read" * bool(lacking)),
    )
    if find_spec("decord") is None:
        yield Finding("decord", "missing", "not installed: data.decoder=decord, which is for comparisons only")


def _extras() -> Iterator[Finding]:
    for extra, (packages, purpose) in EXTRAS.items():
        if all(find_spec(package) for package in packages):
            yield Finding(extra, "ok", purpose)
        else:
            yield Finding(extra, "missing", f"{purpose}: {install(extra)}")


def _caches() -> Iterator[Finding]:
    from mote.datasets.cache.feature_cache import usage_line
    from mote.inference.features import default_folder

    features, weights = default_folder(), _weights()
    yield Finding("features", "ok", usage_line(features) if features.is_dir() else f"{features}: nothing cached yet")
    models = sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in weights.glob("models--*"))
    some = f" ({', '.join(models[:3])}{', ...' if len(models) > 3 else ''})" if models else ""
    yield Finding("weights", "ok", f"{weights}: {len(models)} models from the Hub{some}")


def _network() -> Iterator[Finding]:
    here = "only `tiny`, models on this disk and what is in the cache of weights can be used"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        yield Finding("network", "missing", f"switched off by HF_HUB_OFFLINE: {here}")
        return
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    cause = _reach(address)
    if cause is None:
        yield Finding("network", "ok", f"{address} answers: published weights can be fetched")
    else:
        yield Finding("network", "missing", f"offline: {address} does not answer ({cause}): {here}")


def _reach(address: str) -> str | None:
    """None where a server answers within PATIENCE, else why not."""
    causes = ["no answer in time"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE):
                causes.clear()
        except urllib.error.HTTPError:  # an answer all the same
            causes.clear()
        except (OSError, ValueError) as error:
            causes[:] = [" ".join(str(getattr(error, "reason", error)).split())]

    thread = threading.Thread(target=ask, daemon=True)  # a name that is looked up is not subject to a timeout
    thread.start()
    thread.join(PATIENCE)
    return next(iter(causes), None)


def _disk() -> Iterator[Finding]:
    from mote.inference.features import default_folder

    places = {"here": Path.cwd(), "cache": default_folder(), "weights": _weights(), "temporary": tempfile.gettempdir()}
    found: dict[int, tuple[list[str], float]] = {}
    for name, place in places.items():
        there = next(folder for folder in [Path(place), *Path(place).parents] if folder.exists())
        names, _ = found.setdefault(there.stat().st_dev, ([], shutil.disk_usage(there).free))
        names.append(name)
    for names, free in found.values():
        where, size = ", ".join(names), f"{free / 1e9:.1f} GB free"
        if free >= ROOM:
            yield Finding("disk", "ok", f"{size} ({where})")
        else:
            yield Finding("disk", "missing", f"{size} ({where}): little for weights, checkpoints and cached features")
    shared = Path("/dev/shm")
    if shared.is_dir() and (free := shutil.disk_usage(shared).free) < SHARED:
        text = f"{free / 1e6:.0f} MB: worker processes may be killed; give the container more, or set data.workers=0"
        yield Finding("shared memory", "missing", text)


def _weights() -> Path:
    """The folder that the Hub's client keeps models in."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


CHECKS: Mapping[str, Callable[[], Iterator[Finding]]] = {
    "packages": _versions,
    "devices": _devices,
    "decoder": _decoders,
    "extras": _extras,
    "caches": _caches,
    "network": _network,
    "disk": _disk,
}

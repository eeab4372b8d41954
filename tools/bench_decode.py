"""How much longer than bare decoding does a clip take to load? Medians of interleaved runs, one thread, CPU time.

For each made file (H.264 with short and long groups of pictures, MPEG-4 with B-frames in MP4 and AVI; three sizes):

- bare: 8 frames by PyAV alone: open, list the packets (the length, from which to sample), seek, decode, to RGB arrays;
  where the frames are it is told beforehand;
- ours: `VideoDataset` item, file to uint8 (1, 8, 3, 224, 224), knowing nothing beforehand;
- earlier: the same with the square cut first and resized bilinearly, as before networks had preprocessing of their own;
- pil: the bare frames through the per-frame pipeline common in the field (resize, crop, stack, float, normalise);
- decord: the same 8 frames by decord, where installed. It is no reference: on B-frames it may return other frames.

    python tools/bench_decode.py --rounds 15 --out bench_decode.json
    python tools/bench_decode.py --rounds 15 --bounded

With `--bounded` what the bound on the time of a file costs (`data.decode_timeout`: its frames are decoded in a process
of their own): the item with it over the item without, in processor time of both processes and by the clock on the wall.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from measuring import Goal, finish, interleaved, median_ratio, options, tree_seconds
from PIL import Image

from mote.datasets.decoding.decode import read_frames
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.decoding.memory import keep_freed_memory
from mote.datasets.lists.manifest import Record
from mote.datasets.sampling import segment_indices
from mote.datasets.video import VideoDataset
from mote.files.preprocessing import AS_CLIP, CUT_FIRST, Preprocessing

SIZES = ((320, 240), (340, 256), (1280, 720))
KINDS = {
    "H.264 mp4, groups of 12": ("libx264", "mp4", {"gop_size": 12}),
    "H.264 mp4, groups of 250": ("libx264", "mp4", {"gop_size": 250}),
    "MPEG-4 mp4": ("mpeg4", "mp4", {"gop_size": 12, "max_b_frames": 2}),
    "MPEG-4 avi": ("mpeg4", "avi", {"gop_size": 250, "max_b_frames": 2}),
}
SHOWN = ("ours", "earlier", "pil", "decord")
NUM_SAMPLES, TARGET, REPEATS = 8, 1 / 0.85, 4


def make_clip(path: Path, codec: str, width: int, height: int, num_frames: int, settings: dict) -> None:
    """A textured scene that pans under a moving textured box, with a little noise, as a video file."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 16, width // 8, 3), dtype=np.uint8))
    scene = np.asarray(coarse.resize((width * 2, height), Image.Resampling.BICUBIC)).astype(np.int16)
    box = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.int16)
    noise = rng.integers(-6, 7, (height, width, 1), dtype=np.int16)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 6 * width * height  # a web video's: about 0.2 bit per pixel
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for i in range(num_frames):
            frame = scene[:, (2 * i) % width : (2 * i) % width + width] + np.roll(noise, 7 * i, axis=(0, 1))
            x, y = (3 * i) % (width * 3 // 4), (i % (height * 3 // 4))
            frame[y : y + height // 4, x : x + width // 4] = box
            image = av.VideoFrame.from_ndarray(frame.clip(0, 255).astype(np.uint8), format="rgb24")
            file.mux(stream.encode(image))
        file.mux(stream.encode(None))


class Plan:
    """Where the wanted frames of a file are: what bare decoding is told for free."""

    def __init__(self, path: Path):
        self.seekable = path.suffix == ".mp4"
        with av.open(str(path)) as file:
            frames = [(frame.pts, frame.key_frame) for frame in file.decode(video=0)]
        self.num_frames = len(frames)
        self.indices = segment_indices(self.num_frames, NUM_SAMPLES).tolist()
        keys = [i for i, (_, key) in enumerate(frames) if key]
        self.wanted = []  # (frame number, its time, number and time of the key frame before it)
        for index in self.indices:
            key = max(i for i in keys if i <= index)
            self.wanted.append((index, frames[index][0], key, frames[key][0]))


def bare(path: Path, plan: Plan) -> list[np.ndarray]:
    """The 8 frames with as little as PyAV can do: list packets, seek where that skips frames, decode, convert."""
    images, position = [], -1
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        stream.thread_type = "NONE"
        if sum(packet.size > 0 for packet in file.demux(stream)) != plan.num_frames:
            raise AssertionError(f"{path}: as many packets as frames expected")
        file.seek(0, stream=stream)
        frames = file.decode(stream)
        for index, instant, key, key_instant in plan.wanted:
            if plan.seekable and key > position + 1:
                file.seek(key_instant, stream=stream)
                frames, position = file.decode(stream), key - 1
            for frame in frames:
                position += 1
                if (plan.seekable and frame.pts == instant) or (not plan.seekable and position == index):
                    break
            images.append(frame.to_ndarray(format="rgb24", threads=1))
            position = index
    return images


def ours(path: Path, preprocessing: Preprocessing = AS_CLIP) -> torch.Tensor:
    """A test item of the dataset."""
    sizes = {"num_frames": NUM_SAMPLES, "size": 224}
    dataset = VideoDataset([Record(path, 0)], **sizes, train=False, preprocessing=preprocessing)
    return dataset[0]["frames"]


def pil(path: Path, plan: Plan) -> torch.Tensor:
    """The field's way: a PIL image per frame, and normalised floats on the CPU."""
    squares = []
    for array in bare(path, plan):
        image = Image.fromarray(array)
        scale = 224 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - 224) // 2, (image.height - 224) // 2
        squares.append(np.asarray(image.crop((left, top, left + 224, top + 224))))
    clip = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).contiguous().float().div(255)
    mean, std = torch.tensor([0.481, 0.458, 0.408]), torch.tensor([0.269, 0.261, 0.276])
    return clip.sub_(mean[:, None, None]).div_(std[:, None, None])


def measure(path: Path, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds, and ratios to bare, of one file; the frames of `ours` are checked against the bare ones first."""
    plan = Plan(path)
    if not np.array_equal(read_frames(path, plan.indices), np.stack(bare(path, plan))):
        raise AssertionError(f"{path}: bare decoding found other frames")
    calls = {"bare": partial(bare, path, plan), "ours": partial(ours, path), "pil": partial(pil, path, plan)}
    calls["earlier"] = partial(ours, path, CUT_FIRST)
    try:
        read_frames(path, plan.indices, decoder="decord")
        calls["decord"] = partial(read_frames, path, plan.indices, decoder="decord")
    except (ValueError, DecodeError):  # not installed, or it gives up on the file
        pass
    seconds = interleaved(calls, rounds, time.process_time)
    ratios = {name: median_ratio(seconds, name, "bare") for name in calls}
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}, ratios


def compare_bounded(path: Path, rounds: int) -> dict[str, float]:
    """Milliseconds of an item without and with a bound on its time, and their ratios; both give the same frames."""
    record, size = [Record(path, 0)], 224
    plain = VideoDataset(record, num_frames=NUM_SAMPLES, size=size, train=False)
    bounded = VideoDataset(record, num_frames=NUM_SAMPLES, size=size, train=False, timeout=60.0)
    if not torch.equal(plain[0]["frames"], bounded[0]["frames"]):
        raise AssertionError(f"{path}: other frames with a bound than without")
    calls = {name: partial(items, dataset) for name, dataset in (("plain", plain), ("bounded", bounded))}
    found = {}
    for clock, take in (("processor", tree_seconds), ("wall", time.perf_counter)):
        seconds = interleaved(calls, rounds, take)
        found |= {f"{name} ms, {clock}": 1000 * statistics.median(seconds[name]) / REPEATS for name in calls}
        found[f"ratio, {clock}"] = median_ratio(seconds, "bounded", "plain")
    return found


def items(dataset: VideoDataset) -> None:
    """The same item several times: reading the processor time takes a while itself."""
    for _ in range(REPEATS):
        dataset[0]


def bounds(given: argparse.Namespace) -> None:
    """The table of `--bounded`."""
    rows = []
    print(f"{'file':38s} {'plain ms':>9s} {'bounded/plain, processor':>25s} {'wall':>6s}")
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES:
            for kind, (codec, suffix, settings) in KINDS.items():
                path = Path(folder) / f"{width}x{height} {kind}.{suffix}"
                make_clip(path, codec, width, height, given.frames, settings)
                row = {"file": path.stem, **compare_bounded(path, given.rounds)}
                rows.append(row)
                ratios = f"{row['ratio, processor']:25.3f} {row['ratio, wall']:6.3f}"
                print(f"{path.stem:38s} {row['plain ms, processor']:9.1f} {ratios}", flush=True)
    worst = max(row["ratio, processor"] for row in rows)
    finish({"files": rows}, [Goal("time of a clip with a bound over without, worst file", worst, 1.1)], given)


def main() -> None:
    """Make the files, measure, print the table, write the JSON."""
    parser = options(__doc__, rounds=15, frames=270)
    parser.add_argument("--bounded", action="store_true", help="measure the cost of data.decode_timeout instead")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as in the processes that decode
    if given.bounded:
        return bounds(given)
    heads = ("bare ms", "ours ms", "ours/bare", "earlier/bare", "pil/bare", "decord/bare")
    print(f"{'file':38s} {' '.join(f'{head:>12s}' for head in heads)}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES:
            for kind, (codec, suffix, settings) in KINDS.items():
                path = Path(folder) / f"{width}x{height} {kind}.{suffix}"
                make_clip(path, codec, width, height, given.frames, settings)
                found, ratios = measure(path, given.rounds)
                rows.append({"file": f"{width}x{height} {kind}", "ms": found, "ratio_to_bare": ratios})
                times = f"{found['bare']:12.1f} {found['ours']:12.1f}"
                kinds = (f"{ratios[name]:12.2f}" if name in ratios else f"{'-':>12s}" for name in SHOWN)
                print(f"{rows[-1]['file']:38s} {times} {' '.join(kinds)}", flush=True)
    worst = max(row["ratio_to_bare"]["ours"] for row in rows)
    finish({"files": rows}, [Goal("time of a clip over bare decoding, worst file", worst, TARGET)], given)


if __name__ == "__main__":
    main()

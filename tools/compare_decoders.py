"""Which decoder gives the frames that were asked for, and how fast? PyAV, decord and torchcodec, file by file.

Eight frames of each file, one from each of eight segments. `wrong`: how many of them are nearer to another frame of the
file, counted from its start, than to the one asked for; ms: processor milliseconds, median of interleaved runs on one
thread. Without `--videos` the files are made: H.264 and MPEG-4, in MP4 and AVI, at two sizes.

torchcodec is measured where it is installed; it needs FFmpeg's libraries, for which those inside the wheel of PyAV do
(links named libavcodec.so.62 and so on to the files in site-packages/av.libs, both folders in LD_LIBRARY_PATH).

    python tools/compare_decoders.py --videos FOLDER --out compare_decoders.json
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bench_decode import KINDS, make_clip
from measuring import finish, interleaved, median_ratio, options

from mote.datasets.decoding.decode import open_video, read_frames
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.lists.folders import search
from mote.datasets.sampling import segment_indices

LONGEST = 300  # frames of a file that are looked through


def torchcodec(path: Path, indices: list[int]) -> np.ndarray:
    """Frames by torchcodec, in the mode that scans the file first."""
    from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports]

    video = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    return video.get_frames_at(indices).data.numpy()


DECODERS: dict[str, Callable[[Path, list[int]], np.ndarray]] = {
    "pyav": read_frames,
    "decord": partial(read_frames, decoder="decord"),
    "torchcodec": torchcodec,
}


def wrong(found: np.ndarray, indices: list[int], every: np.ndarray) -> int:
    """How many of `found` are nearer to another frame of `every`."""
    count = 0
    for index, image in zip(indices, found.astype(np.int16), strict=True):
        apart = [float(np.abs(frame - image).mean()) for frame in every]
        count += apart[index] > min(apart)
    return count


def measure(path: Path, rounds: int) -> dict[str, dict[str, float | str]]:
    """{decoder: wrong, ms, ratio to PyAV, or why it failed} of a file that PyAV can read."""
    with open_video(path) as video:
        length = min(video.num_frames, LONGEST)
    indices = segment_indices(length, 8).tolist()
    every = read_frames(path, list(range(length))).astype(np.int16)
    found: dict[str, dict[str, float | str]] = {}
    calls: dict[str, Callable[[], object]] = {}
    for name, decode in DECODERS.items():
        try:
            found[name] = {"wrong": wrong(decode(path, indices), indices, every)}
            calls[name] = partial(decode, path, indices)
        except (ImportError, DecodeError, RuntimeError, ValueError) as error:
            found[name] = {"failed": type(error).__name__}
    seconds = interleaved(calls, rounds, time.process_time)
    for name, values in seconds.items():
        found[name] |= {"ms": 1000 * statistics.median(values), "ratio": median_ratio(seconds, name, "pyav")}
    return found


def main() -> None:
    """Measure every file, print the table, write the JSON."""
    parser = options(__doc__, rounds=5, frames=270)
    parser.add_argument("--videos", type=Path, help="folder of files to measure in place of made ones")
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = search(given.videos).files if given.videos else []
        for width, height in () if given.videos else ((320, 240), (1280, 720)):
            for kind, (codec, suffix, settings) in KINDS.items():
                paths.append(Path(folder) / f"{width}x{height} {kind}.{suffix}")
                make_clip(paths[-1], codec, width, height, given.frames, settings)
        print(f"{'file':42s} " + " ".join(f"{name:>22s}" for name in DECODERS))
        for path in paths:
            try:
                figures[path.name] = found = measure(path, given.rounds)
            except DecodeError as error:
                print(f"{path.name[:42]:42s} {error.cause[:60]}")
                continue
            cells = (
                f"{row['ms']:8.1f} ms, {row['wrong']} of 8 wrong" if "ms" in row else f"{row['failed']:>22s}"
                for row in found.values()
            )
            print(f"{path.name[:42]:42s} " + " ".join(cells), flush=True)
    finish({"files": figures}, [], given)


if __name__ == "__main__":
    main()

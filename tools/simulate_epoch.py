"""An epoch over a million videos on 64 processes, simulated: what storage must deliver, and what stragglers cost.

Every optimizer step is a barrier. Each process has `--workers` loader workers, each of which makes whole batches in
turn, at most `--ahead` of them before they are wanted. A batch takes the time of its clips: reading (a round trip and
the bytes at a share of the bandwidth) and decoding, both log-normal, as sizes and lengths of videos are. `decode` is a
mean of `bench_loader.py` on the machine in question; sizes are of the data set in question. The last process may be
slower by `--slow`. Drawn from a seed; nothing is read.

    python tools/simulate_epoch.py
    python tools/simulate_epoch.py --decode 0.09 --step 0.25 --workers 12 --out simulation.json
"""

import argparse
import json
from pathlib import Path

import numpy as np

LAYOUTS = {  # how a video is found: round trips to the storage for each
    "files": 3.0,  # look up, open, read
    "archives": 1.0,  # one ranged read in a file that is open on the storage already
}


def log_normal(rng: np.random.Generator, mean: float, spread: float, shape: tuple[int, ...]) -> np.ndarray:
    """Values whose mean is `mean` and whose logarithms have the standard deviation `spread`."""
    return rng.lognormal(np.log(mean) - spread**2 / 2, spread, shape)


def batch_seconds(rng: np.random.Generator, given: argparse.Namespace, layout: str, steps: int) -> np.ndarray:
    """Seconds a worker needs for each batch (steps, processes)."""
    shape = (steps, given.processes, given.batch // given.processes)
    seconds = log_normal(rng, given.decode, given.spread, shape)
    seconds += LAYOUTS[layout] * rng.exponential(given.latency, shape)
    share = given.bandwidth / (given.processes * given.workers)  # of the storage's bytes a second, all reading at once
    seconds += log_normal(rng, given.size, given.spread, shape) / share
    slow = np.ones(given.processes)
    slow[-1] = given.slow
    return seconds.sum(-1) * slow


def epoch(made: np.ndarray, workers: int, ahead: int, step: float) -> tuple[float, float]:
    """Seconds of all steps, and of them those that the mean process waits for its own next batch."""
    steps, processes = made.shape
    ready = np.zeros((steps, processes))  # when each batch is there
    done = np.zeros(steps + 1)  # when each step has ended, for all
    waited = 0.0
    for k in range(steps):
        free = ready[k - workers] if k >= workers else np.zeros(processes)
        allowed = done[max(0, k - workers * ahead)]  # no more than this many batches wait to be used
        ready[k] = np.maximum(free, allowed) + made[k]
        waited += np.maximum(ready[k] - done[k], 0).mean()
        done[k + 1] = max(done[k], ready[k].max()) + step
    return float(done[-1]), float(waited)


def simulate(given: argparse.Namespace, layout: str, slow: float) -> dict[str, float]:
    """Figures of one epoch."""
    settings = argparse.Namespace(**{**vars(given), "slow": slow})
    steps = given.videos // given.batch
    made = batch_seconds(np.random.default_rng(given.seed), settings, layout, steps)
    seconds, waited = epoch(made, given.workers, given.ahead, given.step)
    videos = steps * given.batch
    return {
        "steps": steps,
        "seconds": seconds,
        "floor_seconds": steps * given.step,
        "clips_per_second": videos / seconds,
        "reads_per_second": LAYOUTS[layout] * videos / seconds,
        "bytes_per_second": given.size * videos / seconds,
        "waiting_for_own_batch": waited / seconds,
        "waiting_for_any": 1 - steps * given.step / seconds,
    }


def parser() -> argparse.ArgumentParser:
    """The settings of the simulation."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--videos", type=int, default=1_000_000)
    found.add_argument("--processes", type=int, default=64)
    found.add_argument("--batch", type=int, default=1152, help="clips of one optimizer step, over all processes")
    found.add_argument("--workers", type=int, default=10, help="of each process")
    found.add_argument("--ahead", type=int, default=2, help="batches a worker may make in advance")
    found.add_argument("--step", type=float, default=0.3, help="seconds of compute of a step, all processes alike")
    found.add_argument("--decode", type=float, default=0.1, help="mean seconds of a worker for a clip")
    found.add_argument("--spread", type=float, default=0.6, help="standard deviation of the logarithms")
    found.add_argument("--size", type=float, default=0.7e6, help="mean bytes of a video")
    found.add_argument("--latency", type=float, default=0.003, help="mean seconds of a round trip to the storage")
    found.add_argument("--bandwidth", type=float, default=10e9, help="bytes a second of the storage, for all")
    found.add_argument("--slow", type=float, default=2.0, help="factor of the slow process")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--out", type=Path, help="write the figures as JSON")
    return found


def main() -> None:
    """Simulate every layout, with and without a slow process; print and write."""
    given = parser().parse_args()
    print(f"{given.videos} videos, {given.processes} processes x {given.workers} workers, {given.batch} clips a step")
    print(f"{'':26s} {'epoch':>8s} {'clips/s':>8s} {'reads/s':>8s} {'GB/s':>6s} {'own wait':>8s} {'any wait':>8s}")
    figures = {}
    for layout in LAYOUTS:
        for slow in (1.0, given.slow):
            name = f"{layout}, one at 1/{slow:g}" if slow > 1 else layout
            figures[name] = found = simulate(given, layout, slow)
            rates = f"{found['clips_per_second']:8.0f} {found['reads_per_second']:8.0f}"
            waits = f"{100 * found['waiting_for_own_batch']:7.1f}% {100 * found['waiting_for_any']:7.1f}%"
            gigabytes = found["bytes_per_second"] / 1e9
            print(f"{name:26s} {found['seconds']:7.0f}s {rates} {gigabytes:6.2f} {waits}", flush=True)
    print(f"compute alone: {found['floor_seconds']:.0f} s")
    if given.out:
        settings = {name: value for name, value in vars(given).items() if name != "out"}
        given.out.write_text(json.dumps({"settings": settings, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()

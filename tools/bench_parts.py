"""What `mote predict --out` costs beside decoding: listing, assigning, writing and collecting a million inputs.

A stand-in gives made scores at once, so that everything measured is overhead. The list has a line for each input over
few real or made names; reading it, the hash of every name, all parts with their bytes on disk, a second run that finds
nothing to do, and the collected table are counted. A clip takes `--milliseconds` to decode (10 by default:
`bench_decode.py` says what it takes on this machine); the goal is 2 % of that for all of them.

    python tools/bench_parts.py --out bench_parts.json
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from measuring import Goal, finish, memory_mb, options

from mote.prediction.collect import collect
from mote.prediction.parts import Plan, part_files
from mote.prediction.write import Share, write_parts

BEST = 5


class Row(NamedTuple):
    """A prediction of the stand-in."""

    path: str | Path
    scores: dict[str, float]
    error: None = None
    name: str | None = None
    start: float | None = None
    end: float | None = None


def stand_in(classes: list[str]) -> Iterator[Row]:
    """Made predictions without end: a few thousand different ones in turn, the best names first."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(4096):
        values = np.sort(rng.dirichlet(np.ones(len(classes))).astype(np.float32))[::-1].tolist()
        made.append(dict(zip(rng.permutation(classes).tolist(), values, strict=True)))
    while True:
        for scores in made:
            yield Row("", scores, name=next(iter(scores)))


def main() -> None:
    """Time every step, print, write the JSON."""
    parser = options(__doc__, inputs=1_000_000, classes=20, jobs=4, milliseconds=10)
    given = parser.parse_args()
    classes = [f"class {i}" for i in range(given.classes)]
    plan = Plan({"made": True}, classes, top=BEST)
    made = stand_in(classes)
    seconds: dict[str, float] = {}

    def predictions_of(inputs: list) -> Iterator[Row]:
        return (next(made)._replace(path=one) for one in inputs)

    def timed(name: str, start: float) -> None:
        seconds[name] = seconds.get(name, 0.0) + time.process_time() - start
        print(f"{name:24s} {seconds[name]:8.2f} s, peak {memory_mb():.0f} MB", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        listed, out = Path(folder) / "list.txt", Path(folder) / "out"
        listed.write_text("".join(f"/videos/{i % 1000:03d}/clip {i}.mp4\n" for i in range(given.inputs)))
        start = time.process_time()
        inputs = listed.read_text().splitlines()
        timed("listing", start)
        for job in range(given.jobs):
            start = time.process_time()
            write_parts(predictions_of, inputs, out, plan, share=Share(job + 1, given.jobs))
            timed("assigning and writing", start)
        start = time.process_time()
        write_parts(predictions_of, inputs, out, plan)
        timed("finding nothing to do", start)
        start = time.process_time()
        collect(out, csv_file=Path(folder) / "all.csv")
        timed("collecting", start)
        size = sum(file.stat().st_size for file in part_files(out)) / 1e6
        table = (Path(folder) / "all.csv").stat().st_size / 1e6
        print(f"{len(part_files(out))} parts, {size:.0f} MB; the table {table:.0f} MB")
    share = sum(seconds.values()) / (given.inputs * given.milliseconds / 1000)
    figures = {"seconds": seconds, "peak MB": memory_mb(), "parts MB": size}
    finish(figures, [Goal("listing, assigning, writing, collecting over decoding", share, 0.02)], given)


if __name__ == "__main__":
    main()

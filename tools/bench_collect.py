"""`mote collect` on a million rows: seconds by the clock and peak memory, in a process of its own.

Rows are spread over the parts of `--jobs` jobs, each in the order of the list, as `mote predict --part i/n` leaves
them. With `--windows N` they are timelines: N rows an input, whose best names differ from one to the next, so that
there are nearly as many segments as windows.

    python tools/bench_collect.py --out bench_collect.json
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench_parts import BEST, Row, stand_in
from measuring import Goal, finish, options

from mote.prediction.parts import Plan
from mote.prediction.write import Share, write_parts


def main() -> None:
    """Make the parts, collect them once as CSV and once as Parquet, print, write the JSON."""
    parser = options(__doc__, rows=1_000_000, classes=20, jobs=16, best=BEST, windows=0)
    given = parser.parse_args()
    classes = [f"class {i}" for i in range(given.classes)]
    plan = Plan({"made": True}, classes, top=given.best or None, timed=given.windows > 0)
    made = stand_in(classes)
    goals, figures = [], {}

    def rows_of(inputs: list) -> Iterator[Row]:
        for one in inputs:
            for k in range(given.windows):
                yield next(made)._replace(path=one, start=k / 2, end=k / 2 + 2)
            if not given.windows:
                yield next(made)._replace(path=one)

    with tempfile.TemporaryDirectory() as folder:
        inputs = [f"/videos/{i % 1000:03d}/clip {i}.mp4" for i in range(given.rows // max(1, given.windows))]
        for job in range(given.jobs):
            write_parts(rows_of, inputs, f"{folder}/out", plan, share=Share(job + 1, given.jobs))
        for kind in ("csv", "parquet"):
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-m", "mote", "collect", f"{folder}/out", f"--{kind}", f"{folder}/all.{kind}"]
            subprocess.run(command, check=True)
            wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            peak, size = after.ru_maxrss / 1024, Path(folder, f"all.{kind}").stat().st_size / 1e6
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            figures[kind] = {"seconds": wall, "processor": used, "peak MB": peak, "MB": size}
            print(f"{kind}: {wall:.1f} s, of the processor {used:.1f} s, peak {peak:.0f} MB, {size:.0f} MB written")
            goals += [Goal(f"seconds of mote collect --{kind}", wall, 30), Goal("its peak memory, MB", peak, 1000)]
    finish(figures, goals, given)


if __name__ == "__main__":
    main()

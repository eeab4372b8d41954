"""The verb `mote demo timelines`: what happens when in long videos, on two CPU cores without a download.

A temporal transformer is trained on the short clips of the synthetic world, each of which shows one class. Test clips
that it has not seen, and clips of objects that belong to no class, are laid end to end; the timelines of these videos
are compared with what is known to be in them. The threshold of "none of these" comes from other clips than the videos.
The result is segment F1 and mAP, with intervals, as a table, JSON and pages.
"""

import io
import json
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from mote.config import load as load_config
from mote.datasets.lists.class_files import read_class_names
from mote.datasets.lists.reading import Listing
from mote.datasets.synthetic.clips import make_world
from mote.datasets.synthetic.drawing import SIZE
from mote.datasets.synthetic.joined import Clip, join_clips
from mote.datasets.synthetic.world import Split
from mote.demos.videos import COMMON, HEAD
from mote.evaluation.videos import evaluate
from mote.experiments.train import train
from mote.files.provenance import versions
from mote.files.writing import csv_text, refuse_filled, write_atomic, write_together
from mote.inference.loading import load_video
from mote.parallel.accelerator import make_accelerator
from mote.prediction.evaluate_timelines import evaluate_timelines
from mote.prediction.timeline_verb import Request, predict_timelines
from mote.prediction.windows import cutting
from mote.reporting.page import Section, percent, text_table, write_page

COUNTS = {"unseen_pairs": 0, "unseen_objects": 0}  # splits that are not needed
MODEL = [*COMMON, *HEAD, "model.layers=2", "model.experts=1"]  # the temporal transformer of `mote demo`, first stage
FPS, CLIP, PER_VIDEO = 12, "1333ms", 12  # frames a second and length of the clips; clips of a video
STEP = "167ms"  # two frames: neighbouring windows share their frames
SMOOTH = CLIP  # chosen among widths of 0 to 2.5 s on the videos of seed 0
ACCEPT = 0.9  # share of the clips of known classes that the threshold keeps
Row = dict[str, Any]  # the name of an evaluation, its smoothing, and what `segment_report` says


def timelines_demo(
    out: Path, seed: int = 0, *, counts: dict[str, int] | None = None, settings: Sequence[str] = ()
) -> list[Row]:
    """Make the clips, train, join, evaluate, and write `out`/results.json, table.txt, index.html and timeline.html.

    Args:
        out: folder.
        seed: of the training and of the order of the clips.
        counts: clips of each class by split, instead of `mote.datasets.synthetic.clips.CLIPS_PER_CLASS`.
        settings: overrides of the training.

    Returns:
        The rows of the table: threshold, smoothing, F1 and mAP.
    """
    start = time.monotonic()
    print("1/3 synthetic clips", flush=True)
    if not (out / "world" / "world.json").is_file():
        refuse_filled(out / f"seed{seed}")  # it would be removed below, but no demo made it
    splits = make_world(out / "world", clips_per_class={**COUNTS, **(counts or {})}, fps=FPS)
    folder = out / f"seed{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    print("2/3 training on clips of one class each", flush=True)
    files = {"data.train": splits["train"].manifest, "data.classes": splits["train"].classes, "run.out": folder / "run"}
    where = [f"{key}={json.dumps(str(value))}" for key, value in files.items()]
    with redirect_stdout(io.StringIO()):
        run = train(load_config([], [*MODEL, *settings, *where, f"seed={seed}"]))
    print("3/3 timelines of long videos", flush=True)
    segments, threshold = _long_videos(splits, run, folder, seed)
    rows = _scored(run, segments, threshold, folder)
    _report(rows, run, segments, out, seed, threshold, time.monotonic() - start)
    return rows


def _long_videos(splits: dict[str, Split], run: Path, folder: Path, seed: int) -> tuple[Path, Path]:
    """The list of segments, and the result that holds the threshold, measured on the clips that are in no video."""
    known, other = _clips(splits["closed_test"]), _clips(splits["appearance"])
    unnamed: list[Clip] = [(path, None) for path, _ in other[::2]]
    size = (SIZE, SIZE)
    joined = [*known[::2], *unnamed]
    segments = join_clips(joined, folder / "videos", per_video=PER_VIDEO, size=size, fps=FPS, seed=seed)
    lists = {"known": known[1::2], "unknown": other[1::2]}
    for name, clips in lists.items():
        write_atomic(folder / f"{name}.csv", csv_text(("path", "label"), clips))
    paths = {"manifest": "known.csv", "unknown": "unknown.csv"}
    overrides = [f"evaluation.{key}={json.dumps(str(folder / name))}" for key, name in paths.items()]
    config = load_config([run / "config.yaml"], [*overrides, f"evaluation.accept={ACCEPT}", "evaluation.name=clips"])
    with redirect_stdout(io.StringIO()):
        evaluate(load_video(str(run)), config, make_accelerator(), folder / "evaluations")
    return segments, folder / "evaluations" / "clips.json"


def _clips(split: Split) -> list[tuple[Path, str]]:
    names = read_class_names(split.classes)
    return [(Path(record.path), names[record.label]) for record in Listing(str(split.manifest)).records(names)]


def _scored(run: Path, segments: Path, threshold: Path, folder: Path) -> list[Row]:
    """F1 and mAP with and without threshold and smoothing."""
    rows: list[Row] = []
    classifier = load_video(str(run))
    for limit, smooth in ((None, None), (None, SMOOTH), (str(threshold), SMOOTH)):
        name = f"timelines{'_smooth' if smooth else ''}{'_threshold' if limit else ''}"
        overrides = [f"evaluation.manifest={json.dumps(str(segments))}", f"evaluation.name={name}"]
        config = load_config([run / "config.yaml"], overrides)
        found = evaluate_timelines(classifier, config, cutting(CLIP, STEP, smooth), folder / "evaluations", limit)
        rows.append({"name": name, "smooth": smooth, **found})
    return rows


def _report(
    rows: Sequence[Row], run: Path, segments: Path, out: Path, seed: int, threshold: Path, seconds: float
) -> None:
    table = [_cells(row) for row in rows]
    text = text_table(table)
    facts = {"seed": seed, "versions": versions(), "run": str(run), "segments": str(segments)}
    results = {"rows": rows, "seconds": round(seconds, 1), **facts}
    write_together({out / "results.json": json.dumps(results, indent=1), out / "table.txt": text + "\n"})
    video = segments.parent / "0000.mp4"
    page = video.with_suffix(".html")
    request = Request(
        str(run), [str(video)], threshold=str(threshold), cutting=cutting(CLIP, STEP, SMOOTH), page=str(page)
    )
    with redirect_stdout(io.StringIO()):
        predict_timelines(request)
    listed = rows[0]
    words = f"{listed['videos']} videos with {listed['listed']} segments of known classes. {EXPLANATION}"
    options = f"--window {CLIP} --every {STEP} --smooth {SMOOTH} --threshold {threshold}"
    again = [
        f"mote eval {run} evaluation.manifest={segments} {options}",
        f"mote predict {run} {video} {options} --page {page}",
    ]
    sections = [
        Section("Segments found against segments known (%)", text=words, table=table),
        Section("Again", commands=[" ".join(["mote", *sys.argv[1:]]), *again], facts=facts),
    ]
    write_page(out / "index.html", "mote demo timelines", sections)
    print(f"\n{text}\n\n{page}: one of the videos\n{out}/index.html, results.json ({seconds:.0f} s)")


def _cells(row: Row) -> dict[str, object]:
    """A row of the table: F1 and mAP at tIoU 0.5, and their means over 0.3 to 0.7."""
    cells: dict[str, object] = {"threshold": _limit(row), "smoothed": row["smooth"] or "no", "found": row["detections"]}
    for key, name in (("f1", "F1"), ("map", "mAP")):
        at = row["tiou"].index(0.5)
        cells[f"{name}, tIoU 0.5"] = percent(row[key][at], row[f"{key}_interval"][at])
        cells[f"{name}, mean"] = percent(row[f"{key}_mean"], row[f"{key}_mean_interval"])
    return cells


def _limit(row: Row) -> str:
    value = row["timeline"]["threshold"]
    return "no" if value is None else f"{value:.3f}"


EXPLANATION = (
    "Each video has 12 clips of 1.3 s end to end: clips of the classes the model was trained on, not seen in training, "
    "and clips of other objects, which should be named by none. F1 and mAP as in docs/timelines.md: a found segment is "
    "right when it overlaps a known one of its class by the tIoU stated; mean: over tIoU 0.3 to 0.7. Brackets: 95 % "
    "intervals, bootstrap over videos. Threshold: the probability below which a segment has no name, set so that it "
    "keeps 90 % of other clips of the known classes. This is a hard case: a window is as long as a clip, so that "
    "only one in eight lies within one clip; the others show the end of one and the beginning of the next."
)

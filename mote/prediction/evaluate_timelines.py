"""What `mote eval ... --window 2s --every 0.5s` does: timelines of listed videos, judged against listed segments."""

from collections.abc import Callable, Collection
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from mote.config import Config
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.decoding.reading import Frame
from mote.datasets.lists.class_files import read_class_names
from mote.datasets.lists.reading import templates
from mote.datasets.lists.segments import read_segments
from mote.evaluation.videos import origin_of
from mote.files.hashes import sha256_file
from mote.files.writing import csv_text, replacing_together, to_json
from mote.inference.classifier import VideoClassifier
from mote.inference.contract import settled
from mote.inference.threshold import read_threshold
from mote.metrics.segment_table import COLUMNS, segment_lines
from mote.metrics.segments import Detection, Listed, segment_report
from mote.parallel.cores import OrderedMap, all_cores
from mote.parallel.launch import has_company
from mote.prediction.merging import Scored, merged, smoothed
from mote.prediction.timeline import Timeline, score_file, windows_of
from mote.prediction.windows import Cutting, Windows

UNUSED = {"clips": 1, "crops": 1, "fusion": "mean_softmax", "alpha": 1.0, "unknown": None, "split": None}


def for_timelines(config: Config, named: Collection[str]) -> Config:
    """The configuration without what its run says of the evaluation of clips; `named` ("evaluation.clips") stays."""
    left = {key: value for key, value in UNUSED.items() if f"evaluation.{key}" not in named}
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update=left)})


def evaluate_timelines(
    classifier: VideoClassifier, config: Config, cutting: Cutting, out: Path, threshold: str | None = None
) -> dict[str, Any]:
    """Find the segments of every listed video, judge them, and write NAME.json and NAME.csv to `out`.

    Every segment that has a name is a detection, its score the mean probability of that name. An undecodable video is
    an error, or with `evaluation.bad_videos=count_wrong` one in which nothing is found.

    Returns:
        What `segment_report` says, and `undecodable`, the paths.

    Raises:
        ValueError: no list, one that does not fit the classes, a setting that has no part in this.
        DecodeError: an undecodable video.
    """
    if has_company():
        raise ValueError("--window works in one process; start it without a launcher")
    settings = config.evaluation
    if settings.manifest is None:
        raise ValueError("evaluation.manifest is not set; give a list of segments: evaluation.manifest=list.csv")
    if odd := [key for key, value in UNUSED.items() if getattr(settings, key) != value]:
        raise ValueError(f"evaluation.{odd[0]} does not go with --window; leave it out")
    classifier = classifier.in_precision(settings.precision)
    if settings.templates is not None:
        classifier = classifier.with_templates(templates(settings.templates))
    names = classifier.chosen(None if settings.classes is None else read_class_names(settings.classes))
    classifier = classifier.corrected(config.imbalance, names)
    listed = read_segments(settings.manifest, names, settings.root)
    if lost := [video for video in listed.videos if not video.is_file()]:
        raise ValueError(f"{settings.manifest}: {len(lost)} of its videos are not there, such as {lost[0]}")
    hashes = classifier.hashes(names)
    least = 0.0 if threshold is None else read_threshold(threshold, lambda: hashes, clips=1, crops=1)
    found = _Found(classifier, names, windows_of(classifier, cutting.window, cutting.every), least, cutting.smooth)
    detections, undecodable = list[Detection](), list[str]()
    with all_cores(classifier.device) as ordered_map:
        for number, video in enumerate(listed.videos):
            try:
                detections += found.in_video(number, str(video), ordered_map)
            except DecodeError:
                if settings.bad_videos == "error":
                    raise
                undecodable.append(str(video))
    there = [Listed(*segment) for segment in listed.segments]
    summary = segment_report(there, detections, len(listed.videos), seed=config.seed)
    summary |= {"timeline": {**cutting._asdict(), "threshold": least or None}, "undecodable": undecodable}
    table = csv_text(COLUMNS, segment_lines(listed.videos, there, detections)).encode("utf-8", "surrogateescape")
    hashes |= {"manifest": sha256_file(settings.manifest), "predictions": sha256(table).hexdigest()}
    origin = origin_of(classifier, settled(config, classifier), hashes)
    document = to_json({"task": settings.name, **summary, "provenance": origin})
    with replacing_together(out) as stage:
        (stage / f"{settings.name}.json").write_bytes(document.encode("utf-8", "surrogateescape"))
        (stage / f"{settings.name}.csv").write_bytes(table)
    return summary


class _Found(NamedTuple):
    """How segments are found."""

    classifier: VideoClassifier
    names: list[str]
    windows: Windows
    threshold: float
    smooth: float

    def in_video(self, number: int, path: str, ordered_map: OrderedMap) -> list[Detection]:
        """The named segments of one video."""
        scored: list[Scored] = []

        def begin(_: Timeline) -> Callable[[int, Frame], None]:
            scored.clear()
            return lambda number, frame: None

        for window in score_file(path, self.classifier, self.names, self.windows, ordered_map, begin):
            scored.append(window)
        segments = merged(smoothed(scored, self.smooth), self.names, threshold=self.threshold, step=self.windows.step)
        return [
            Detection(number, round(segment.start, 6), round(segment.end, 6), segment.name, round(segment.score, 9))
            for segment in segments
            if segment.name is not None and segment.start < segment.end
        ]

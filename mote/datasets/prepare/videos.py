"""Official split files and a folder of videos -> our lists: `path label` lines relative to the videos, and class names.

What a layout's files look like is in `official`; here the videos are found on disk, the whole is checked, and a new
folder is written, all or nothing:

- `train1.txt`, `test1.txt`, `all.txt`, ...: one list per split, for `read_manifest(list, root=videos)`;
- `classes.csv`: `id,name` by label, for `read_class_names`; the id is the folder's name where it differs from the name;
- `missing.csv`: `path,label,split` of the published videos that are not on disk, if any (and if that was allowed);
- `report.json`: what `prepare` returns.

A video is found at its published path, or by its file name in any subfolder and with any video suffix, so that copies
that were flattened, sorted into class folders or converted need no list of their own.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mote.datasets.lists.folders import VIDEO_SUFFIXES
from mote.datasets.lists.manifest import ManifestError
from mote.datasets.lists.overlap import letters
from mote.datasets.prepare.layouts import VIDEOS
from mote.datasets.prepare.official import Classes, Entry, Plan, listed
from mote.datasets.prepare.report import Missing, VideosReport, refuse_missing, statistics
from mote.files.writing import csv_text, refuse_filled, write_folder


def prepare(
    layout: str,
    *,
    videos: Path | str,
    splits: Path | str,
    out: Path | str,
    missing: Missing = "error",
    classes: Classes | None = None,
    only: Collection[str] | None = None,
) -> VideosReport:
    """Lists of a published dataset, written into a new folder; the value is the report.

    Args:
        layout: how the dataset is laid out, a key of `layouts.VIDEOS`.
        videos: folder of the videos.
        splits: folder of the split files.
        out: new folder.
        missing: a published video that is not on disk is an error, or is left out and listed.
        classes: (id, name) by label, with which the split files must agree; their names are written.
        only: the lists to make; None: all.

    Raises:
        ManifestError: for what is wrong with the dataset, such as a video that is twice in one list or both in training
            and test of the same split.
        FileExistsError: `out` holds something.
        ValueError: for arguments that make no sense.
    """
    if layout not in VIDEOS or missing not in ("error", "list"):
        raise ValueError(
            f"expected a layout of {', '.join(VIDEOS)}; missing: error or list; got {layout!r}, {missing!r}"
        )
    videos, splits, out = Path(videos), Path(splits), Path(out)
    if not videos.is_dir() or not splits.exists():
        raise ManifestError(f"{splits if videos.is_dir() else videos}: there is no such folder")
    refuse_filled(out)
    plan = VIDEOS[layout](splits, classes, only)
    found, lost = _located(plan, Videos(videos))
    refuse_duplicates({name: [entry[:2] for entry in (*found[name], *lost[name])] for name in plan.lists})
    absent = sorted({entry.path for entries in lost.values() for entry in entries})
    if missing == "error":
        refuse_missing(videos, "videos", absent, len({one.path for entries in plan.lists.values() for one in entries}))
    if empty := [name for name in plan.lists if not found[name]]:
        raise ManifestError(f"{videos}: no video of {listed(empty)} is there; leave these out with `only`")
    names = [name for _, name in plan.classes]
    counts = {
        name: statistics("videos", [names[entry.label] for entry in found[name]], len(lost[name]), names)
        for name in plan.lists
    }
    report: VideosReport = {
        "layout": layout,
        "videos": os.path.abspath(videos),
        "splits": str(splits),
        "classes": names,
        "lists": counts,
        "missing": absent,
        "notes": plan.notes,
    }
    texts = _lists(plan, found, lost) | {"report.json": json.dumps(report, indent=1, ensure_ascii=False) + "\n"}
    write_folder(out, texts)
    return report


def _lists(plan: Plan, found: Mapping[str, list[Entry]], lost: Mapping[str, list[Entry]]) -> dict[str, str]:
    """The text of every list, of classes.csv, and of missing.csv where a video is missing, by file name."""
    texts = {f"{name}.txt": _manifest(entries) for name, entries in found.items()}
    names = [name for _, name in plan.classes]
    numbered = all(identifier == name or identifier.isdigit() for identifier, name in plan.classes)
    texts["classes.csv"] = csv_text(("id", "name"), enumerate(names) if numbered else plan.classes)
    rows = [(entry.path, names[entry.label], name) for name, entries in lost.items() for entry in entries]
    return texts | ({"missing.csv": csv_text(("path", "label", "split"), rows)} if rows else {})


def prepared_videos(manifest: Path | str) -> Path | None:
    """The folder of videos that the report beside a list names, if it is still there; None where there is no report.

    Raises ManifestError for a report.json of something else.
    """
    report = Path(manifest).with_name("report.json")
    if not report.is_file():
        return None
    try:
        videos = Path(json.loads(report.read_text(encoding="utf-8"))["videos"])
    except (ValueError, KeyError, TypeError):
        raise ManifestError(f"{report}: not a report of mote data prepare; say where the videos are") from None
    return videos if videos.is_dir() else None


def summary(report: VideosReport) -> str:
    """A report of `prepare` in a few lines."""
    lines = [f"{report['layout']}: {len(report['classes'])} classes"]
    for name, one in report["lists"].items():
        counts = [count for count in one["per_class"].values() if count]
        line = f"  {name}: {one.get('videos')} videos, {min(counts)} to {max(counts)} per class"
        line += f", {one['missing']} missing" if one["missing"] else ""
        lines.append(line + (f", no video of {listed(one['empty_classes'], 5)}" if one["empty_classes"] else ""))
    return "\n".join([*lines, *(f"  {note}" for note in report["notes"])])


class Videos:
    """The video files below a folder, linked folders included; looked up by published path."""

    def __init__(self, root: Path):
        self.root = root
        self._named: dict[str, list[str]] = defaultdict(list)  # file name without suffix -> relative paths
        seen = set()
        for folder, inner, files in os.walk(root, followlinks=True):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            if (place := os.path.realpath(folder)) in seen:  # a link to a folder already visited
                inner.clear()
                continue
            seen.add(place)
            base = PurePosixPath(Path(folder).relative_to(root).as_posix())
            for name in sorted(files):
                if Path(name).suffix.lower() not in VIDEO_SUFFIXES or name.startswith("."):
                    continue
                if os.path.isfile(os.path.join(folder, name)):  # a link to nothing is a missing video
                    self._named[_stem(name)].append(str(base / name))

    def find(self, path: str) -> str | None:
        """Relative path of the video published as `path`, None if it is missing; ManifestError if it is there twice."""
        same = self._named.get(_stem(PurePosixPath(path).name), [])
        if path in same:
            return path
        near = [
            one for one in same if letters(PurePosixPath(one).parent.name) == letters(PurePosixPath(path).parent.name)
        ]
        near = near or same
        if len(near) > 1:
            raise ManifestError(f"{self.root}: {path} is there more than once: {listed(near)}; keep one")
        return near[0] if near else None


def _stem(name: str) -> str:
    """File name without a video suffix; dots elsewhere stay (`vs._2`)."""
    return name[: -len(suffix)] if (suffix := Path(name).suffix).lower() in VIDEO_SUFFIXES else name


def _located(plan: Plan, videos: Videos) -> tuple[dict[str, list[Entry]], dict[str, list[Entry]]]:
    """Entries of every list that are on disk, with their paths there, and those that are not."""
    labels: dict[str, set[int]] = defaultdict(set)
    for label, pair in enumerate(plan.classes):
        for name in pair:
            labels[letters(name)].add(label)
    found, lost = {}, {}
    for name, entries in plan.lists.items():
        found[name], lost[name] = [], []
        for entry in entries:
            path = videos.find(entry.path)
            for one in (entry.path, path or entry.path):
                folder = PurePosixPath(one).parent.name
                if entry.label not in labels.get(letters(folder), {entry.label}):
                    right = sorted(labels[letters(folder)])[0]
                    raise ManifestError(
                        f"{entry.where}: label {entry.label} ({plan.classes[entry.label][1]}), but {one} lies in the"
                        f" folder of class {right} ({plan.classes[right][1]})"
                    )
            (found if path else lost)[name].append(entry._replace(path=path or entry.path))
    return found, lost


def refuse_duplicates(lists: Mapping[str, Sequence[tuple[str, str]]], kind: str = "videos") -> None:
    """No path twice in one list, nor both in the training and in a test list of one split; else ManifestError.

    `lists`: (where it is listed, path) pairs by the name of the list.
    """
    pairs = []
    for name, entries in lists.items():
        first: dict[str, str] = {}
        for where, path in entries:
            if path in first:
                pairs.append(f"{path} ({first[path]} and {where})")
            first.setdefault(path, where)
        part, number = role(name)
        for tests, others in lists.items() if part == "train" else ():
            if role(tests)[0] in ("val", "test") and role(tests)[1] == number:
                pairs += [f"{path} ({first[path]} and {where})" for where, path in others if path in first]
    if pairs:
        raise ManifestError(f"{kind} listed twice: {listed(pairs, 5)}; keep one of each")


def role(name: str) -> tuple[str, str]:
    """(train, val, test or nothing; number of the split or nothing), from the name of a list."""
    part = re.search(r"train|val|test", name)
    number = re.search(r"(?:split|train|val(?:idation)?|test)_?(\d+)", name)
    return part[0] if part else "", number[1] if number else ""


def _manifest(entries: Iterable[Entry]) -> str:
    for entry in entries:
        if (
            entry.path != entry.path.strip()
            or len(entry.path.splitlines()) != 1
            or re.search("[\ud800-\udfff]", entry.path)
        ):
            raise ManifestError(f"{entry.where}: {entry.path!r} cannot be written in a list; rename the file")
    return "".join(f"{entry.path} {entry.label}\n" for entry in entries)

"""The lists of a protocol on disk: found, read, and checked before anything is decoded.

A folder as `mote data prepare` leaves it (test1.txt, all.txt, ..., classes.csv, report.json), or list files one by one.
Relative paths in a list start from `root`; without it from the videos that report.json beside the list names, else from
the folder of the list. Where a protocol has no class list of its own, the one beside the list counts:
`test1_classes.csv` or `.txt`, else `classes.csv` or `.txt`; `folder-zs` also takes a folder with a subfolder per class.
"""

from pathlib import Path
from typing import NamedTuple

from mote.config import Config
from mote.datasets.decoding.decord_video import import_decord
from mote.datasets.lists.agreement import (
    check_files,
    check_order,
    in_words,
    repeated,
    shared_paths,
    shared_videos,
    training_list,
)
from mote.datasets.lists.manifest import ManifestError, Record, manifest_classes, read_class_ids, read_class_names
from mote.datasets.lists.reading import Listing, templates
from mote.datasets.prepare.official import listed
from mote.datasets.prepare.videos import prepared_videos
from mote.files.absent import absent
from mote.files.shipped import data_file
from mote.protocols.table import Protocol


class ProtocolList(NamedTuple):
    """One list of a protocol, found on disk and checked."""

    name: str  # test1
    manifest: Path
    root: Path | None
    classes: Path | None  # class file; None: the folder's own names
    records: list[Record]
    departures: list[str]  # what differs from what the protocol expects of the list


def checked_lists(protocol: Protocol, lists: str, root: str | None, config: Config) -> list[ProtocolList]:
    """`find_lists`, and a look for the files: all must be there, or with `bad_videos=count_wrong` some.

    Raises:
        ValueError: as `find_lists` (ManifestError), or the package that decodes by the protocol is not installed.
    """
    if protocol.decoder is not None:
        try:
            import_decord(protocol.decoder)
        except ValueError:
            wanted = "reads frames with decord, which is not installed: pip install decord2"
            raise ValueError(f"{protocol.identifier} {wanted}") from None
    found = find_lists(protocol, lists, root)
    for one in found:
        check_files(one.manifest, one.records, "--root", some=config.evaluation.bad_videos == "count_wrong")
    return found


def find_lists(protocol: Protocol, lists: str, root: str | None = None) -> list[ProtocolList]:
    """All lists of a protocol.

    Args:
        protocol: `declared`, if it has variants.
        lists: a folder, or as many list files as the protocol has, separated by commas, in its order.
        root: what relative paths in the lists start from; see the top of this file.

    Raises:
        ManifestError: a missing file, another order of classes than the protocol's, labels that the folders of the
            videos contradict, a video that is listed twice or also in the training list of the same split.
    """
    folder = Path(lists)
    if protocol.name == "folder-zs" and folder.is_dir() and not (folder / protocol.lists[0]).exists():
        return [_checked(protocol, 0, folder, None, None)]
    files = [Path(part) for part in lists.split(",")]
    if folder.is_dir():
        files = [folder / name for name in protocol.lists]
    elif len(files) == 1 and not files[0].exists():
        wanted = f"{protocol.identifier} needs {', '.join(protocol.lists)}, which mote data prepare makes"
        raise ManifestError(f"{absent(lists)}; {wanted}")
    if len(files) != len(protocol.lists):
        raise ManifestError(
            f"{lists}: {protocol.identifier} has {len(protocol.lists)} lists ({', '.join(protocol.lists)}), got "
            f"{len(files)}; name their folder, or all of them with commas between them"
        )
    if missing := [str(file) for file in files if not file.is_file()]:
        wanted = f"{protocol.identifier} needs {', '.join(protocol.lists)}"
        raise ManifestError(f"{wanted}; there is no {listed(missing)}; make the lists with mote data prepare")
    return [_checked(protocol, n, file, _class_file(protocol, n, file), root) for n, file in enumerate(files)]


def check_settings(protocol: Protocol, named: set[str], config: Config) -> None:
    """Raise ValueError when a setting that the user named contradicts the protocol; settings of the run do not count.

    named: `section.key` of the settings in the user's files and overrides.
    """
    wrong = []
    for key, value in protocol.settings().items():
        section, _, name = key.partition(".")
        own = getattr(getattr(config, section), name)
        if key in named and own != value:
            wrong.append(f"{key}={own} (the protocol: {value})")
    settings = config.evaluation
    files = {"manifest": "--lists", "root": "--root", "split": "--lists"}
    wrong += [f"evaluation.{key} (give {flag})" for key, flag in files.items() if f"evaluation.{key}" in named]
    if "evaluation.templates" in named and settings.templates is not None:
        shipped = data_file(protocol.templates)
        if templates(settings.templates) != templates(str(shipped)):
            wrong.append(f"evaluation.templates={settings.templates} (the protocol: {protocol.templates})")
    if "evaluation.classes" in named and settings.classes is not None:
        if not protocol.classes:
            wrong.append("evaluation.classes (put the class file beside the list)")
        for shipped in map(data_file, protocol.classes):
            check_order(read_class_names(settings.classes), read_class_names(shipped), settings.classes, shipped)
    if wrong:
        raise ValueError(f"{protocol.identifier} is contradicted by {', '.join(wrong)}; leave these out")


def _class_file(protocol: Protocol, number: int, manifest: Path) -> Path:
    """The protocol's class file, with which one beside the list must agree; else the one beside the list."""
    places = [manifest.with_name(f"{manifest.stem}_classes{suffix}") for suffix in (".csv", ".txt")]
    places += [manifest.with_name(name) for name in ("classes.csv", "classes.txt")]
    beside = next((place for place in places if place.is_file()), None)
    if not protocol.classes:
        if beside is None:
            wanted = ", ".join(place.name for place in places)
            raise ManifestError(f"{manifest}: no class file beside it; expected one of {wanted}")
        return beside
    shipped = data_file(protocol.classes[number % len(protocol.classes)])
    if beside is not None:
        ids = read_class_ids(shipped) or ()
        check_order(read_class_names(beside), read_class_names(shipped), beside, shipped, ids)
    return shipped


def _checked(protocol: Protocol, number: int, manifest: Path, classes: Path | None, root: str | None) -> ProtocolList:
    names = manifest_classes(manifest) if classes is None else read_class_names(classes)
    base = Path(root) if root is not None else prepared_videos(manifest)
    listing = Listing(manifest, base, protocol.split, classes)
    records = listing.records(names)
    departures = []
    if twice := repeated(records):
        raise ManifestError(f"{manifest}: videos listed twice: {listed(twice, 3)}; keep one of each")
    if (other := manifest if protocol.split else training_list(manifest)) is not None:
        training = listing._replace(manifest=other, split="train" if protocol.split else None).records(names)
        if both := shared_paths(training, records):
            raise ManifestError(f"{manifest}: {len(both)} of its videos are also in {other}: {listed(both, 3)}")
        if pairs := shared_videos(training, records):
            departures.append(
                f"{manifest}: {len(pairs)} videos have a twin of equal content in {other}: {in_words(pairs)}"
            )
    if protocol.num_classes not in (None, len(names)):
        departures.append(f"{classes}: {len(names)} classes, the protocol expects {protocol.num_classes}")
    if protocol.videos and len(records) != protocol.videos[number]:
        departures.append(f"{manifest}: {len(records)} videos, the protocol expects {protocol.videos[number]}")
    return ProtocolList(Path(protocol.lists[number]).stem, manifest, base, classes, records, departures)

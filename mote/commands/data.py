"""`mote data prepare|verify|overlap|few-shot|split|shard`."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from mote.commands.meant import choice_error
from mote.commands.verbs import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verbs."""
    from mote.datasets.prepare.layouts import FACES, VIDEOS  # light

    parser = add_verb(
        verbs,
        "data",
        _verbs,
        "prepare, verify, compare, cut and pack lists of videos",
        writes="see the verbs",
        examples=(
            "mote data split train.csv --out lists",
            "mote data prepare ucf101 --videos UCF-101 --splits ucfTrainTestlist --out lists/ucf101",
        ),
    )
    inner = parser.add_subparsers(metavar="VERB")
    _add_prepare(inner, VIDEOS, FACES)
    _add_checks(inner)
    _add_lists(inner)


def _add_prepare(inner: Verbs, videos: Iterable[str], faces_of: Iterable[str]) -> None:
    """Official splits; `videos`, `faces_of`: names of the layouts."""
    prepare = add_verb(
        inner,
        "prepare",
        _prepare,
        "official split files -> manifests and a class file, all or nothing",
        writes="--out: the lists of every split, classes.csv, and a report of what was found",
        examples=("mote data prepare ucf101 --videos UCF-101 --splits ucfTrainTestlist --out lists/ucf101",),
    )
    prepare.add_argument("layout", help=f"{', '.join(videos)}; expressions: {', '.join(faces_of)}")
    prepare.add_argument("--videos", "--images", dest="videos", help="folder of the videos or images")
    prepare.add_argument("--splits", help="folder of the official split or label files (expressions: default --videos)")
    prepare.add_argument("--out", required=True, help="new folder for the manifests")
    prepare.add_argument("--classes", help="class file to bind labels by (default: ours, where there is one)")
    prepare.add_argument("--missing", choices=("error", "list"), default="error", help="videos that are not there")
    prepare.add_argument("--only", help="comma-separated splits, such as val,test1; not for expressions")
    faces = prepare.add_argument_group("expressions")
    faces.add_argument("--drop", help="comma-separated classes to leave out, such as contempt")
    faces.add_argument("--validation", type=float, help="share of training where there is no such part (default: 0.1)")
    faces.add_argument("--seed", type=int, help="of that draw (default: 0)")
    faces.add_argument("--votes", help="ferplus: argmax (default), emotions, unique or majority")


def _add_checks(inner: Verbs) -> None:
    verify = add_verb(
        inner,
        "verify",
        _verify,
        "decode first, middle and last frame of every file of a list",
        writes="nothing but what --out names",
        examples=(
            "mote data verify train.csv",
            "mote data verify train.csv --out unreadable.txt --workers 8",
        ),
    )
    verify.add_argument("manifest", help="list of videos, or a folder with one folder per class")
    verify.add_argument("--root", help="what relative paths start from (default: as prepared, else the list's folder)")
    verify.add_argument("--classes", help="class file, for lists with names as labels")
    verify.add_argument("--workers", type=int, default=2, help="processes that decode (default: %(default)s)")
    verify.add_argument("--timeout", type=float, default=60.0, help="seconds for one file (default: %(default)s)")
    verify.add_argument("--out", help="write `file<TAB>cause` lines of the unreadable ones here")
    overlap = add_verb(
        inner,
        "overlap",
        _overlap,
        "class names of B that occur in A, literally or nearly",
        writes="nothing",
        examples=("mote data overlap kinetics400.txt my_classes.txt",),
    )
    overlap.add_argument("a", help="class file, such as that of the training set")
    overlap.add_argument("b", help="class file, such as that of the zero-shot test set")


def _add_lists(inner: Verbs) -> None:
    shots = add_verb(
        inner,
        "few-shot",
        _few_shot,
        "K clips of every class, drawn by a seed and stored as a list",
        writes="the list that --out names, and a .json file beside it that says how it was drawn",
        examples=("mote data few-shot train.csv --shots 4 --out few.csv",),
    )
    shots.add_argument("manifest", help="training list")
    shots.add_argument("--shots", type=int, required=True, help="K, clips of every class")
    shots.add_argument("--repeat", action="store_true", help="repeat the clips to the length of the training list")
    shots.add_argument("--classes", help="class file: every class of it must have K clips")
    shots.add_argument("--allow-fewer", action="store_true", help="take what there is where a class has less than K")
    part = add_verb(
        inner,
        "split",
        _split,
        "training list -> training and validation list, by source where names tell",
        writes="train and val lists in the folder --out, each with a .json file that says how it was drawn",
        examples=("mote data split all.csv --fraction 0.2 --out lists",),
    )
    part.add_argument("manifest", help="training list")
    part.add_argument("--fraction", type=float, default=0.1, help="share of validation (default: %(default)s)")
    shard = add_verb(
        inner,
        "shard",
        _shard,
        "the files of a list, as they are, in few tar archives, and a list of them",
        writes="--out: 00000.tar, 00001.tar, ... and list.csv, which data.train takes",
        examples=("mote data shard train.csv --out shards --size 2",),
    )
    shard.add_argument("manifest", help="list of videos, or a folder with one folder per class")
    shard.add_argument("--root", help="what relative paths start from (default: as prepared, else the list's folder)")
    shard.add_argument("--select", help="value of the .csv list's split column to keep")
    shard.add_argument("--size", type=float, default=1.0, help="GB of an archive (default: %(default)s)")
    shard.add_argument("--out", required=True, help="new folder: 00000.tar, ... and list.csv to train with")
    for drawn, out in ((shots, "new list; FILE.json beside it"), (part, "new lists: train and val below this folder")):
        drawn.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
        drawn.add_argument("--select", help="value of the .csv list's split column to keep")
        drawn.add_argument("--out", required=True, help=out)


def _verbs(arguments: argparse.Namespace) -> int:
    """`mote data` alone: its help."""
    arguments.parser.print_help()
    return 0


def _prepare(arguments: argparse.Namespace) -> int:
    from mote.datasets.lists.manifest import read_class_ids, read_class_names
    from mote.datasets.prepare.layouts import FACES, VIDEOS
    from mote.datasets.prepare.videos import prepare, summary
    from mote.files.shipped import data_file

    if arguments.layout in FACES:
        return _prepare_faces(arguments)
    if arguments.layout not in VIDEOS:
        raise ValueError(choice_error("layout", arguments.layout, [*VIDEOS, *FACES]))
    if given := [name for name in ("drop", "validation", "seed", "votes") if getattr(arguments, name) is not None]:
        raise ValueError(f"--{given[0]} is for expressions ({', '.join(FACES)}), not for {arguments.layout}")
    if not arguments.videos or not arguments.splits:
        raise ValueError(f"{arguments.layout} needs --videos and --splits")

    shipped = {"ucf101": "classes/ucf101.csv", "hmdb51": "classes/hmdb51.csv", "kinetics400": "classes/kinetics400.txt"}
    file = arguments.classes or (data_file(shipped[arguments.layout]) if arguments.layout in shipped else None)
    names = read_class_names(file) if file else []
    classes = list(zip(read_class_ids(file) or names, names, strict=True)) if file else None
    report = prepare(
        arguments.layout,
        videos=arguments.videos,
        splits=arguments.splits,
        out=arguments.out,
        missing=arguments.missing,
        classes=classes,
        only=arguments.only.split(",") if arguments.only else None,
    )
    print(summary(report))
    return 0


def _prepare_faces(arguments: argparse.Namespace) -> int:
    from mote.datasets.lists.manifest import read_class_names
    from mote.datasets.prepare.expression_lists import FaceOptions, prepare_faces, summary

    if arguments.only:
        raise ValueError("--only is not for expressions; choose from the list's column split instead")
    if not (arguments.splits or arguments.videos):
        raise ValueError(f"{arguments.layout} needs --images, --splits or both")
    report = prepare_faces(
        arguments.layout,
        labels=arguments.splits or arguments.videos,
        files=arguments.videos,
        out=arguments.out,
        missing=arguments.missing,
        options=FaceOptions(
            classes=read_class_names(arguments.classes) if arguments.classes else None,
            drop=arguments.drop.split(",") if arguments.drop else (),
            validation=0.1 if arguments.validation is None else arguments.validation,
            seed=arguments.seed or 0,
            votes=arguments.votes,
        ),
    )
    print(summary(report))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from mote.datasets.lists.manifest import ManifestError
    from mote.datasets.lists.reading import Listing
    from mote.datasets.lists.verify import verify, write_unreadable
    from mote.datasets.prepare.videos import prepared_videos

    root = arguments.root or prepared_videos(arguments.manifest)
    listing = Listing(arguments.manifest, root, classes=arguments.classes)
    try:
        names = listing.names()
    except ManifestError:
        if arguments.classes:
            raise
        names = None  # a list of numbers needs no names
    report = verify(listing.records(names), arguments.workers, timeout=arguments.timeout)
    for path, cause in report.unreadable:
        print(f"{path}: {cause}")
    print(f"mote: {report.num_files - len(report.unreadable)} of {report.num_files} files can be read", file=sys.stderr)
    if arguments.out:
        write_unreadable(Path(arguments.out), report)
    return int(bool(report.unreadable))


def _overlap(arguments: argparse.Namespace) -> int:
    from mote.datasets.lists.manifest import read_class_names
    from mote.datasets.lists.overlap import overlap

    matches = overlap(read_class_names(arguments.a), read_class_names(arguments.b))
    for match in matches:
        print(f"{match.b_name}\t{match.a_name}\t{match.kind}")
    print(f"mote: {len(matches)} class names of {arguments.b} occur in {arguments.a}", file=sys.stderr)
    return 0


def _few_shot(arguments: argparse.Namespace) -> int:
    from mote.datasets.lists.manifest import read_class_ids, read_class_names
    from mote.datasets.lists.subsets import few_shot, read_clips, repeated, write_rows

    clips = read_clips(arguments.manifest, select=arguments.select)
    names = None
    if arguments.classes:
        known = read_class_names(arguments.classes)
        written = {clip.label for clip in clips}  # numbers, names, or the dataset's own names of the classes
        keys = next(
            (keys for keys in ([str(i) for i in range(len(known))], read_class_ids(arguments.classes) or [], known)
             if written <= set(keys)),
            None,
        )  # fmt: skip
        if keys is None:
            raise ValueError(f"{arguments.manifest}: its labels are not those of {arguments.classes}")
        names = dict(zip(keys, known, strict=True))
    chosen = few_shot(clips, arguments.shots, arguments.seed, names=names, allow_fewer=arguments.allow_fewer)
    written_rows = repeated(chosen, len(clips)) if arguments.repeat else chosen
    facts = {"draw": "few-shot", "shots": arguments.shots, "seed": arguments.seed, "repeated": arguments.repeat}
    facts["classes"] = len({clip.label for clip in chosen})
    write_rows({Path(arguments.out): (written_rows, facts)}, Path(arguments.manifest))
    print(f"{arguments.out}: {len(chosen)} clips of {facts['classes']} classes, {len(written_rows)} rows")
    _say_root(arguments.manifest, Path(arguments.out))
    return 0


def _split(arguments: argparse.Namespace) -> int:
    from mote.datasets.lists.subsets import read_clips, source_of, split, write_rows

    clips = read_clips(arguments.manifest, select=arguments.select)
    training, validation = split(clips, arguments.fraction, arguments.seed)
    listed = Path(arguments.manifest)
    suffix = ".csv" if listed.is_dir() else listed.suffix
    facts = {"draw": "split", "fraction": arguments.fraction, "seed": arguments.seed}
    facts["by_source"] = sum(source_of(clip.path) != clip.path for clip in clips)
    missing = sorted({clip.label for clip in clips} - {clip.label for clip in validation})
    facts["classes_without_validation"] = missing
    parts = {"train": training, "val": validation}
    lists = {Path(arguments.out) / f"{name}{suffix}": (rows, {**facts, "part": name}) for name, rows in parts.items()}
    write_rows(lists, listed)
    sources = f"{facts['by_source']} of {len(clips)} clips name their source"
    print(f"{arguments.out}: {len(training)} clips to train, {len(validation)} to validate; {sources}")
    if missing:
        print(f"mote: warning: no validation clip of {', '.join(missing[:10])}: one source each", file=sys.stderr)
    _say_root(arguments.manifest, Path(arguments.out) / "train")
    return 0


def _shard(arguments: argparse.Namespace) -> int:
    from mote.datasets.decoding.tar_shards import LIST, write_shards
    from mote.datasets.lists.manifest import read_rows
    from mote.datasets.prepare.videos import prepared_videos

    listed = Path(arguments.manifest)
    if not arguments.size > 0:
        raise ValueError(f"--size must be above 0, got {arguments.size}")
    own = listed if listed.is_dir() else listed.parent
    base = Path(arguments.root or prepared_videos(listed) or own)
    found = write_shards(
        read_rows(listed, base, arguments.select), base, Path(arguments.out), int(arguments.size * 10**9)
    )
    size = f"{found['bytes'] / 10**9:.3g} GB"
    print(f"{arguments.out}: {found['videos']} videos, {size}, in {found['shards']} archives")
    print(f"train with data.train={Path(arguments.out) / LIST}, and data.shuffle_shards=N to read few at a time")
    return 0


def _say_root(manifest: str, file: Path) -> None:
    """Where relative paths start is not the new list's own folder unless it lies beside the old one."""
    folder = Path(manifest) if Path(manifest).is_dir() else Path(manifest).parent
    if file.parent.resolve() != folder.resolve():
        print(f"paths are as in {manifest}: train with the same data.root, or data.root={folder} where there was none")

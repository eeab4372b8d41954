"""Which videos (or images) a user means by files, folders, lists, archives and addresses, found before anything slow.

An input is a path, or an address as text; it is what `open_video` takes. In a list (.txt: one a line; .csv: a column
`path`) relative paths start at the list's own folder, on the standard input (`-`) at the working folder. There, names
may also be ended by zeros, as `find -print0` writes them. Bytes of names that are no UTF-8 are kept.
"""

import csv
import io
import os
import stat
import sys
import tarfile
import warnings
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from mote.datasets.decoding.tar_shards import part_of
from mote.datasets.lists.folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES, find_clips, say_left_out, search
from mote.datasets.lists.text import is_integer
from mote.files.absent import near
from mote.files.addresses import scheme, without_secrets
from mote.files.names import plain

Source = Path | str  # a path, or an address as text

STDIN = "-"
LISTS = {".csv", ".txt"}
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar")
CERTAIN = VIDEO_SUFFIXES | IMAGE_SUFFIXES  # of files that hold no others


def find_sources(places: Sequence[Source], kind: str = "video") -> list[Source]:
    """Inputs of the `kind`, video or image, in the order of `places` and each once, which is said.

    Places are files, folders, which are searched (without videos: for folders of frames), lists, `-` for a list on the
    standard input, .tar archives, addresses, and folders of buckets (`s3://bucket/folder/`). Addresses and archives are
    for videos. What is no video in a folder or an archive is left out, with a word; hidden files without one.

    Raises:
        FileNotFoundError: a place or file of a list that does not exist, or a place without such files.
        ValueError: a list or archive that cannot be read, or a package that an address needs is missing.
    """
    found: dict[Hashable, Source] = {}
    again: list[Source] = []
    kinds: set[str] = set()
    seen: set[Source] = set()
    for place in places:
        if place in seen:  # the standard input can be read only once
            again.append(place)
            continue
        seen.add(place)
        for source in _within(place, kind):
            address = scheme(source)
            if address and address not in kinds:
                _check_address(source, address, kind)
                kinds.add(address)
            if found.setdefault(_key(source), source) is not source:
                again.append(source)
    if again:
        what = f"{len(again)} more than once among the inputs, such as {without_secrets(again[0])}"
        warnings.warn(f"{what}; each is answered once", stacklevel=2)
    return list(found.values())


def _key(source: Source) -> Hashable:
    """What is equal for two ways of naming the same input."""
    part = part_of(source)
    if isinstance(source, str) and scheme(source):
        return source
    return os.path.abspath(source) if part is None else (os.path.abspath(part.archive), *part[1:])


def _within(place: Source, kind: str) -> Iterator[Source]:
    """The inputs that a place stands for."""
    if scheme(place) is not None:
        yield from _at_address(str(place), kind)
    elif place == STDIN:
        yield from _listed(STDIN, sys.stdin.buffer.read(), Path(), kind)
    elif (path := Path(place)).suffix.lower() in LISTS and path.is_file():
        yield from _listed(path, path.read_bytes(), path.parent, kind)
    else:
        if not path.exists() and not _is_part(path, {}):
            what = "this link leads to nothing" if path.is_symlink() else f"no such {kind} file or folder{near(path)}"
            raise FileNotFoundError(f"{path}: {what}")
        yield from _files(path, kind)


def _files(path: Path, kind: str) -> Sequence[Source]:
    """A file itself, the files in a folder, or the videos in an archive; FileNotFoundError where there is none."""
    if path.is_dir():
        inside = find_clips(path) if kind == "video" else _images(path)
        if not inside:
            suffixes = VIDEO_SUFFIXES if kind == "video" else IMAGE_SUFFIXES
            raise FileNotFoundError(f"{path}: no {kind} in this folder; looked for {' '.join(sorted(suffixes))}")
        return inside
    if path.name.lower().endswith(PACKED):
        raise ValueError(f"{path}: a compressed archive; unpack it, or pack its videos as .tar")
    if path.suffix.lower() != ".tar" or not path.is_file():
        return [path]
    if kind != "video":
        raise ValueError(f"{path}: images are not read from archives; unpack it")
    with path.open("rb") as file:
        return [Path(name) for name in _members(str(path), file, os.path.getsize(path))]


def _images(folder: Path) -> list[Path]:
    files, left_out = search(folder, IMAGE_SUFFIXES)
    say_left_out(folder, left_out, "images")
    return files


def _members(archive: str, file: IO[bytes] | io.RawIOBase, size: int) -> list[str]:
    """Places of the videos in an archive that is not compressed, as `tar_shards` writes them, in its order."""
    found, left_out, end = {}, [], 0
    shown = without_secrets(archive)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                end = member.offset_data + (member.size if member.isreg() else 0)
                parts = [part for part in PurePosixPath(member.name).parts if part not in ("/", "..", ".")]
                if not member.isreg() or any(part.startswith(".") for part in parts):
                    continue
                if PurePosixPath(member.name).suffix.lower() in VIDEO_SUFFIXES and member.sparse is None:
                    found[member.name] = f"{archive}/@{member.offset_data}+{member.size}/{'/'.join(parts)}"
                else:
                    left_out.append(Path(*parts))
            file.seek(tar.offset)
            end = size + 1 if any(file.read(tarfile.BLOCKSIZE)) else end  # an archive ends with zeros
    except tarfile.TarError as error:
        if not end:  # not even one member
            raise ValueError(f"{shown}: not an archive that can be read ({error}); pack it again as .tar") from None
        end = size + 1
    if end > size:
        raise ValueError(f"{shown}: the archive is cut off; copy it again")
    if not found:
        raise FileNotFoundError(f"{shown}: no video in this archive; looked for {' '.join(sorted(VIDEO_SUFFIXES))}")
    labels = [path for path in left_out if path.suffix != ".cls"]  # which WebDataset keeps beside each video
    if labels:
        text = f"{shown}: {len(labels)} left out, which are no videos; such as {labels[0]}"
        warnings.warn(text, stacklevel=2)
    return list(found.values())


def _check_address(source: Source, address: str, kind: str) -> None:
    """Raise ValueError where addresses of this sort cannot be read here."""
    from mote.datasets.decoding.addresses import LIVE, check_installed  # here, since lists of files need no fsspec

    if kind != "video":
        raise ValueError(f"{without_secrets(source)}: images are read from files only; copy it here")
    if address not in LIVE:
        check_installed(address)


def _at_address(address: str, kind: str) -> Sequence[Source]:
    """The address itself, what lies in a folder of a bucket, or the videos in an archive."""
    from mote.datasets.decoding.addresses import LIVE, find_files
    from mote.datasets.decoding.remote import RemoteFile, suffix_name

    sort = scheme(address) or ""
    _check_address(address, sort, kind)
    shown, suffix = without_secrets(address), PurePosixPath(suffix_name(address)).suffix.lower()
    if sort in LIVE or part_of(address) is not None:
        return [address]
    if suffix in LISTS:
        raise ValueError(f"{shown}: lists are read from files; copy it here, or pipe it into mote and give - for it")
    if suffix == ".tar":
        if not address.endswith(".tar"):
            raise ValueError(f"{shown}: an archive with ? in its address is not read in parts; copy it here")
        with _named(shown), RemoteFile(address) as file:
            return _members(address, file, file.size)
    if sort in ("http", "https"):
        return [address]
    with _named(shown):
        files = find_files(address)
    if files is None:
        return [address]
    videos = [file for file in files if PurePosixPath(suffix_name(file)).suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        raise FileNotFoundError(f"{shown}: no video in this folder; looked for {' '.join(sorted(VIDEO_SUFFIXES))}")
    if len(videos) < len(files):
        text = f"{shown}: {len(files) - len(videos)} left out, which are no videos by their suffix"
        warnings.warn(text, stacklevel=2)
    return videos


@contextmanager
def _named(shown: str) -> Iterator[None]:
    """Errors of an address say which it is."""
    from mote.datasets.decoding.errors import RemoteError

    try:
        yield
    except RemoteError as error:
        raise RemoteError(f"{shown}: {error}") from None


def _listed(name: Path | str, content: bytes, base: Path, kind: str) -> Iterator[Source]:
    """What the lines of a list stand for; raises for those that lead nowhere, all of them counted."""
    lines = list(_lines(name, content))
    if not lines:
        advice = "; pipe paths into mote, one a line" if name == STDIN else ""
        raise ValueError(f"{name}: it lists no {kind}{advice}")
    sizes: dict[str, int] = {}
    places = [(number, _located(text, base, sizes)) for number, text in lines]
    if gone := [number for number, place in places if place is None]:
        first = dict(lines)[gone[0]]
        what = f"{len(gone)} of {len(lines)} files are not there, such as {first} in line {gone[0]}"
        words = first.rsplit(maxsplit=1)
        labels = len(words) == 2 and is_integer(words[1]) and _located(words[0], base, sizes) is not None
        advice = "a list for mote predict has no labels" if labels else "correct or remove these lines"
        raise FileNotFoundError(f"{name}: {what}; {advice}")
    for number, place in places:
        if isinstance(place, Path) and place.suffix.lower() in LISTS:
            raise ValueError(f"{name}:{number}: a list in a list; give {place} beside it")
        if isinstance(place, Path):
            yield from _files(place, kind) if _may_hold_more(place) else [place]
        elif place is not None:
            yield place if kind == "video" else _at_address(place, kind)[0]


def _may_hold_more(path: Path) -> bool:
    return path.name.lower().endswith((".tar", *PACKED)) or path.suffix.lower() not in CERTAIN


def _located(text: str, base: Path, sizes: dict[str, int]) -> Source | None:
    """The input that a line names; None where there is none. A name may begin or end with blanks."""
    for words in (text, text.strip()):
        if scheme(words) is not None:
            return words
        path = base / words
        if words and (os.path.exists(path) or _is_part(path, sizes)):
            return path
    return None


def _is_part(path: Path, sizes: dict[str, int]) -> bool:
    """Whether a path is that of a video in an archive; `sizes` remembers archives."""
    part = part_of(path)
    if part is None:
        return False
    if part.archive not in sizes:
        try:
            status = os.stat(part.archive)
            sizes[part.archive] = status.st_size if stat.S_ISREG(status.st_mode) else -1
        except OSError:
            sizes[part.archive] = -1
    return part.offset + part.size <= sizes[part.archive]


def _lines(name: Path | str, content: bytes) -> Iterator[tuple[int, str]]:
    """(number, text) of every line that is not blank, of a .csv its column `path`."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{name}: not a text file in UTF-8; convert it")
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    if not str(name).lower().endswith(".csv"):
        lines = text.split("\0" if "\0" in text else "\n")
        yield from ((number, line.removesuffix("\r")) for number, line in enumerate(lines, 1) if line.strip())
        return
    reader = csv.reader(text.splitlines(keepends=True), skipinitialspace=True)
    try:
        columns = [plain(column).casefold() for column in next(reader, [])]
        if columns.count("path") != 1:
            raise ValueError(f"{name}:1: expected a header with one column path, got {','.join(columns)!r}")
        place = columns.index("path")
        for row in reader:
            if row and (len(row) != len(columns) or not row[place].strip()):
                raise ValueError(
                    f"{name}:{reader.line_num}: expected {len(columns)} cells, and a path that is not empty"
                )
            if row:
                yield reader.line_num, row[place]
    except csv.Error as error:
        raise ValueError(f"{name}: not a .csv file: {error}") from error

"""Files and folders that are written whole or not at all, and JSON for result files.

What is written goes to a temporary name in the same folder (see `temporary`), reaches the disk, and is then renamed:
readers, and whoever starts again after a crash, find the old content or the new one. An exception removes the temporary
file or folder; what a killed process left is removed when somebody writes into the same folder again.
"""

import csv
import errno
import io
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from mote.files.locking import locked
from mote.files.temporary import PREFIX, committed_name, is_committed, lock_name, remove_leftovers_once, temporary_name


class WritingError(OSError):
    """A file or folder that cannot be written; the message names it and the cause."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Context in which whatever stops the writing of `path`, such as a full disk, becomes one WritingError.

    That is an OSError, what safetensors (SafetensorError) and torch (RuntimeError) make of one, but no RuntimeError of
    a DataLoader worker, which torch raises wherever the program happens to be. Of nested contexts the outer one names
    what it writes.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if "DataLoader worker" in str(error):
            raise
        cause = error.__cause__ if isinstance(error, WritingError) and error.__cause__ else error
        why = getattr(cause, "strerror", None) or (str(cause).splitlines() or [type(cause).__name__])[0]
        culprit = getattr(cause, "filename", None)
        if culprit is not None and PREFIX not in str(culprit) and str(culprit) != str(path):
            why += f": {culprit}"  # another file, such as one that was to be copied
        raise WritingError(f"{path}: cannot be written: {why}; what was there before is intact") from cause


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Context that gives a temporary path, which becomes the file `path` at the end; missing folders are made.

    The temporary name ends as `path` does, for writers that add or interpret a suffix.

    Raises:
        WritingError: naming `path` and the cause; an older file at `path` is as it was.
    """
    path = Path(path)
    temporary = temporary_name(path)
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers_once(path.parent)
            temporary.touch()
            mode = temporary.stat().st_mode  # what the user's umask gives; safetensors makes files private
            yield temporary
            temporary.chmod(mode)
            _sync(temporary)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


@contextmanager
def replacing_together(folder: Path | str, *, gone: Iterable[str] = ()) -> Iterator[Path]:
    """Context that gives a temporary folder, whose files replace those of their names in `folder`: all or none.

    For files that only make sense together, also in folders within it. The commit is one rename, of the temporary
    folder; a kill while its files are then moved to their places leaves them whole, and `complete` moves the rest.

    gone: files of earlier ones, by their path in `folder`, that are removed just before the commit where the new ones
    lack them: a figure that only some results have would otherwise stay beside numbers that are not its own.

    Raises:
        WritingError: naming the folder and the cause; the older files are as they were.
    """
    folder = Path(folder)
    stage = temporary_name(folder / "x")
    with writing(folder):
        try:
            stage.mkdir(parents=True)
            remove_leftovers_once(folder)
            complete(folder)
            yield stage
            for file in stage.rglob("*"):
                place = folder / file.relative_to(stage)
                if place.exists() and place.is_dir() != file.is_dir():
                    code = errno.EISDIR if place.is_dir() else errno.ENOTDIR
                    raise OSError(code, os.strerror(code), str(place))
                if file.is_file():
                    file.chmod(0o666 & stage.stat().st_mode)  # as of any new file; safetensors makes them private
            _sync_tree(stage)
            for name in gone:
                if not (stage / name).exists():
                    with suppress(FileNotFoundError, NotADirectoryError):
                        (folder / name).unlink()
            os.replace(stage, committed_name(folder))
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        complete(folder)


def complete(folder: Path) -> None:
    """Move files of `replacing_together` to their places, where a kill came between its commit and that.

    Call it before files are read that belong together. Raises WritingError where nothing can be written.
    """
    for commit in sorted(path for path in folder.glob(f"{PREFIX}*") if is_committed(path)):
        with writing(folder):
            _sync_folder(folder)
            inside, folders = [], [commit]
            with suppress(FileNotFoundError):  # another process is at it as well, and has moved everything
                inside = sorted(commit.rglob("*"))
            for file in inside:
                place = folder / file.relative_to(commit)
                if file.is_dir():
                    place.mkdir(exist_ok=True)
                    folders.append(file)
                else:
                    with suppress(FileNotFoundError):
                        os.replace(file, place)
            for made in reversed(folders):
                _sync_folder(folder / made.relative_to(commit))
                with suppress(FileNotFoundError):
                    made.rmdir()
            _sync_folder(folder)


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """Context that gives a temporary folder, which becomes the new folder `path` at the end, with all that is in it.

    Raises:
        FileExistsError: `path` is a file, or a folder that holds something, also where that came about meanwhile.
        InUseError: another process is writing this folder.
        WritingError: naming `path` and the cause.
    """
    path = Path(os.path.abspath(path))  # "." and ".." have no name of their own
    temporary = temporary_name(path)
    refuse_filled(path)
    with ExitStack() as stack:
        with writing(path):
            stack.enter_context(locked(path.parent / lock_name(path.name), path))
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        with writing(path):
            remove_leftovers_once(path.parent)
            temporary.mkdir()
            yield temporary
            _sync_tree(temporary)
        refuse_filled(path)  # again: what somebody put there meanwhile is theirs
        with writing(path):
            os.replace(temporary, path)  # over an empty folder, never over one that holds something
            _sync_folder(path.parent)


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Context in which no other process works on a result, of which `file` is a part; its lock is by the stem.

    Raises:
        InUseError: another process does.
        WritingError: nothing can be written there.
    """
    with ExitStack() as held:
        with writing(file):
            held.enter_context(locked(file.parent / lock_name(file.stem), file))
        yield


def refuse_filled(path: Path | str) -> None:
    """Raise FileExistsError where `path` is a file, or a folder that holds something."""
    path = Path(path)
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        what = "is already there and not empty" if path.is_dir() else "is already there, as a file"
        raise FileExistsError(f"{path}: {what}; remove it or choose another folder")


def write_atomic(path: Path | str, content: str | bytes) -> None:
    """Write `content` (text as UTF-8, line ends as they are) to `path`, whole or not at all; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(_encoded(content))


def write_first(path: Path | str, content: str | bytes) -> None:
    """Write `content` to `path`, whole, unless that is there already: of several processes the first one writes it."""
    path = Path(path)
    temporary = temporary_name(path)
    with writing(path):
        try:
            write_atomic(temporary, content)
            try:
                os.link(temporary, path)
            except OSError:
                if not path.exists():  # no links here: then two can be first in the same moment
                    os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


def write_together(contents: Mapping[Path, str | bytes], *, gone: Sequence[str] = ()) -> None:
    """Write these files: none is put in its place before all are written, and those of one folder appear at once.

    gone: see `replacing_together`, of each folder.

    Raises:
        WritingError: naming all of them and the cause; the older files are as they were.
    """
    with writing(Path(" and ".join(map(str, contents)))), ExitStack() as stack:
        folders = {path.parent for path in contents}
        stages = {folder: stack.enter_context(replacing_together(folder, gone=gone)) for folder in folders}
        for path, content in contents.items():
            (stages[path.parent] / path.name).write_bytes(_encoded(content))


def write_folder(path: Path | str, contents: Mapping[str, str | bytes]) -> None:
    """Write the new folder `path` with these files, by relative path, whole or not at all; see `replacing_folder`."""
    with replacing_folder(path) as temporary:
        for name, content in contents.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(_encoded(content))


def _encoded(content: str | bytes) -> bytes:
    """UTF-8 of a text; paths in it may hold bytes that are not UTF-8, as surrogates."""
    return content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content


def to_json(document: Mapping[str, object]) -> str:
    """Indented JSON with each list of numbers on one line (a 400 x 400 confusion matrix stays readable)."""
    text = json.dumps(_plain(document, "result"), indent=2, allow_nan=False)
    # A raw line break cannot stand inside a JSON string, so this pattern matches only lists.
    return re.sub(r"\[\n\s+([-+\d.eE,\s]+?)\n\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text) + "\n"


def _plain(value: object, where: str) -> object:
    """`value` made of JSON's types; raises ValueError, naming the entry, for what JSON cannot hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError(f"{where} is NaN; a result file holds only numbers that mean something")
        return float(value) if math.isfinite(value) else str(float(value))
    if value is None or isinstance(value, str | int):
        return value
    raise ValueError(f"{where} is a {type(value).__name__}, which JSON cannot hold; pass plain numbers and strings")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A .csv file of these rows."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return file.getvalue()


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_tree(folder: Path) -> None:
    """Make all files and folders below `folder`, and it, reach the disk."""
    inside = list(folder.rglob("*"))
    with ThreadPoolExecutor(16) as pool:  # the waiting of many files is shared
        list(pool.map(_sync, (one for one in inside if one.is_file())))
    for one in (*(one for one in inside if one.is_dir()), folder):
        _sync_folder(one)


def _sync_folder(folder: Path) -> None:
    """Make renames within `folder` last; not every system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

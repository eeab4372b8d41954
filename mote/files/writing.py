"""Files and folders that are written whole or not at all, and JSON for result files.

What is written goes to a temporary name in the same folder (hidden, `.mote-...`), reaches the disk, and is then
renamed: readers, and whoever starts again after a crash, find the old content or the new one. An exception removes the
temporary file or folder; what a killed process left is removed by `remove_leftovers`.
"""

import csv
import io
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

PREFIX = ".mote-"  # of temporary names


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
    temporary = _temporary(path)
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
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
def replacing_folder(path: Path | str, *, replace: bool = False) -> Iterator[Path]:
    """Context that gives a temporary folder, which becomes the folder `path` at the end, with all that is in it.

    With `replace` an older folder is moved aside for the time of one rename, then removed; a kill between the two
    renames leaves both folders, whole, under temporary names.

    Raises:
        FileExistsError: `path` is a file, or a folder that holds something and is not to be replaced.
        WritingError: naming `path` and the cause; an older folder at `path` is as it was.
    """
    path = Path(path)
    if not replace or not path.is_dir():
        refuse_filled(path)
    temporary, old = _temporary(path), _temporary(path)
    with writing(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            inside = list(temporary.rglob("*"))
            with ThreadPoolExecutor(16) as pool:  # the waiting of many files is shared
                list(pool.map(_sync, (one for one in inside if one.is_file())))
            for folder in (*(one for one in inside if one.is_dir()), temporary):
                _sync_folder(folder)
            if path.is_dir() and any(path.iterdir()):
                os.replace(path, old)
            elif path.is_dir():
                path.rmdir()
            try:
                os.replace(temporary, path)
            except BaseException:
                if old.exists():
                    os.replace(old, path)
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)


def refuse_filled(path: Path | str) -> None:
    """Raise FileExistsError where `path` is a file, or a folder that holds something."""
    path = Path(path)
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        what = "is already there and not empty" if path.is_dir() else "is already there, as a file"
        raise FileExistsError(f"{path}: {what}; remove it or choose another folder")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders that a killed process left in `folder`, while nobody writes there."""
    for path in folder.glob(f"{PREFIX}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def write_atomic(path: Path | str, content: str | bytes) -> None:
    """Write `content` (text as UTF-8, line ends as they are) to `path`, whole or not at all; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(_encoded(content))


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


def _temporary(path: Path) -> Path:
    return path.with_name(f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make renames within `folder` last; not every system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""Locks between processes: one at a time on a run directory, a result, a folder that is written; caches are shared.

A lock is a hidden file that is locked with `fcntl`, not one that merely exists: the system frees it when its process
ends, however that ends. It belongs to one process, not to those that it starts (loaders of data, say), and within a
process it may be taken again. Of the processes of one launch the main one takes it for all. Where the file system has
no locks, nothing is locked.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_held: dict[tuple[int, Path], int] = {}  # (process, lock file) -> how often it was taken
_shared: set[tuple[int, int, int]] = set()  # (process, device, inode) of files that are locked until the process ends


class InUseError(ValueError):
    """Something that another process is working on."""


@contextmanager
def locked(file: Path, what: Path | str) -> Iterator[None]:
    """Context in which this process alone holds the lock `file`; its folder is made where it is missing.

    The file, and folders that were made for it and are still empty, are removed at the end.

    Args:
        file: the lock, see `temporary.lock_name`.
        what: what it stands for, in words.

    Raises:
        InUseError: another process holds it.
        OSError: the file cannot be made.
    """
    file = Path(os.path.abspath(file))
    key = os.getpid(), file
    if key in _held:
        _held[key] += 1
        try:
            yield
        finally:
            _held[key] -= 1
        return
    made = [folder for folder in file.parents if not folder.exists()]
    try:
        descriptor = _acquired(file, what)
        _held[key] = 1
        try:
            yield
        finally:
            del _held[key]
            file.unlink(missing_ok=True)  # before it is freed: nobody else can hold it now
            os.close(descriptor)
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def _acquired(file: Path, what: Path | str) -> int:
    """The open descriptor of the locked file."""
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(descriptor, exclusive=True):
                holder = os.read(descriptor, 200).decode(errors="replace").strip()
                raise InUseError(
                    f"{what}: in use by {holder or 'another process'}; wait for it, or choose another name"
                )
            if _is_at(descriptor, file):
                with suppress(OSError):  # a full disk: then it says less
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder has just removed it


def _lock(descriptor: int, *, exclusive: bool) -> bool:
    """Lock an open file without waiting; False where another process has it. True where there are no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.lockf(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks
        pass
    return True


def _is_at(descriptor: int, file: Path) -> bool:
    """Whether the open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


def share(file: Path) -> None:
    """Let other processes see, until this one ends, that `file` is in use by some; see `unshared`.

    Raises InUseError where a process works on it alone.
    """
    with suppress(FileNotFoundError):
        status = file.stat()
        key = os.getpid(), status.st_dev, status.st_ino
        if key not in _shared:
            descriptor = os.open(file, os.O_RDONLY)  # stays open: closing any descriptor of the file would free it
            if not _lock(descriptor, exclusive=False):
                os.close(descriptor)
                raise InUseError(f"{file.parent}: another process is removing it; wait for it, or go without")
            _shared.add(key)


@contextmanager
def unshared(file: Path) -> Iterator[None]:
    """Context in which no other process shares `file`; raises InUseError where one does."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        status = os.fstat(descriptor)
        if not _lock(descriptor, exclusive=True):
            raise InUseError(f"{file.parent}: in use by another process; wait for it")
        yield
    finally:
        _shared.discard((os.getpid(), status.st_dev, status.st_ino))
        os.close(descriptor)

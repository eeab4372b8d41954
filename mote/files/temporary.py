"""Hidden names of this program in folders of the user: of temporary files and folders, commits and locks.

A temporary name says who made it: `.mote-MACHINE-PID-START-TOKEN.SUFFIX`, with hexadecimal MACHINE (of the host's name
and its space of process numbers), START (when the process began) and a random TOKEN. So two processes never share one,
nobody's `.mote-notes` is taken for one of ours, and what a killed process left can be told from what a living one
writes. Versions before this one wrote `.mote-PID-TOKEN.SUFFIX`.
"""

import hashlib
import os
import platform
import re
import secrets
import shutil
from functools import cache
from pathlib import Path

PREFIX = ".mote-"
_TEMPORARY = re.compile(
    r"\.mote-(?:(?P<machine>[0-9a-f]{8})-)?(?P<pid>\d+)-(?:(?P<start>\d+)-)?[0-9a-f]{8}(\..*)?", re.DOTALL
)
_COMMITTED = re.compile(r"\.mote-commit-[0-9a-f]{8}")
_LOCK = re.compile(r"\.mote-lock(-[0-9a-f]{16})?")
_swept: set[tuple[int, Path]] = set()  # folders in which this process has looked for leftovers


def temporary_name(path: Path) -> Path:
    """A new hidden name beside `path`, with its suffix."""
    pid = os.getpid()
    return path.with_name(f"{PREFIX}{_machine()}-{pid}-{_start(pid) or 0}-{secrets.token_hex(4)}{path.suffix}")


def committed_name(folder: Path) -> Path:
    """A new name for a folder of finished files that are to be moved into `folder`."""
    return folder / f"{PREFIX}commit-{secrets.token_hex(4)}"


def is_committed(path: Path) -> bool:
    """Whether `path` is a folder of finished files, see `committed_name`."""
    return _COMMITTED.fullmatch(path.name) is not None and path.is_dir()


def lock_name(name: str = "") -> str:
    """Name of the file to lock in a folder: for one thing in it by name, or for the folder itself."""
    return f"{PREFIX}lock" + (f"-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}" if name else "")


def is_own(name: str) -> bool:
    """Whether a file or folder of this name is one of ours, finished or not, and nothing of the user's."""
    return any(pattern.fullmatch(name) for pattern in (_TEMPORARY, _COMMITTED, _LOCK))


def remove_leftovers(folder: Path, *, of_others: bool = False) -> None:
    """Remove the temporary files and folders that processes left in `folder` which are no more.

    of_others: also those of other machines and of living processes; only for who holds the lock of the folder. What
    cannot be removed stays.
    """
    for path in folder.glob(f"{PREFIX}*"):
        found = _TEMPORARY.fullmatch(path.name)
        if found is None or not (of_others or _is_dead(found["machine"], int(found["pid"]), found["start"])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove_leftovers_once(folder: Path) -> None:
    """`remove_leftovers`, the first time that this process asks for this folder: long lists are read once."""
    key = os.getpid(), Path(os.path.abspath(folder))
    if key not in _swept and folder.is_dir():
        _swept.add(key)
        remove_leftovers(folder)


def _is_dead(machine: str | None, pid: int, start: str | None) -> bool:
    """Whether the process is known to be no more; of other machines nothing is known."""
    if machine not in (None, _machine()):
        return False
    begun = _start(pid)
    return begun is None or (start not in (None, "0") and begun not in ("0", start))


def _start(pid: int) -> str | None:
    """When a process began, in clock ticks since the machine did ("0": unknown); None where there is none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = status.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # ended, but not yet asked about
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:  # of another user
        pass
    return "0"


@cache
def _machine() -> str:
    """Eight hexadecimal digits for the host and the space of process numbers (a container has its own)."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]

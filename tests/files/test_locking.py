"""One process at a time, whatever becomes of the others."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mote.files import locking
from mote.files.locking import InUseError, locked, share, unshared

HOLD = """
import sys
from contextlib import nullcontext
from pathlib import Path
from mote.files.locking import locked, share, unshared
lock = Path(sys.argv[2])
how = {"locked": lambda: locked(lock, "x"), "unshared": lambda: unshared(lock)}
with how.get(sys.argv[1], lambda: nullcontext(share(lock)))():
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(how: str, lock: Path) -> subprocess.Popen:
    """A process that holds a lock until it gets a line."""
    command = [sys.executable, "-c", HOLD, how, str(lock)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_second_process_is_told_who_has_it_and_a_killed_one_has_it_no_more(tmp_path):
    lock = tmp_path / "deep/.lock"
    first = holder("locked", lock)
    refused = pytest.raises(InUseError, match=rf"^the run: in use by process {first.pid} on .*; wait")
    with refused, locked(lock, "the run"):
        pass
    assert lock.exists()  # the refused one leaves it alone
    first.send_signal(signal.SIGKILL)
    first.communicate()
    with locked(lock, "the run"), locked(lock, "again in the same process"):
        assert lock.read_text().startswith(f"process {os.getpid()} ")
    assert not lock.exists() and lock.parent.is_dir()  # whose folder the killed process made


def test_nothing_is_left_and_children_do_not_keep_it(tmp_path):
    lock = tmp_path / "a/b/.lock"
    with locked(lock, "x"):
        child = os.fork()
        if child == 0:
            signal.pause()
    try:
        assert list(tmp_path.iterdir()) == []
        second = holder("locked", lock)
        second.communicate("\n")
        assert second.returncode == 0
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with pytest.raises(KeyError), locked(lock, "x"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_that_is_removed_in_between_is_made_again(tmp_path, monkeypatch):
    lock, real, seen = tmp_path / ".lock", locking._lock, []

    def late(descriptor, *, exclusive):
        if not seen:
            lock.unlink()
        seen.append(descriptor)
        return real(descriptor, exclusive=exclusive)

    monkeypatch.setattr(locking, "_lock", late)
    with locked(lock, "x"):
        assert lock.exists() and len(seen) == 2


def test_shared_by_many_or_for_one_alone(tmp_path):
    file = tmp_path / "marker"
    file.touch()
    sharing = holder("share", file)
    share(file)
    share(file)
    with pytest.raises(InUseError, match=f"{tmp_path}: in use by another process"), unshared(file):
        pass
    sharing.communicate("\n")
    with unshared(file):
        pass
    alone = holder("unshared", file)
    with pytest.raises(InUseError, match="another process is removing it"):
        share(file)
    alone.communicate("\n")
    share(tmp_path / "nothing")


def test_a_file_system_without_locks_locks_nothing(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locking.fcntl, "lockf", none)
    with locked(tmp_path / ".lock", "x"):
        pass
    monkeypatch.setattr(locking, "fcntl", None)
    with locked(tmp_path / ".lock", "x"):
        pass
    assert list(tmp_path.iterdir()) == []

"""Files and folders are written whole or not at all, whatever stops the writer."""

import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mote.files.writing import (
    WritingError,
    refuse_filled,
    remove_leftovers,
    replacing,
    replacing_folder,
    write_atomic,
    write_folder,
    writing,
)

LARGE = 200_000  # bytes, beyond the limit below


@contextmanager
def files_of_at_most(size: int):
    """A limit on the size of files stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


WRITERS = {
    "text": lambda path: path.write_text("x" * LARGE),
    "safetensors": lambda path: save_file({"x": torch.zeros(LARGE)}, path),
    "torch": lambda path: torch.save({"x": torch.zeros(LARGE)}, path),
    "numpy": lambda path: np.savez(path, x=np.zeros(LARGE)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_the_old_file_and_names_it(tmp_path, writer):
    file = tmp_path / "result.npz"
    file.write_bytes(b"old")
    with (
        files_of_at_most(10_000),
        pytest.raises(WritingError, match=r"result\.npz: cannot be written: .*; what was there before is intact") as e,
        replacing(file) as temporary,
    ):
        WRITERS[writer](temporary)
    assert "\n" not in str(e.value) and ".mote-" not in str(e.value)
    assert file.read_bytes() == b"old" and names(tmp_path) == ["result.npz"]
    with replacing(file) as temporary:
        WRITERS[writer](temporary)
    assert file.stat().st_size >= LARGE and names(tmp_path) == ["result.npz"]


def test_a_full_disk_leaves_the_old_folder(tmp_path):
    out = tmp_path / "out"
    write_folder(out, {"a/old.txt": "old"})
    with (
        files_of_at_most(10_000),
        pytest.raises(WritingError, match="out: cannot be written: File too large"),
        replacing_folder(out, replace=True) as temporary,
    ):
        (temporary / "first").write_text("new")
        write_atomic(temporary / "second", "x" * LARGE)
    assert (out / "a/old.txt").read_text() == "old" and names(tmp_path) == ["out"]
    with files_of_at_most(10_000), pytest.raises(WritingError, match="new: cannot be written"):
        write_folder(tmp_path / "new", {"first": "", "second": b"x" * LARGE})
    assert names(tmp_path) == ["out"]


def test_a_disk_that_is_full_indeed(tmp_path):
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path]).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        write_atomic(tmp_path / "file", "old")
        for path, write in (
            (tmp_path / "file", lambda: write_atomic(tmp_path / "file", "x" * LARGE)),
            (tmp_path / "folder", lambda: write_folder(tmp_path / "folder", {"a": "", "b": "x" * LARGE})),
        ):
            with pytest.raises(WritingError, match=f"{path}: cannot be written: No space left on device; "):
                write()
        assert (tmp_path / "file").read_text() == "old" and names(tmp_path) == ["file"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_interrupted_writers_leave_the_old_and_no_temporary(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/old").touch()
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(KeyError), replacing_folder(tmp_path / "folder", replace=True) as temporary:
        (temporary / "half").touch()
        raise KeyError("a fault of the caller stays what it is")
    assert names(tmp_path) == ["file", "folder"] and (tmp_path / "file").read_text() == "old"
    assert names(tmp_path / "folder") == ["old"]


def test_what_a_killed_writer_left_can_be_told_and_removed(tmp_path):
    code = """
import os, signal, sys
from mote.files.writing import replacing, replacing_folder
with replacing(sys.argv[1] + "/file.txt") as one, replacing_folder(sys.argv[1] + "/folder") as other:
    one.write_text("half"); (other / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    (tmp_path / "file.txt").write_text("old")
    (tmp_path / ".own").touch()
    done = subprocess.run([sys.executable, "-c", code, tmp_path])
    assert done.returncode == -signal.SIGKILL and len(names(tmp_path)) == 4
    assert (tmp_path / "file.txt").read_text() == "old"
    assert all(name.startswith(".") for name in names(tmp_path) if name != "file.txt")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".own", "file.txt"]


def test_a_folder_is_replaced_as_a_whole_and_only_if_asked(tmp_path):
    out = tmp_path / "deep/out"
    out.mkdir(parents=True)  # an empty folder may be filled
    write_folder(out, {"a.txt": "ä\n", "b/c": b"\xff"})
    assert (out / "a.txt").read_bytes() == b"\xc3\xa4\n" and (out / "b/c").read_bytes() == b"\xff"
    with pytest.raises(FileExistsError, match="out: is already there and not empty; remove it or"):
        write_folder(out, {})
    with pytest.raises(FileExistsError, match=r"a\.txt: is already there, as a file"), replacing_folder(out / "a.txt"):
        pass
    with pytest.raises(FileExistsError, match="as a file"), replacing_folder(out / "a.txt", replace=True):
        pass
    with replacing_folder(out, replace=True) as temporary:
        assert names(out) == ["a.txt", "b"]
        (temporary / "new").touch()
    assert names(out) == ["new"] and names(tmp_path / "deep") == ["out"]
    refuse_filled(tmp_path / "nothing")


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    out, real = tmp_path / "out", os.replace
    write_folder(out, {"old": ""})

    def refused(source, target):
        if Path(target) == out and (Path(source) / "new").exists():
            raise PermissionError(13, "Permission denied", str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", refused)
    denied = pytest.raises(WritingError, match="out: cannot be written: Permission denied; what")
    with denied, replacing_folder(out, replace=True) as temporary:
        (temporary / "new").touch()
    assert names(out) == ["old"] and names(tmp_path) == ["out"]


def test_the_message_names_another_file_where_that_is_the_cause(tmp_path):
    lost = pytest.raises(WritingError, match="copy: cannot be written: No such file or directory: gone; ")
    with lost, replacing(tmp_path / "copy") as temporary:
        temporary.write_bytes(Path("gone").read_bytes())
    (tmp_path / "file").touch()
    with pytest.raises(WritingError, match=r"below: cannot be written: (Not a directory|File exists)"):
        write_atomic(tmp_path / "file/below", "")
    with pytest.raises(RuntimeError, match="DataLoader worker"), writing(tmp_path):
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")
    full = pytest.raises(
        WritingError, match=r"^outer: cannot be written: no more room; what was there before is intact$"
    )
    with full, writing(Path("outer")), writing(Path("inner")):
        raise OSError("no more room")


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with replacing(tmp_path / "x.safetensors") as temporary:
        save_file({"x": torch.zeros(1)}, temporary)
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode

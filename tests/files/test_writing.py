"""Files and folders are written whole or not at all, whatever stops the writer."""

import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mote.files.patient import PatientFile
from mote.files.temporary import is_own, lock_name, remove_leftovers
from mote.files.writing import (
    WritingError,
    complete,
    refuse_filled,
    replacing,
    replacing_folder,
    replacing_together,
    write_atomic,
    write_first,
    write_folder,
    write_together,
    writing,
)

LARGE = 200_000  # bytes, beyond the limit below


@contextmanager
def files_of_at_most(size: int):
    """A limit on the size of files stands for a full disk. Bytecode of what is imported meanwhile would be cut, too."""
    before, bytecode = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = bytecode


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def patient(path: Path) -> None:
    with PatientFile(path) as file:
        torch.save({"x": torch.zeros(LARGE)}, file)


WRITERS = {
    "text": lambda path: path.write_text("x" * LARGE),
    "safetensors": lambda path: save_file({"x": torch.zeros(LARGE)}, path),
    "torch": lambda path: torch.save({"x": torch.zeros(LARGE)}, path),
    "patient": lambda path: patient(path),
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


def test_a_full_disk_leaves_no_folder(tmp_path):
    with (
        files_of_at_most(10_000),
        pytest.raises(WritingError, match="out: cannot be written: File too large"),
        replacing_folder(tmp_path / "deep/out") as temporary,
    ):
        (temporary / "first").write_text("new")
        write_atomic(temporary / "second", "x" * LARGE)
    assert names(tmp_path) == []  # nor the folder above it, which was made for it
    with files_of_at_most(10_000), pytest.raises(WritingError, match="new: cannot be written"):
        write_folder(tmp_path / "new", {"first": "", "second": b"x" * LARGE})
    assert names(tmp_path) == []


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
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(KeyError), replacing_folder(tmp_path / "folder") as temporary:
        (temporary / "half").touch()
        raise KeyError("a fault of the caller stays what it is")
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


KILLED = """
import os, signal, sys
from mote.files.writing import replacing, replacing_folder, replacing_together
with (
    replacing(sys.argv[1] + "/file.txt") as file, replacing_folder(sys.argv[1] + "/folder") as folder,
    replacing_together(sys.argv[1]) as stage,
):
    file.write_text("half"); (folder / "half").touch(); (stage / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "file.txt").write_text("old")
    own = [".own", ".mote-notes", ".mote-12-notes.txt", ".mote-lock-of-mine", ".x.tmp", "folder.partial"]
    for name in own:
        (tmp_path / name).touch()
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path])
    assert done.returncode == -signal.SIGKILL and (tmp_path / "file.txt").read_text() == "old"
    left = [name for name in names(tmp_path) if is_own(name)]
    assert len(left) == 4 and set(names(tmp_path)) == {*own, "file.txt", *left}  # three writers and a lock
    with replacing(tmp_path / "living") as ours:
        other = tmp_path / f".mote-{'0' * 8}-1-1-{'0' * 8}.txt"  # of another machine: perhaps it is being written
        other.touch()
        remove_leftovers(tmp_path)
        assert ours.exists() and other.exists()
        assert [name for name in left if (tmp_path / name).exists()] == [lock_name("folder")]
    remove_leftovers(tmp_path, of_others=True)
    write_folder(tmp_path / "folder", {})
    assert names(tmp_path) == sorted([*own, "file.txt", "folder", "living"])


def test_leftovers_go_when_somebody_writes_into_the_same_folder(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    (tmp_path / f".mote-{dead.stdout.strip()}-{'a' * 8}.safetensors").touch()  # as earlier versions named them
    (tmp_path / f".mote-{os.getpid()}-{'a' * 8}.csv").touch()
    write_atomic(tmp_path / "new", "")
    assert names(tmp_path) == [f".mote-{os.getpid()}-{'a' * 8}.csv", "new"]


def pair(folder: Path, content: str) -> None:
    with replacing_together(folder) as stage:
        for name in ("a.csv", "a.json"):
            (stage / name).write_text(content)


def test_a_pair_comes_together_or_not_at_all(tmp_path):
    pair(tmp_path, "old")
    why = "cannot be written: File too large; what was there before is intact"
    with files_of_at_most(10_000), pytest.raises(WritingError, match=why), replacing_together(tmp_path) as stage:
        (stage / "a.csv").write_text("new")
        (stage / "a.json").write_text("x" * LARGE)
    (tmp_path / "b.json").mkdir()
    with pytest.raises(WritingError, match=r"Is a directory: .*b\.json"), replacing_together(tmp_path) as stage:
        for name in ("a.csv", "b.json"):
            (stage / name).write_text("new")
    assert names(tmp_path) == ["a.csv", "a.json", "b.json"]
    assert {(tmp_path / name).read_text() for name in ("a.csv", "a.json")} == {"old"}
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.csv").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_the_new_files_lack_goes_when_they_come_and_not_before(tmp_path):
    gone = ("a.svg", "page/a.svg", "a.json/no folder", "never there")
    write_together({tmp_path / name: "old" for name in ("a.json", "a.svg", "page/a.svg", "b.svg")})
    with pytest.raises(KeyError), replacing_together(tmp_path, gone=gone) as stage:
        raise KeyError
    assert {*names(tmp_path), *names(tmp_path / "page")} == {"a.json", "a.svg", "b.svg", "page"}
    with replacing_together(tmp_path, gone=gone) as stage:
        (stage / "a.json").write_text("new")
        (stage / "a.svg").write_text("new")
    assert (tmp_path / "a.svg").read_text() == "new" and names(tmp_path / "page") == []
    with replacing_together(tmp_path, gone=gone) as stage:
        (stage / "a.json").write_text("newer")
    assert names(tmp_path) == ["a.json", "b.svg", "page"]


def test_folders_within_come_with_it_also_where_a_kill_came_after_the_commit(tmp_path, monkeypatch):
    def both(content: str) -> None:
        with replacing_together(tmp_path) as stage:
            write_folder(stage / "best", {"weights": content, "adapters/a": content})
            (stage / "metrics.json").write_text(content)

    both("old")
    (tmp_path / "best" / "other").touch()
    real = os.replace
    for survived in range(1, 4):
        done = []

        def counted(source, target, done=done, survived=survived):
            if (Path(target).parent == tmp_path and Path(target).name.startswith(".mote-commit")) or done:
                done.append(target)
            if len(done) > survived:
                raise KeyboardInterrupt
            real(source, target)

        monkeypatch.setattr(os, "replace", counted)
        with pytest.raises(KeyboardInterrupt):
            both(f"new {survived}")
        monkeypatch.setattr(os, "replace", real)
        complete(tmp_path)
        found = ("best/weights", "best/adapters/a", "metrics.json")
        assert {(tmp_path / name).read_text() for name in found} == {f"new {survived}"}
        assert names(tmp_path) == ["best", "metrics.json"]
        assert names(tmp_path / "best") == ["adapters", "other", "weights"]
    (tmp_path / "x").touch()
    with pytest.raises(WritingError, match=r"Not a directory: .*x"), replacing_together(tmp_path) as stage:
        write_folder(stage / "x", {"a": "b"})
    assert names(tmp_path) == ["best", "metrics.json", "x"]


def test_files_of_two_folders_are_all_written_before_one_is_replaced(tmp_path):
    files = [tmp_path / "a" / "x.csv", tmp_path / "b" / "x.json"]
    write_together(dict.fromkeys(files, "old"))
    with files_of_at_most(10_000), pytest.raises(WritingError, match=r"x\.csv and .*x\.json: cannot be written: File"):
        write_together({files[0]: "new", files[1]: "x" * LARGE})
    assert [file.read_text() for file in files] == ["old", "old"]
    assert names(tmp_path / "a") == ["x.csv"] and names(tmp_path / "b") == ["x.json"]


@pytest.mark.parametrize("survived", range(4))
def test_a_pair_that_was_killed_at_any_rename_is_old_or_new(tmp_path, monkeypatch, survived):
    pair(tmp_path, "old")
    real, done = os.replace, []

    def counted(source, target):
        if len(done) == survived:
            raise KeyboardInterrupt
        done.append(target)
        real(source, target)

    monkeypatch.setattr(os, "replace", counted)
    with nullcontext() if survived == 3 else pytest.raises(KeyboardInterrupt):
        pair(tmp_path, "new")
    monkeypatch.undo()
    complete(tmp_path)
    expected = "new" if survived else "old"  # the first rename is the commit
    assert [(tmp_path / name).read_text() for name in names(tmp_path)] == [expected, expected]


def test_a_folder_is_new_or_empty(tmp_path):
    out = tmp_path / "deep/out"
    out.mkdir(parents=True)  # an empty folder may be filled
    write_folder(out, {"a.txt": "ä\n", "b/c": b"\xff"})
    assert (out / "a.txt").read_bytes() == b"\xc3\xa4\n" and (out / "b/c").read_bytes() == b"\xff"
    with pytest.raises(FileExistsError, match="out: is already there and not empty; remove it or"):
        write_folder(out, {})
    with pytest.raises(FileExistsError, match=r"a\.txt: is already there, as a file"), replacing_folder(out / "a.txt"):
        pass
    assert names(out) == ["a.txt", "b"] and names(tmp_path / "deep") == ["out"]
    refuse_filled(tmp_path / "nothing")


def test_what_came_into_a_folder_while_it_was_written_stays(tmp_path):
    out = tmp_path / "out"
    with (
        pytest.raises(FileExistsError, match="out: is already there and not empty"),
        replacing_folder(out) as temporary,
    ):
        (temporary / "new").touch()
        out.mkdir()
        (out / "notes.txt").touch()
    assert names(out) == ["notes.txt"] and names(tmp_path) == ["out"]


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


@pytest.mark.parametrize("links", [True, False])
def test_the_first_one_writes_and_the_others_leave_it(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.delattr(os, "link")
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no links")), raising=False)
    for text in ("one", "two"):
        write_first(tmp_path / "new" / "file.json", text)
    assert (tmp_path / "new" / "file.json").read_text() == "one" and names(tmp_path / "new") == ["file.json"]
    with pytest.raises(WritingError, match=r"x\.json: cannot be written: Not a directory"):
        write_first(tmp_path / "new" / "file.json" / "x.json", "three")

"""Names of ours and names of the user's. Leftovers of killed processes: see test_writing.py."""

import os
from pathlib import Path

import pytest

from mote.files.temporary import committed_name, is_own, lock_name, remove_leftovers, temporary_name

OTHERS = (".mote-notes", ".mote-", ".mote-1-2", ".mote-x-0123abcd", ".mote-lock-eval", "mote-lock", ".mote-lock.txt")


def test_own_names_are_told_from_others():
    own = [temporary_name(Path("a/x.tar.gz")).name, temporary_name(Path("folder")).name, committed_name(Path()).name]
    own += [lock_name(), lock_name("eval"), f".mote-{os.getpid()}-0123abcd.pt"]
    assert all(map(is_own, own)) and len(set(own)) == len(own) and not any(map(is_own, OTHERS))
    assert temporary_name(Path("a/x.tar.gz")).suffix == ".gz" and temporary_name(Path("x")).suffix == ""
    assert temporary_name(Path("x")) != temporary_name(Path("x"))
    assert len(os.fsencode(lock_name("n" * 250))) < 64  # a name may be as long as the system allows


@pytest.mark.parametrize("of_others", [False, True])
def test_a_link_is_removed_not_what_it_points_to(tmp_path, of_others):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    link = tmp_path / f".mote-{2**22 + 1}-{'a' * 8}"  # no such process
    link.symlink_to(tmp_path / "kept")
    remove_leftovers(tmp_path, of_others=of_others)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"] and (tmp_path / "kept/file").exists()

"""A file whose errors of writing wait until it is closed."""

import errno
from pathlib import Path

import pytest

from mote.files.patient import PatientFile


def test_what_is_written_is_in_the_file(tmp_path):
    with PatientFile(tmp_path / "a") as file:
        assert file.write(b"abcd") == 4 and file.tell() == 4 and file.writable() and file.seekable()
        file.seek(1)
        file.write(b"x")
    assert (tmp_path / "a").read_bytes() == b"axcd"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a file on which every write fails")
def test_the_first_error_comes_when_it_is_closed():
    file = PatientFile(Path("/dev/full"))
    assert file.write(b"x" * 100_000) == 100_000 and file.write(b"y") == 1
    with pytest.raises(OSError) as error:
        file.close()
    assert error.value.errno == errno.ENOSPC and file.closed

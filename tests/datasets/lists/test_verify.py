"""`verify` against files broken in known ways, decoders that hang or crash, and the clips known to be damaged."""

import faulthandler
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from video_files import numbered_frames, write_video

from mote.datasets.decoding.decode import read_frames
from mote.datasets.lists.manifest import Record
from mote.datasets.lists.verify import Report, Unreadable, verify, write_unreadable


def records(*paths: Path) -> list[Record]:
    return [Record(path, 0) for path in paths]


def by_name(path: Path) -> None:
    """A decoder that does what the file's name says."""
    if path.stem == "hang":
        time.sleep(600)
    elif path.stem == "crash":
        faulthandler.disable()  # pytest's, which would print where
        os.abort()
    elif path.stem == "quit":
        os._exit(3)
    elif path.stem == "raise":
        raise MemoryError("no room\nfor this")


def test_broken_files_are_reported_with_their_cause_in_the_order_of_the_list(tmp_path):
    good = write_video(tmp_path / "two words.mp4", numbered_frames(9))
    one = write_video(tmp_path / "one.mp4", numbered_frames(1))
    text, empty, cut = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "cut.mp4"
    text.write_text("no video")
    empty.touch()
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    missing = tmp_path / "missing.mp4"
    report = verify(records(text, good, empty, one, good, cut, missing), workers=2, progress=False)
    assert report.num_files == 6  # `good` is looked at once
    assert [path for path, _ in report.unreadable] == [text, empty, cut, missing]
    causes = {path.stem: cause for path, cause in report.unreadable}
    assert causes["empty"] == "the file is empty" and causes["missing"] == "there is no such file"
    assert all(cause and "\n" not in cause for cause in causes.values())


@pytest.mark.parametrize(("place", "unharmed"), [(0.5, [0, 119]), (0.97, [0, 60])])
def test_damage_that_only_the_middle_or_only_the_last_frame_shows_is_found(tmp_path, place, unharmed):
    whole = write_video(tmp_path / "whole.mp4", numbered_frames(120), gop=10, container={"movflags": "faststart"})
    data = bytearray(whole.read_bytes())  # the index is complete and stands first; pictures follow
    pictures = data.index(b"mdat") + 4
    start = pictures + int(place * (len(data) - pictures)) + 600
    data[start : start + 3000] = bytes(min(3000, len(data) - start))
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    read_frames(damaged, unharmed)  # no error
    report = verify(records(whole, damaged), workers=1, progress=False)
    assert [path for path, _ in report.unreadable] == [damaged]


def test_a_hanging_and_a_crashing_decoder_cost_only_their_own_file(tmp_path):
    names = ["a", "hang", "b", "crash", "c", "raise", "d", "quit", "e"]
    started = time.monotonic()
    report = verify(records(*(tmp_path / name for name in names)), 2, progress=False, timeout=1.0, check=by_name)
    assert time.monotonic() - started < 60  # not 600
    assert report == Report(
        9,
        [
            Unreadable(tmp_path / "hang", "not decoded within 1 s"),
            Unreadable(tmp_path / "crash", "the decoder crashed (exit code -6)"),
            Unreadable(tmp_path / "raise", "MemoryError: no room for this"),
            Unreadable(tmp_path / "quit", "the decoder crashed (exit code 3)"),
        ],
    )
    assert not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()


def test_an_interruption_does_not_wait_for_files_that_hang(tmp_path):
    code = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell that runs the tests does with it
from pathlib import Path
from mote.datasets.lists.manifest import Record
from mote.datasets.lists.verify import verify
def check(path):
    if path.name == "last":
        print("ready", flush=True)
    time.sleep(600)
verify([Record(Path(name), 0) for name in ("a", "b", "last", "d", "e")], 3, timeout=600.0, check=check)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: the decoders leave it to their parent
        assert process.wait(30) == -signal.SIGINT
    with pytest.raises(ProcessLookupError):  # nobody is left of the group
        os.killpg(process.pid, 0)


def test_no_files_no_processes():
    assert verify([], workers=4) == Report(0, [])


@pytest.mark.parametrize(("workers", "timeout"), [(0, 1.0), (1, 0.0)])
def test_nonsense_is_refused(workers, timeout):
    with pytest.raises(ValueError, match="workers >= 1 and timeout > 0"):
        verify([], workers, timeout=timeout)


def test_the_list_of_unreadable_files(tmp_path):
    path = tmp_path / "new folder" / "unreadable.txt"
    found = [Unreadable(Path("/v/a b.mp4"), "cut off"), Unreadable(Path("/v/c.avi"), "empty")]
    write_unreadable(path, Report(5, found))
    assert path.read_text() == "/v/a b.mp4\tcut off\n/v/c.avi\tempty\n"
    write_unreadable(path, Report(5, []))
    assert path.read_text() == ""
    assert [file.name for file in path.parent.iterdir()] == ["unreadable.txt"]


def test_real_files(real_data):
    files = sorted(path for path in (real_data / "odd_videos").iterdir() if path.suffix in {".mp4", ".mov", ".mkv"})
    files = [path for path in files if path.stat().st_size < 100_000]
    report = verify(records(*files), workers=1, progress=False)
    assert report.num_files == len(files) > 3
    assert [path.name for path, _ in report.unreadable] == ["decord_corrupted.mp4"]

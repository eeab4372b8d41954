"""Calls that hang, crash, raise, or lose their process to the system."""

import faulthandler
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from video_files import numbered_frames, write_video

from mote.datasets import video
from mote.datasets.cache.file_hashes import FileHashes
from mote.datasets.decoding import bounded
from mote.datasets.decoding.bounded import Bounded, CallAbandoned, KilledError
from mote.datasets.decoding.errors import DecodeError
from mote.datasets.lists.manifest import Record
from mote.datasets.loader import EpochSampler, make_loader
from mote.datasets.video import VideoDataset


def act(what: str) -> tuple[str, int]:
    """Do what is asked; the process is part of the answer."""
    if what == "hang":
        time.sleep(600)
    elif what == "hang without end":  # signals but SIGKILL are no help against it
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(600)
    elif what == "crash":
        faulthandler.disable()  # pytest's, which would print where
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "raise":
        raise DecodeError("/v/a.mp4", "pyav", "cut off")
    elif what == "unpicklable":
        raise ValueError(lambda: 0)
    return what, os.getpid()


def test_one_process_answers_until_it_is_lost():
    bounded = Bounded(act, 30.0)
    first, server = bounded("a")
    assert first == "a" and server != os.getpid() and bounded("b") == ("b", server)
    with pytest.raises(DecodeError, match=r"/v/a\.mp4: cannot be decoded by pyav: cut off"):
        bounded("raise")
    assert bounded("c") == ("c", server)
    with pytest.raises(CallAbandoned, match=r"the decoder crashed \(exit code -11\)"):
        bounded("crash")
    assert bounded("d")[1] not in (server, os.getpid())
    with pytest.raises(CallAbandoned, match="crashed"):
        bounded("unpicklable")
    with pytest.raises(KilledError, match="killed by the system"):
        bounded("killed")
    assert bounded("e")[0] == "e"


@pytest.mark.parametrize("what", ["hang", "hang without end"])
def test_a_hanging_call_is_given_up_and_its_process_is_gone(what):
    bounded = Bounded(act, 0.2)
    server = bounded("a")[1]
    start = time.monotonic()
    with pytest.raises(CallAbandoned, match=r"not decoded within 0\.2 s"):
        bounded(what)
    assert time.monotonic() - start < 10  # not 600
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
    bounded.timeout = 30.0
    assert bounded("b")[0] == "b"


def test_it_ends_with_its_owner_and_travels_without_its_process():
    bounded = Bounded(act, 30.0)
    server = bounded("a")[1]
    twin = pickle.loads(pickle.dumps(bounded))
    assert twin("a")[1] not in (server, os.getpid())
    child = os.fork()  # as a worker that is forked after this process has decoded a video
    if child == 0:
        os._exit(0 if bounded("a")[1] not in (server, os.getpid()) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bounded("a")[1] == server  # untouched by the other process
    del bounded
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).integers(0, 256, shape, dtype=np.uint8)


def test_arrays_come_back_whole_and_are_not_overwritten_by_later_ones(monkeypatch):
    monkeypatch.setattr(bounded, "ROOM", 4096)
    call = bounded.Bounded(array, 30.0)
    shapes = [(3, 5), (0, 2), (64, 64), (70, 64), (2, 2)]  # the fourth has no room and goes through the pipe
    results = [call(*shape) for shape in shapes]
    assert all(np.array_equal(ours, array(*shape)) for ours, shape in zip(results, shapes, strict=True))
    assert all(ours.shape == shape and ours.flags.writeable for ours, shape in zip(results, shapes, strict=True))


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        Bounded(act, 0.0)


def looping(read):
    """`read_frames` whose decoder never returns on files that are called so."""

    def read_or_loop(path, *arguments, **options):
        while Path(path).stem == "loop":
            time.sleep(1)
        return read(path, *arguments, **options)

    return read_or_loop


@pytest.mark.parametrize("workers", [0, 1])
def test_files_that_hang_the_decoder_are_marked_and_tried_once(tmp_path, monkeypatch, workers):
    """A named pipe without a writer, and a decoder that loops; the other files are what they are without a bound."""
    write_video(tmp_path / "a.mp4", numbered_frames(9))
    write_video(tmp_path / "loop.mp4", numbered_frames(9))
    os.mkfifo(tmp_path / "pipe.mp4")
    records = [Record(tmp_path / f"{name}.mp4", 0) for name in ("a", "loop", "pipe", "a")]
    sizes = {"num_frames": 2, "size": 16, "train": True, "on_error": "mark"}
    plain = VideoDataset(records, **sizes)
    expected = [plain[(1, index)]["frames"] for index in (0, 3)]
    monkeypatch.setattr(video, "read_frames", looping(video.read_frames))
    patient = VideoDataset(records, **sizes, timeout=0.5)
    sampler = EpochSampler(4, shuffle=False)
    sampler.set_epoch(1)
    loader = make_loader(patient, 4, sampler=sampler, workers=workers, drop_last=False)
    start = time.monotonic()
    for _ in range(8):
        (batch,) = list(loader)
    assert time.monotonic() - start < 4.0  # eight times 0.5 s otherwise
    assert batch["valid"].tolist() == [True, False, False, True]
    assert np.array_equal(batch["frames"][[0, 3]].numpy(), np.stack([frames.numpy() for frames in expected]))
    with pytest.raises(OSError, match="it is not a file"):  # what the cache of features would do first
        FileHashes(tmp_path / "hashes")(tmp_path / "pipe.mp4")
    causes = [cause.removeprefix(f"{tmp_path}/") for cause in batch["cause"]]
    assert causes == ["", "loop.mp4\tnot decoded within 0.5 s", "pipe.mp4\tit is not a file", ""]

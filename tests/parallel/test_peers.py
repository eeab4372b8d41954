"""What processes know of one another: a store in this process, and small processes in the places of the others."""

import os
import socket
import subprocess
import time
from datetime import timedelta

import pytest
import torch.distributed as dist

from mote.parallel.peers import FAILED, LEFT, PeerDiedError, Peers

LOST = RuntimeError("[pair.cc:538] Gloo: Connection closed by peer [127.0.0.1]:4711")


@pytest.fixture
def other():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def peers(other):
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=5))
    return Peers(store, 0, [(socket.gethostname(), os.getpid()), (socket.gethostname(), other.pid)])


def test_a_killed_process_is_named_whether_its_exit_was_asked_for_or_not(peers, other):
    other.kill()
    deadline = time.monotonic() + 10
    while not (reason := peers.reason(KeyboardInterrupt())) and time.monotonic() < deadline:  # the launcher's SIGTERM
        time.sleep(0.01)
    for _ in range(2):
        reason = peers.reason(LOST)
        assert isinstance(reason, PeerDiedError) and not reason.is_told
        assert str(reason).startswith("process 1 (from 0) of 2 died") and "\n" not in str(reason)
        other.wait()  # then it is no zombie any more


def test_an_orderly_end_and_an_error_that_was_said_are_no_death(peers, other):
    peers.announce(f"{LEFT} 1")
    other.kill()
    assert peers.reason(LOST) == "left" and peers.reason(KeyboardInterrupt()) is None
    peers.announce(f"{FAILED} 1")
    reason = peers.reason(LOST)
    assert isinstance(reason, PeerDiedError) and reason.is_told


def test_errors_that_have_nothing_to_do_with_others_stay_what_they_are(peers):
    for error in (ValueError("connection closed"), RuntimeError("shapes differ"), KeyboardInterrupt()):
        assert peers.reason(error) is None
    lost = peers.reason(LOST)
    assert isinstance(lost, PeerDiedError) and "the connection to another of 2 processes is lost" in str(lost)


def test_the_first_process_waits_for_those_that_still_run(peers, other):
    start = time.monotonic()
    peers.announce(f"{LEFT} 1")
    peers.leave()
    assert time.monotonic() - start < 5 and peers.heard(f"{LEFT} 0")

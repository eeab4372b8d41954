"""Signals to this process: noted or at once, once or twice, and handed on."""

import os
import signal
import sys
import threading
import time

import pytest

from mote.training.signals import SAME, TOLD, Stop, Stopped


class Others:
    """Stands for `Peers`: words that were said."""

    def __init__(self):
        self.words = set()

    def announce(self, word):
        self.words.add(word)

    def heard(self, word):
        return word in self.words


def wait_until(true) -> None:
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def test_at_once_in_the_start_up_and_noted_while_steps_are_made():
    before = signal.getsignal(signal.SIGTERM)
    stop = Stop(at_once=True)
    with pytest.raises(Stopped, match=r"^stopped by SIGTERM at the start$"), stop.listening():
        os.kill(os.getpid(), signal.SIGTERM)
    stop = Stop(at_once=True)
    with stop.listening(), stop.noting():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked and stop.waited < 10
        os.kill(os.getpid(), signal.SIGINT)  # the same one, sent to the group and to its parts
        with pytest.raises(Stopped, match=r"^stopped by SIGINT after step 7$"), stop.immediately(7):
            raise AssertionError("not reached")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_comes_while_an_object_is_destroyed_is_not_lost_and_prints_nothing(capsys):
    """Python cannot hand on what is raised there: it would print a traceback and go on."""

    class Dying:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    before, stop, dying = sys.unraisablehook, Stop(at_once=True), [Dying()]
    with pytest.raises(Stopped, match=r"^stopped by SIGTERM at the start$"), stop.listening():
        dying.clear()
        time.sleep(5)
    assert sys.unraisablehook is before and capsys.readouterr().err == ""


def test_a_second_signal_acts_as_if_nothing_listened():
    stop, before = Stop(), signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
    try:
        with stop.listening(), pytest.raises(KeyboardInterrupt) as error:
            os.kill(os.getpid(), signal.SIGINT)
            stop.since -= SAME
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not isinstance(error.value, Stopped)


def test_a_signal_is_handed_on_and_one_that_came_elsewhere_is_heard():
    others, here, there = Others(), Stop(), Stop()
    with here.listening(), here.together(others):
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(lambda: others.words == {"stop"})
    before = signal.getsignal(TOLD)
    with there.listening(), there.together(others):
        wait_until(lambda: there.asked)
        said = r"^stopped with another process that was asked to after step 3$"
        with pytest.raises(Stopped, match=said), there.immediately(3):
            raise AssertionError("not reached")
    assert signal.getsignal(TOLD) is before


def test_another_thread_and_an_inner_part_leave_the_signals_as_they_are():
    before, stop, found = signal.getsignal(signal.SIGTERM), Stop(), []

    def listen():
        with stop.listening():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [before]
    with stop.listening():
        outer = signal.getsignal(signal.SIGTERM)
        with stop.listening():
            assert signal.getsignal(signal.SIGTERM) == outer != before
        assert signal.getsignal(signal.SIGTERM) == outer
    assert signal.getsignal(signal.SIGTERM) is before

"""Ctrl-C and SIGTERM noted: looked at where it suits, at once when asked twice, and left as it was found."""

import os
import signal
import threading
import time

import pytest

from grasp_nodes import interrupts
from grasp_nodes.interrupts import interrupts_noted

SIGNALS = [signal.SIGINT, signal.SIGTERM]


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_wish_inside_and_what_it_was_outside(number):
    before = signal.getsignal(number)
    with interrupts_noted() as asked_to_stop:
        assert not asked_to_stop()
        send(number)
        assert asked_to_stop()
    assert signal.getsignal(number) is before
    with interrupts_noted() as asked_to_stop:
        assert not asked_to_stop()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
def test_where_they_are_urgent_a_second_wish_raises_and_each_one_after(first, second):
    raised = 0
    with interrupts_noted() as asked_to_stop:
        asked_to_stop.are_urgent = True
        for number in (first, second, second):
            time.sleep(0.01)
            try:
                send(number)
            except KeyboardInterrupt:
                raised += 1
        assert raised == 2
        asked_to_stop.are_urgent = False
        time.sleep(0.01)
        send(second)


@pytest.mark.usefixtures("impatient")
def test_elsewhere_a_second_wish_is_as_good_as_the_first():
    with interrupts_noted() as asked_to_stop:
        for number in SIGNALS * 2:
            send(number)
            time.sleep(0.002)
        assert asked_to_stop()


def test_what_a_terminal_and_a_launcher_send_together_is_one_wish(monkeypatch):
    monkeypatch.setattr(interrupts, "_ONE_WISH_S", 60.0)  # this machine may be slow
    with interrupts_noted() as asked_to_stop:
        asked_to_stop.are_urgent = True
        for number in SIGNALS * 2:
            send(number)
        assert asked_to_stop()


def test_a_block_within_a_block_has_what_the_outer_has():
    seen = []

    def look():
        with interrupts_noted() as asked_to_stop:
            seen.append(asked_to_stop())

    with interrupts_noted() as outer:
        handler = signal.getsignal(signal.SIGINT)
        send(signal.SIGINT)
        look()
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGINT) == handler
        assert outer()
    assert seen == [True, True]


def test_other_threads_do_not_listen():
    before, answers = signal.getsignal(signal.SIGINT), []

    def ask():
        with interrupts_noted() as asked_to_stop:
            answers.append((asked_to_stop(), signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert answers == [(False, True)]

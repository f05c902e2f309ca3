"""Ctrl-C and SIGTERM noted: asked for where it suits, at once when asked twice, and left as it was found."""

import os
import signal
import threading

import pytest

from grasp_nodes.interrupts import interrupts_noted


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_wish_inside_and_what_it_was_outside(number):
    before = signal.getsignal(number)
    with interrupts_noted() as asked_to_stop:
        assert not asked_to_stop()
        send(number)
        assert asked_to_stop()
    assert signal.getsignal(number) is before
    with interrupts_noted() as asked_to_stop:
        assert not asked_to_stop()


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_only_a_second_ctrl_c_does_not_wait(first):
    went_on = False
    with pytest.raises(KeyboardInterrupt), interrupts_noted():  # noqa: PT012 - what comes before must not raise
        send(first)
        send(signal.SIGTERM)
        went_on = True
        send(signal.SIGINT)
    assert went_on


def test_a_block_within_a_block_sees_what_the_outer_saw():
    with interrupts_noted() as outer:
        handler = signal.getsignal(signal.SIGINT)
        send(signal.SIGINT)
        with interrupts_noted() as inner:
            assert inner()
        assert signal.getsignal(signal.SIGINT) is handler
        assert outer()


def test_other_threads_do_not_listen():
    before, answers = signal.getsignal(signal.SIGINT), []

    def ask():
        with interrupts_noted() as asked_to_stop:
            answers.append((asked_to_stop(), signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert answers == [(False, True)]

"""The worker: order, newest wins, calls, failure, end."""

import threading

import pytest

from grasp_nodes.nodes.worker import InferenceWorker


class Recorder:
    def __init__(self, queue_size=1, prepare=lambda: None):
        self.done, self.failures = [], []
        self.busy, self.go = threading.Event(), threading.Event()
        self.worker = InferenceWorker("test", prepare, self.work, self.failures.append, queue_size)

    def work(self, item):
        self.busy.set()
        assert self.go.wait(5)
        self.done.append(item)


@pytest.mark.parametrize(
    ("queue_size", "pushed_out", "done"), [(1, [None, 1, 2], [0, 3]), (2, [None, None, 1], [0, 2, 3])]
)
def test_newest_wins(queue_size, pushed_out, done):
    recorder = Recorder(queue_size)
    recorder.worker.start()
    recorder.worker.submit(0)
    assert recorder.busy.wait(5)
    assert [recorder.worker.submit(item) for item in (1, 2, 3)] == pushed_out
    finished = threading.Event()
    recorder.go.set()
    while len(recorder.done) < len(done):
        finished.wait(0.01)
    assert recorder.done == done
    assert recorder.worker.stop()


def test_calls_keep_their_place_and_are_never_pushed_out():
    recorder = Recorder(1)
    recorder.worker.start()
    recorder.worker.submit(0)
    assert recorder.busy.wait(5)
    recorder.worker.submit(1)
    called = threading.Event()
    for name in ("a", "b"):
        recorder.worker.call(lambda name=name: recorder.done.append(name))
    recorder.worker.call(called.set)
    recorder.go.set()
    assert called.wait(5)
    while len(recorder.done) < 4:
        called.wait(0.01)
    assert recorder.done == [0, 1, "a", "b"]
    assert recorder.worker.stop()


def test_failure_to_prepare_is_told():
    error = ValueError("no model")

    def prepare():
        raise error

    recorder = Recorder(prepare=prepare)
    recorder.worker.start()
    assert recorder.worker.stop(5)
    assert recorder.failures == [error]
    assert not recorder.worker.ready

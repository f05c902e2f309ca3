"""The one thread on which a node does its heavy work, so that its callbacks stay short."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class InferenceWorker(Generic[T]):
    """Calls `prepare` once, then `work` for each submitted item.

    Args:
        prepare: loads what is needed; runs on the worker's thread.
        work: handles one item; must not raise.
        on_failure: told of the exception when `prepare` fails; the worker then ends.
        queue_size: items that wait; a new item pushes out the oldest (newest wins).
    """

    def __init__(
        self,
        name: str,
        prepare: Callable[[], None],
        work: Callable[[T], None],
        on_failure: Callable[[Exception], None],
        queue_size: int = 1,
    ) -> None:
        self._prepare, self._work, self._on_failure = prepare, work, on_failure
        self._jobs: deque[tuple[Callable[..., None], tuple[T, ...]]] = deque()
        self._queue_size = queue_size
        self._changed = threading.Condition()
        self._stopping = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def ready(self) -> bool:
        """Whether `prepare` is done."""
        return self._ready.is_set()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, item: T) -> T | None:
        """Queue an item; returns the item that it pushed out, if any."""
        with self._changed:
            waiting = [place for place, (_, items) in enumerate(self._jobs) if items]
            pushed_out = None
            if len(waiting) >= self._queue_size:
                pushed_out = self._jobs[waiting[0]][1][0]
                del self._jobs[waiting[0]]
            self._jobs.append((self._work, (item,)))
            self._changed.notify()
        return pushed_out

    def call(self, function: Callable[[], None]) -> None:
        """Run a function on the worker's thread after what waits already; it is never pushed out. It must not raise."""
        with self._changed:
            self._jobs.append((function, ()))
            self._changed.notify()

    def stop(self, timeout_s: float = 1.0) -> bool:
        """End after the item at hand; returns whether it did so in time."""
        with self._changed:
            self._stopping = True
            self._jobs.clear()
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._prepare()
        except Exception as error:  # noqa: BLE001 - whatever a model file or library raises ends the node with a message
            self._on_failure(error)
            return
        self._ready.set()
        while True:
            with self._changed:
                while not self._jobs and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                function, arguments = self._jobs.popleft()
            function(*arguments)

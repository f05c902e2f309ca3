"""Executors: one thread waits for everything that a set of nodes listens to, and runs the callbacks.

A wait ends after a quarter of a second at most, because Python's signal handlers run only between the calls into
Cyclone; the loop costs nothing measurable while nothing happens.
"""

from __future__ import annotations

import inspect
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from grasp_nodes.embedded import dds
from grasp_nodes.embedded.context import Context, default_context
from grasp_nodes.embedded.errors import (
    ExternalShutdownException,
    NotSupportedByEmbeddedRuntime,
    ShutdownException,
)

if TYPE_CHECKING:
    from grasp_nodes.embedded.endpoints import Timer
    from grasp_nodes.embedded.node import Node

_LONGEST_WAIT_S = 0.25


class CallbackGroup:
    """Says which callbacks a multi-threaded executor may run at the same time."""

    is_exclusive = True

    def __init__(self) -> None:
        self.running = 0


class MutuallyExclusiveCallbackGroup(CallbackGroup):
    """One callback of the group at a time."""


class ReentrantCallbackGroup(CallbackGroup):
    """Any number of callbacks of the group at a time."""

    is_exclusive = False


class Waitable(Protocol):
    """Something that a wait set can wait for."""

    condition: int
    """DDS handle of the condition."""
    callback_group: CallbackGroup

    def take(self) -> Callable[[], object] | None:
        """Consume what is there and return the work to do, or None."""


class Future:
    """The result of work that ends later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = self._cancelled = False
        self._result: Any = None
        self._exception: BaseException | None = None
        self._callbacks: list[Callable[[Future], object]] = []

    def done(self) -> bool:
        """Has it ended (with a result, an exception or a cancellation)?"""
        return self._done

    def cancelled(self) -> bool:
        """Was it cancelled?"""
        return self._cancelled

    def result(self) -> Any:
        """The result, None before it is there; raises the exception if there was one."""
        if self._exception is not None:
            raise self._exception
        return self._result

    def exception(self) -> BaseException | None:
        """The exception, if there was one."""
        return self._exception

    def set_result(self, result: Any) -> None:
        """End with a result."""
        self._result = result
        self._finish()

    def set_exception(self, exception: BaseException) -> None:
        """End with an exception."""
        self._exception = exception
        self._finish()

    def cancel(self) -> None:
        """End without a result."""
        if not self._done:
            self._cancelled = True
            self._finish()

    def _finish(self) -> None:
        with self._lock:
            self._done = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def add_done_callback(self, callback: Callable[[Future], object]) -> None:
        """Call back at the end, at once if it has ended."""
        with self._lock:
            if not self._done:
                self._callbacks.append(callback)
                return
        callback(self)

    def __await__(self) -> Any:
        raise NotSupportedByEmbeddedRuntime("await", "use add_done_callback, or spin_until_future_complete")


def check_callback(callback: Callable[..., object]) -> Callable[..., object]:
    """The callback, refused if it is a coroutine function."""
    if not callable(callback):
        raise TypeError(f"a callback must be callable, not {callback!r}")
    if inspect.iscoroutinefunction(callback):
        raise NotSupportedByEmbeddedRuntime(f"the coroutine callback {callback.__qualname__}", "use a plain function")
    return callback


class Executor:
    """Base of the executors; runs callbacks in the thread that spins."""

    def __init__(self, *, context: Context | None = None) -> None:
        self.context = context or default_context
        self._nodes: list[Node] = []
        self._ready: deque[Waitable | Timer] = deque()
        self._attached: dict[int, tuple[Waitable, Any]] = {}
        self._next_key = 1
        self._is_shutdown = False
        self._changed = True
        self._tasks: deque[tuple[Future, Callable[[], Any]]] = deque()
        self._wait_set: dds.WaitSet | None = None
        self._guard: dds.Guard | None = None
        self._participant: dds.Participant | None = None

    def add_node(self, node: Node) -> bool:
        """Run a node's callbacks; False if it already is here."""
        if node in self._nodes:
            return False
        if node.executor is not None:
            node.executor.remove_node(node)
        self._nodes.append(node)
        node.executor = self
        self.context.add_executor(self)
        self.entities_changed()
        return True

    def remove_node(self, node: Node) -> None:
        """Stop running a node's callbacks."""
        if node in self._nodes:
            self._nodes.remove(node)
            node.executor = None
            self.entities_changed()

    def get_nodes(self) -> list[Node]:
        """The nodes."""
        return list(self._nodes)

    def create_task(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Future:
        """Run something in the executor soon; may be called from any thread."""
        check_callback(callback)
        future = Future()
        self._tasks.append((future, lambda: callback(*args, **kwargs)))
        self.wake()
        return future

    def wake(self) -> None:
        """End the current wait; may be called from any thread."""
        guard = self._guard
        if guard is not None:
            guard.set()

    def entities_changed(self) -> None:
        """Look again at what there is to wait for; may be called from any thread."""
        self._changed = True
        self.wake()

    def spin(self) -> None:
        """Run callbacks until shutdown."""
        while self.context.ok() and not self._is_shutdown:
            self.spin_once()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Run one callback, waiting at most that long [s] for it; None waits for ever.

        Raises:
            ExternalShutdownException: the context was shut down.
        """
        end = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        work = self._next_work(end, None)
        if work is not None:
            work()

    def spin_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        """Run callbacks until the future has ended or the time [s] is over."""
        end = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        future.add_done_callback(lambda _: self.wake())
        while self.context.ok() and not future.done() and not self._is_shutdown:
            work = self._next_work(end, future)
            if work is not None:
                work()
            elif end is not None and time.monotonic() >= end:
                return

    def shutdown(self, timeout_sec: float | None = None) -> bool:  # noqa: ARG002 - rclpy's signature
        """Stop spinning and let the nodes go."""
        self._is_shutdown = True
        self.wake()
        for node in list(self._nodes):
            self.remove_node(node)
        self.close_handles()
        return True

    def close_handles(self) -> None:
        """Give back the DDS entities; the next spin makes new ones."""
        guard, wait_set, self._guard, self._wait_set = self._guard, self._wait_set, None, None
        self._attached.clear()
        self._ready.clear()
        self._changed = True
        if guard is not None and wait_set is not None:
            wait_set.close()
            guard.close()

    def _next_work(self, end: float | None, future: Future | None) -> Callable[[], object] | None:
        """The next callback to run, or None when the time is over or the future has ended."""
        while True:
            self._check_running()
            if self._tasks:
                return self._task_work(*self._tasks.popleft())
            while self._ready:
                work = self._take(self._ready.popleft())
                if work is not None:
                    return work
            if future is not None and future.done():
                return None
            self._collect(end)
            if not self._ready and not self._tasks and end is not None and time.monotonic() >= end:
                self._check_running()
                return None

    def _check_running(self) -> None:
        if self._is_shutdown:
            raise ShutdownException("the executor was shut down")
        if not self.context.ok():
            raise ExternalShutdownException

    def _task_work(self, future: Future, task: Callable[[], Any]) -> Callable[[], object]:
        return lambda: future.set_result(task())

    def _take(self, item: Waitable | Timer) -> Callable[[], object] | None:
        return item.take()

    def _is_blocked(self, item: Waitable | Timer) -> bool:  # noqa: ARG002 - for the multi-threaded executor
        return False

    def _collect(self, end: float | None) -> None:
        """Wait for what is ready and queue it."""
        wait_set = self._synchronise()
        timers = [timer for node in self._nodes for timer in node.timers if not self._is_blocked(timer)]
        timeout = _LONGEST_WAIT_S if end is None else min(_LONGEST_WAIT_S, end - time.monotonic())
        timeout = min([timeout, *(timer.seconds_until_ready() for timer in timers)])
        keys = wait_set.wait(timeout)
        if 0 in keys and self._guard is not None:
            self._guard.take()
        self._ready.extend(timer for timer in timers if timer.seconds_until_ready() <= 0)
        self._ready.extend(self._attached[key][0] for key in keys if key in self._attached)

    def _synchronise(self) -> dds.WaitSet:
        """Attach what is new to the wait set and detach what is gone or blocked."""
        if self._wait_set is None or self._participant is not self.context.participant():
            self._participant = self.context.participant()
            self._wait_set, self._guard = dds.WaitSet(self._participant), dds.Guard(self._participant)
            self._wait_set.attach(self._guard.handle, 0)
        if self._changed:
            self._changed = False
            wanted = {item.condition: item for node in self._nodes for item in node.waitables}
            wanted = {handle: item for handle, item in wanted.items() if not self._is_blocked(item)}
            for key, (_, handle) in list(self._attached.items()):
                if handle in wanted:
                    del wanted[handle]
                else:
                    self._wait_set.detach(handle)
                    del self._attached[key]
            for handle, item in wanted.items():
                self._wait_set.attach(handle, self._next_key)
                self._attached[self._next_key] = (item, handle)
                self._next_key += 1
        return self._wait_set


class SingleThreadedExecutor(Executor):
    """Runs one callback at a time."""


class MultiThreadedExecutor(Executor):
    """Runs callbacks in a pool of threads, as their callback groups allow."""

    def __init__(self, num_threads: int | None = None, *, context: Context | None = None) -> None:
        super().__init__(context=context)
        self._pool = ThreadPoolExecutor(num_threads or max(2, os.cpu_count() or 2), "executor")
        self._group_lock = threading.Lock()
        self._failure: BaseException | None = None

    def _check_running(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        super()._check_running()

    def _is_blocked(self, item: Waitable | Timer) -> bool:
        return item.callback_group.is_exclusive and item.callback_group.running > 0

    def _take(self, item: Waitable | Timer) -> Callable[[], object] | None:
        if self._is_blocked(item):
            return None
        work = item.take()
        if work is None:
            return None
        group = item.callback_group
        with self._group_lock:
            group.running += 1
        if group.is_exclusive:
            self._changed = True
        return lambda: self._pool.submit(self._run, work, group)

    def _task_work(self, future: Future, task: Callable[[], Any]) -> Callable[[], object]:
        return lambda: self._pool.submit(self._run, super(MultiThreadedExecutor, self)._task_work(future, task), None)

    def _run(self, work: Callable[[], object], group: CallbackGroup | None) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that spins
            self._failure = error
        finally:
            if group is not None:
                with self._group_lock:
                    group.running -= 1
            self.entities_changed()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Stop spinning, and wait for the callbacks that still run."""
        self._pool.shutdown(wait=timeout_sec is None or timeout_sec > 0, cancel_futures=True)
        return super().shutdown(timeout_sec)

"""Ctrl-C and SIGTERM as a wish that is looked at where it suits.

Python raises KeyboardInterrupt wherever the main thread happens to be: in a half-written file, in a function that C
called (which reports an error of its own instead), in a finaliser or an extension's import (which swallow it).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_listening: list[threading.Event] = []
"""What the outermost block of this process has seen; empty outside of blocks."""


@contextmanager
def interrupts_noted() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM came since the block began; a second SIGINT raises KeyboardInterrupt at once.

    A block within a block sees what the outer one saw. Only the main thread can listen: elsewhere nothing comes.
    """
    if _listening:
        yield _listening[0].is_set
        return
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return

    def note(number: int, _frame: FrameType | None) -> None:
        if came.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.set()

    earlier = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    _listening.append(came)
    try:
        yield came.is_set
    finally:
        _listening.clear()
        for number, handler in earlier.items():
            signal.signal(number, handler)

"""Ctrl-C and SIGTERM as a wish that is looked at where it suits.

Python raises KeyboardInterrupt wherever the main thread happens to be: in a half-written file, in a function that C
called (which reports an error of its own instead), in a finaliser or an extension's import (which swallow it).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ONE_WISH_S = 0.5
"""s within which signals are one wish: a terminal sends Ctrl-C to all processes, and the one that started the others
passes it on, maybe as SIGTERM."""


class Interrupts:
    """What came since the block began; called, it says whether to stop.

    Attributes:
        are_urgent: whether a second wish, and each one after, raises KeyboardInterrupt. Who catches that ends it.
    """

    def __init__(self) -> None:
        self.are_urgent = False
        self._latest_s: float | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self._latest_s is not None

    def note(self, _number: int, _frame: FrameType | None) -> None:
        """Handler of the signals. It takes no lock: Python runs one handler inside another."""
        now = time.monotonic()
        if self._latest_s is None:
            self._latest_s = now
        elif self.are_urgent and now - self._latest_s > _ONE_WISH_S:
            self._latest_s = now
            raise KeyboardInterrupt


_outermost: Interrupts | None = None
"""Of this process's block; None outside of blocks."""


@contextmanager
def interrupts_noted() -> Iterator[Interrupts]:
    """SIGINT and SIGTERM are noted inside the block instead of ending the process.

    A block within a block, of whichever thread, has what the outer one has. Only the main thread hears signals: in an
    outermost block of another thread none comes, and they do what they did.
    """
    global _outermost
    outer = _outermost
    if outer is not None:
        yield outer
        return
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    # None stands for a handler that C installed, which Python cannot put back.
    earlier = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGTERM, signal.SIGINT)}
    for number in earlier:
        signal.signal(number, interrupts.note)
    _outermost = interrupts
    try:
        yield interrupts
    finally:
        _outermost = None
        # SIGINT last: its own handler may raise.
        for number, handler in earlier.items():
            signal.signal(number, handler)

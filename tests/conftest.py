"""What every test stands on."""

from __future__ import annotations

import signal


def pytest_sessionstart() -> None:
    """Let started processes hear Ctrl-C: a shell's background jobs ignore it, and so would all that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

"""What every test stands on."""

from __future__ import annotations

import os
import random
import signal

# Processes that test side by side must not hear each other: each has a domain of its own, which it does not take over
# from the process that started it. Tests that start a graph of their own take domains from 91 on.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
os.environ["ROS_DOMAIN_ID"] = str(1 + _worker % 10 + 10 * random.SystemRandom().randrange(9))


def pytest_sessionstart() -> None:
    """Let started processes hear Ctrl-C: a shell's background jobs ignore it, and so would all that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

"""Console logging in the format of rcl, with the throttling options of ``rclpy.logging``."""

from __future__ import annotations

import sys
import time
from enum import IntEnum
from typing import Any

_COLOURS = {"DEBUG": "\033[32m", "WARN": "\033[33m", "ERROR": "\033[31m", "FATAL": "\033[31m"}
_levels: dict[str, int] = {}
_last_times: dict[tuple[str, str, int], float] = {}


class LoggingSeverity(IntEnum):
    """Severities, as rcutils numbers them."""

    UNSET = 0
    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40
    FATAL = 50


def severity_from_name(name: str) -> LoggingSeverity:
    """The severity called that, in any case.

    Raises:
        ValueError: there is none.
    """
    try:
        return LoggingSeverity[name.upper()]
    except KeyError:
        choices = [severity.name.lower() for severity in LoggingSeverity]
        raise ValueError(f"unknown log level {name!r}; choose one of {choices}") from None


def set_logger_level(name: str, level: int) -> None:
    """Set the lowest severity that a logger (and those below it) prints; the empty name is every logger."""
    _levels[name] = int(level)


class Logger:
    """Prints messages under a dotted name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get_child(self, name: str) -> Logger:
        """The logger one level below."""
        return Logger(f"{self.name}.{name}")

    def set_level(self, level: int) -> None:
        """Set the lowest severity that is printed."""
        set_logger_level(self.name, level)

    def get_effective_level(self) -> LoggingSeverity:
        """The lowest severity that is printed, from this logger or the nearest one above it."""
        name = self.name
        while name:
            if _levels.get(name):
                return LoggingSeverity(_levels[name])
            name = name.rpartition(".")[0]
        return LoggingSeverity(_levels.get("", LoggingSeverity.INFO) or LoggingSeverity.INFO)

    def is_enabled_for(self, severity: int) -> bool:
        """Would a message of that severity be printed?"""
        return severity >= self.get_effective_level()

    def log(self, message: object, severity: int, **options: Any) -> bool:
        """Print a message.

        Args:
            message: what to say.
            severity: how bad it is.
            options: ``throttle_duration_sec`` [s], ``once``, ``skip_first``; they count per place in the code.

        Returns:
            Whether it was printed.
        """
        return self._log(message, LoggingSeverity(severity), options)

    def debug(self, message: object, **options: Any) -> bool:
        """Print at DEBUG; see :meth:`log`."""
        return self._log(message, LoggingSeverity.DEBUG, options)

    def info(self, message: object, **options: Any) -> bool:
        """Print at INFO; see :meth:`log`."""
        return self._log(message, LoggingSeverity.INFO, options)

    def warning(self, message: object, **options: Any) -> bool:
        """Print at WARN; see :meth:`log`."""
        return self._log(message, LoggingSeverity.WARN, options)

    warn = warning

    def error(self, message: object, **options: Any) -> bool:
        """Print at ERROR; see :meth:`log`."""
        return self._log(message, LoggingSeverity.ERROR, options)

    def fatal(self, message: object, **options: Any) -> bool:
        """Print at FATAL; see :meth:`log`."""
        return self._log(message, LoggingSeverity.FATAL, options)

    def _log(self, message: object, severity: LoggingSeverity, options: dict[str, Any]) -> bool:
        if not self.is_enabled_for(severity) or (options and not self._passes(**options)):
            return False
        line = f"[{severity.name}] [{time.time():.9f}] [{self.name}]: {message}"
        if sys.stderr.isatty() and severity.name in _COLOURS:
            line = f"{_COLOURS[severity.name]}{line}\033[0m"
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
        return True

    def _passes(
        self, *, throttle_duration_sec: float | None = None, once: bool = False, skip_first: bool = False
    ) -> bool:
        caller = sys._getframe(3)  # _passes <- _log <- info <- the place that logs
        place = (self.name, caller.f_code.co_filename, caller.f_lineno)
        last, now = _last_times.get(place), time.monotonic()
        if last is None and skip_first:
            _last_times[place] = float("-inf")
            return False
        if last is not None and (once or now - last < (throttle_duration_sec or 0)):
            return False
        _last_times[place] = now
        return True


def get_logger(name: str) -> Logger:
    """The logger of that name."""
    return Logger(name)

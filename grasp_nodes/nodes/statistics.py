"""What a node counts: rates, latency, drops by cause."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

WINDOW_S = 5.0


@dataclass
class Rate:
    """Events per second over the last few seconds, and when the last one was (monotonic clock, s)."""

    total: int = 0
    times: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def tick(self) -> None:
        """One event, now."""
        self.total += 1
        self.times.append(time.monotonic())

    def hertz(self) -> float:
        """Rate over the window."""
        start = time.monotonic() - WINDOW_S
        recent = [moment for moment in tuple(self.times) if moment >= start]
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 and recent[-1] > recent[0] else 0.0

    def age(self) -> float | None:
        """Seconds since the last event."""
        return time.monotonic() - self.times[-1] if self.times else None


class Statistics:
    """Counts of one node; may be written from any thread."""

    def __init__(self) -> None:
        self.inputs: dict[str, Rate] = {}
        self.outputs: dict[str, Rate] = {}
        self.drops: Counter[str] = Counter()
        self.latencies: deque[float] = deque(maxlen=200)
        self._lock = threading.Lock()

    def received(self, topic: str) -> None:
        """One message came in."""
        with self._lock:
            self.inputs.setdefault(topic, Rate()).tick()

    def published(self, topic: str) -> None:
        """One message went out."""
        with self._lock:
            self.outputs.setdefault(topic, Rate()).tick()

    def dropped(self, cause: str) -> int:
        """One message or frame was dropped; returns how often that has happened."""
        with self._lock:
            self.drops[cause] += 1
            return self.drops[cause]

    def latency(self, seconds: float) -> None:
        """Time from a message's arrival to its answer."""
        with self._lock:
            self.latencies.append(seconds)

    def values(self) -> dict[str, str]:
        """Everything as texts, for /diagnostics."""
        with self._lock:
            values = {}
            for direction, rates in (("in", self.inputs), ("out", self.outputs)):
                for topic, rate in rates.items():
                    values[f"{direction} {topic} hz"] = f"{rate.hertz():.2f}"
                    values[f"{direction} {topic} total"] = str(rate.total)
            ages = {topic: rate.age() for topic, rate in self.inputs.items()}
            for topic, age in ages.items():
                if age is not None:
                    values[f"in {topic} age s"] = f"{age:.2f}"
            if self.latencies:
                ordered = sorted(self.latencies)
                values["latency p50 ms"] = f"{1e3 * ordered[len(ordered) // 2]:.1f}"
                values["latency max ms"] = f"{1e3 * ordered[-1]:.1f}"
            for cause, count in sorted(self.drops.items()):
                values[f"dropped {cause}"] = str(count)
        return values

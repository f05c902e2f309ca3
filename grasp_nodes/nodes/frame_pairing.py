"""Puts messages of several topics together by their stamps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

KEPT = 64
"""Messages per topic that wait: two seconds of a camera at 30 Hz, for answers that take as long."""


class StampPairing:
    """Matches each message of the leading topic with the nearest one of every other wanted topic.

    When a recording starts again, topics jump back one after the other. What a topic sends after its own jump waits
    apart until the leader jumps too, so that the old frames are still completed and no new one is lost.

    Args:
        leader: topic that is answered, for instance the colour image.
        slop: ns by which stamps may differ.
        on_dropped: called with a cause for each message that found no partner.
    """

    def __init__(self, leader: str, slop: int, on_dropped: Callable[[str], object]) -> None:
        self._leader = leader
        self._slop = slop
        self._on_dropped = on_dropped
        self.reset()

    def reset(self) -> None:
        """Forget what waits and which stamps were answered."""
        self._waiting: dict[str, dict[int, Any]] = {self._leader: {}}
        self._ahead: dict[str, dict[int, Any]] = {}
        self._last_stamps: dict[str, int] = {}
        self._last_paired = -1

    def rewind(self, stamp: int) -> None:
        """The leader's stamps start again at `stamp` (ns): forget what belongs to what was before."""
        for topic in self._waiting:
            before = self._waiting[topic]
            after = self._ahead.pop(topic, None)
            if after is None:
                after = {other: message for other, message in before.items() if other <= stamp + self._slop}
            self._waiting[topic] = after
            if topic == self._leader:
                for _ in before.keys() - after.keys():
                    self._on_dropped(f"unpaired {topic}")
        self._last_paired = -1

    def waiting(self, topic: str) -> int:
        """Messages of a topic that wait for partners."""
        return len(self._waiting.get(topic, {}))

    def add(self, topic: str, stamp: int, message: Any) -> None:
        """Keep a message until its partners are there."""
        messages = self._waiting.setdefault(topic, {})
        if topic == self._leader:
            if stamp <= self._last_paired:
                self._on_dropped(f"late {topic}")
                return
        else:
            if stamp < self._last_stamps.get(topic, stamp):
                self._ahead[topic] = {}
            self._last_stamps[topic] = stamp
            messages = self._ahead.get(topic, messages)
        messages[stamp] = message
        while len(messages) > KEPT:
            # The one that came first, not the one with the lowest stamp: a stamp from the future would stay for ever.
            messages.pop(next(iter(messages)))
            if topic == self._leader:
                self._on_dropped(f"unpaired {topic}")

    def take(self, wanted: Iterable[str]) -> list[dict[str, Any]]:
        """Complete groups in order of their stamps.

        Args:
            wanted: topics that must accompany the leader.

        Returns:
            One dict per group: topic to message, and "stamp" to the leader's stamp in ns.
        """
        wanted = tuple(wanted)
        groups = []
        for stamp in sorted(self._waiting[self._leader]):
            places = [self._find(topic, stamp) for topic in wanted]
            found = [place for place in places if place is not None]
            if len(found) < len(wanted):
                continue
            group: dict[str, Any] = {"stamp": stamp, self._leader: self._waiting[self._leader][stamp]}
            group |= {topic: messages.pop(other) for topic, (messages, other) in zip(wanted, found, strict=True)}
            groups.append(group)
            self._forget_until(stamp)
        return groups

    def _find(self, topic: str, stamp: int) -> tuple[dict[int, Any], int] | None:
        """Where the partner waits, and its stamp; one stray stamp must not keep later messages from being found."""
        for messages in (self._waiting.get(topic, {}), self._ahead.get(topic, {})):
            nearest = min(messages, key=lambda other: abs(other - stamp), default=None)
            if nearest is not None and abs(nearest - stamp) <= self._slop:
                return messages, nearest
        return None

    def _forget_until(self, stamp: int) -> None:
        """Drop everything up to a stamp that was answered."""
        self._last_paired = stamp
        for topic, messages in self._waiting.items():
            for old in [other for other in messages if other <= stamp]:
                messages.pop(old)
                if topic == self._leader and old < stamp:
                    self._on_dropped(f"unpaired {topic}")

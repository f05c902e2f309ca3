"""Puts messages of several topics together by their stamps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

KEPT = 32


class StampPairing:
    """Matches each message of the leading topic with the nearest one of every other wanted topic.

    Args:
        leader: topic that is answered, for instance the colour image.
        slop: ns by which stamps may differ.
        on_dropped: called with a cause for each message that found no partner.
    """

    def __init__(self, leader: str, slop: int, on_dropped: Callable[[str], object]) -> None:
        self._leader = leader
        self._slop = slop
        self._on_dropped = on_dropped
        self._waiting: dict[str, dict[int, Any]] = {leader: {}}
        self._last_paired = -1

    def reset(self) -> None:
        """Forget what waits and which stamps were answered."""
        for messages in self._waiting.values():
            messages.clear()
        self._last_paired = -1

    def rewind(self, stamp: int) -> None:
        """Stamps start again at `stamp` (ns): what is newer belongs to what was before."""
        for messages in self._waiting.values():
            for other in [other for other in messages if other > stamp + self._slop]:
                messages.pop(other)
        self._last_paired = -1

    def waiting(self, topic: str) -> int:
        """Messages of a topic that wait for partners."""
        return len(self._waiting.get(topic, {}))

    def add(self, topic: str, stamp: int, message: Any) -> None:
        """Keep a message until its partners are there."""
        messages = self._waiting.setdefault(topic, {})
        if topic == self._leader and stamp <= self._last_paired:
            self._on_dropped(f"late {topic}")
            return
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
            found = {topic: self._nearest(topic, stamp) for topic in wanted}
            partners = {topic: partner for topic, partner in found.items() if partner is not None}
            if len(partners) < len(found):
                continue
            group: dict[str, Any] = {"stamp": stamp, self._leader: self._waiting[self._leader][stamp]}
            for topic, partner in partners.items():
                group[topic] = self._waiting[topic][partner]
            groups.append(group)
            self._forget_until(stamp)
        return groups

    def _nearest(self, topic: str, stamp: int) -> int | None:
        candidates = self._waiting.get(topic, {})
        if stamp in candidates:
            return stamp
        nearest = min(candidates, key=lambda other: abs(other - stamp), default=None)
        return nearest if nearest is not None and abs(nearest - stamp) <= self._slop else None

    def _forget_until(self, stamp: int) -> None:
        """Drop everything up to a stamp that was answered; a partner is kept while it may serve the next leader."""
        self._last_paired = stamp
        for topic, messages in self._waiting.items():
            for old in [other for other in messages if other <= stamp]:
                messages.pop(old)
                if topic == self._leader and old < stamp:
                    self._on_dropped(f"unpaired {topic}")
